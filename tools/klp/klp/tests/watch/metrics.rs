// SPDX-License-Identifier: GPL-2.0

use std::{fs, os::unix::fs::PermissionsExt};

use super::{klp, output, stalled_on_rust_core, Tree};

#[test]
fn transition() {
    let tree = stalled_on_rust_core();
    // A version may contain anything.
    tree.rust_core("1.2 \"a\\b\"");
    tree.file("proc/sys/kernel/random/boot_id", "second\n");
    tree.file("var/lib/klp/7.3.4-test/fix.ko", "");
    tree.file(
        "var/lib/klp/.boot/7.3.4-test/fix",
        "first 1 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n",
    );
    let text = output(&tree, &["metrics"]);
    // Patches come in any order.
    let mut lines = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect::<Vec<_>>();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            r#"klp_core_info{core="rust",version="1.2 \"a\\b\"",kernel="7.3.4-test"} 1"#,
            "klp_leftover_modules 0",
            r#"klp_patch_enabled{patch="cmdline"} 1"#,
            r#"klp_patch_enabled{patch="sleeper_fix"} 1"#,
            r#"klp_patch_functions{patch="cmdline"} 1"#,
            r#"klp_patch_functions{patch="sleeper_fix"} 1"#,
            r#"klp_patch_in_transition{patch="cmdline"} 0"#,
            r#"klp_patch_in_transition{patch="sleeper_fix"} 1"#,
            "klp_patches 2",
            "klp_patches_skipped_at_boot 1",
            r#"klp_transition_seconds{patch="sleeper_fix"} 6"#,
            r#"klp_transition_tasks_remaining{patch="sleeper_fix"} 3"#,
        ]
    );
}

#[test]
fn form() {
    let text = output(&stalled_on_rust_core(), &["metrics"]);
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    // Each family is described before its values, and all are of a type that the older format has.
    let mut family = "";
    for line in text.trim_end_matches("# EOF\n").lines() {
        match line.split(' ').collect::<Vec<_>>().as_slice() {
            ["#", "HELP", name, ..] => family = name,
            ["#", "TYPE", name, kind] => assert_eq!((*name, *kind), (family, "gauge")),
            ["#", "UNIT", name, unit] => {
                assert_eq!(*name, family);
                assert!(name.ends_with(&format!("_{unit}")), "{line}");
            }
            _ => {
                let (name, _) = line.split_once(['{', ' ']).unwrap();
                assert_eq!(name, family);
                assert!(name.starts_with("klp_"), "{line}");
            }
        }
    }
}

#[test]
fn file_is_replaced_at_once() {
    let tree = Tree::new();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("klp.prom");
    fs::write(&file, "old").unwrap();
    assert_eq!(
        output(&tree, &["metrics", "--output", file.to_str().unwrap()]),
        ""
    );
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        output(&tree, &["metrics"])
    );
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o644
    );
    // Nothing else appeared.
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_kernel_without_live_patching_has_no_patches() {
    let tree = Tree::new();
    fs::remove_dir(tree.path().join("sys/kernel/livepatch")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("klp.prom");
    fs::write(&file, "old").unwrap();
    output(&tree, &["metrics", "--output", file.to_str().unwrap()]);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("\nklp_patches 0\n"), "{text}");
    assert!(text.contains("\nklp_patches_skipped_at_boot 0\n"), "{text}");
    assert!(!text.contains("klp_core_info{"), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[test]
fn a_file_that_cannot_be_written() {
    let run = klp(
        &Tree::new(),
        &["metrics", "--output", "/proc/none/klp.prom"],
    );
    assert_eq!(run.status, Some(1));
    assert!(
        run.message.starts_with("klp: /proc/none/klp.prom: "),
        "{}",
        run.message
    );
}
