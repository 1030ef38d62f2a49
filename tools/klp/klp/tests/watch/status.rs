// SPDX-License-Identifier: GPL-2.0

use std::fs;

use super::{expect_failure, klp, output, stalled, stalled_on_rust_core, Tree};

const STALLED: &str = "\
Linux 7.3.4-test, built-in core
cmdline [enabled]
  for 60 seconds, number 1 in the stack, forced
  vmlinux: cmdline_proc_show
sleeper_fix [enabling...]
  for 6 seconds, number 2 in the stack, replaces all older patches
  sleeper: sleeper_wait
  transition: 37 of 40 tasks done, 3 left, for 6 seconds
";

#[test]
fn no_patches() {
    assert_eq!(
        output(&Tree::new(), &["status"]),
        "Linux 7.3.4-test, built-in core\nno patches\n"
    );
}

#[test]
fn no_live_patching() {
    let tree = Tree::new();
    fs::remove_dir(tree.path().join("sys/kernel/livepatch")).unwrap();
    let directory = tree.path().join("sys/kernel/livepatch");
    expect_failure(
        &tree,
        &["status"],
        &format!(
            "klp: this kernel has no live patching: there is no {}\n",
            directory.display()
        ),
    );
}

#[test]
fn transition_on_the_built_in_core() {
    assert_eq!(output(&stalled(), &["status"]), STALLED);
}

#[test]
fn who_holds_it_up_on_the_built_in_core() {
    let blockers = "    kernel thread 12 kworker/0:1: unknown reason
      kernel thread, cannot be signalled: waits for work, switches when it gets some
      worker_thread+0x1/0x2
    task 14 yes: running
      switches at its next system call, or interrupt in user space
    task 202 cat: sleeping in sleeper_wait
      will be signalled in 9 s, to leave and restart its system call
      sleeper_wait+0xa5/0x100 [sleeper]
      seq_read_iter+0x10c/0x440
";
    assert_eq!(
        output(&stalled(), &["status", "-v"]),
        format!("{STALLED}{blockers}")
    );
}

#[test]
fn who_holds_it_up_on_the_rust_core() {
    let tree = stalled_on_rust_core();
    let text = output(&tree, &["status", "--verbose"]);
    assert!(
        text.starts_with("Linux 7.3.4-test, Rust core 1.2\n"),
        "{text}"
    );
    let (_, blockers) = text.split_once("for 6 seconds\n    ").unwrap();
    assert_eq!(
        blockers,
        "kernel thread 0 swapper/1: running
      idle task of a processor: switches at its next turn of the idle loop
    kernel thread 12 kworker/0:1: unreliable stack
      kernel thread, cannot be signalled: waits for work, switches when it gets some
      worker_thread+0x1/0x2
    task 202 cat: sleeping in sleeper_wait
      will be signalled in 9 s, to leave and restart its system call
      sleeper_wait+0xa5/0x100 [sleeper]
      seq_read_iter+0x10c/0x440
"
    );
}

#[test]
fn long_transitions_get_advice() {
    let tree = stalled();
    tree.file(
        "dev/kmsg",
        "5,6,20000000,-;livepatch: 'sleeper_fix': starting patching transition\n",
    );
    let text = output(&tree, &["status", "-v"]);
    assert!(
        text.ends_with("it can be taken back (klp reverse) or, at the last, forced (klp force)\n"),
        "{text}"
    );
    assert!(!output(&tree, &["status"]).contains("klp reverse"));
}

#[test]
fn calls_that_jump() {
    let text = output(&stalled_on_rust_core(), &["status"]);
    assert!(
        text.contains("  for 60 seconds, number 1 in the stack, calls may jump, forced\n"),
        "{text}"
    );
    assert!(
        text.contains(", number 2 in the stack, replaces all older patches\n"),
        "{text}"
    );
}

#[test]
fn without_the_log_ages_are_left_out() {
    let tree = stalled();
    fs::remove_file(tree.path().join("dev/kmsg")).unwrap();
    let text = output(&tree, &["status"]);
    assert!(!text.contains("for "), "{text}");
    assert!(text.contains("  number 1 in the stack\n"), "{text}");
}

#[test]
fn several_functions_of_a_name_and_a_module_that_is_not_loaded() {
    let tree = Tree::new();
    tree.patch("fix", true, false, "driver", "probe");
    tree.directory("sys/kernel/livepatch/fix/driver/probe,2");
    tree.patch_file("fix", "driver/patched", "0\n");
    assert!(output(&tree, &["status"]).contains("  driver (not patched now): probe probe,2\n"));
}

#[test]
fn leftover_modules() {
    let tree = Tree::new();
    tree.module("one", "OEK", 0);
    tree.module("two", "OEK", 1);
    assert_eq!(
        output(&tree, &["status"]),
        "Linux 7.3.4-test, built-in core
no patches
one [not a patch any more]: can be unloaded (rmmod one)
two [not a patch any more]: 1 reference, stays for good if it was forced
"
    );
}

#[test]
fn patches_that_the_boot_guard_suspects() {
    let tree = Tree::new();
    tree.file("proc/sys/kernel/random/boot_id", "second\n");
    tree.file("var/lib/klp/7.3.4-test/fix.ko", "");
    tree.file(
        "var/lib/klp/.boot/7.3.4-test/fix",
        "first 1 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n",
    );
    tree.file("var/lib/klp/.boot/7.3.4-test/new", "second\n");
    assert_eq!(
        output(&tree, &["status"]),
        "Linux 7.3.4-test, built-in core
no patches
fix [skipped at boot]: the machine went down twice after loading it; klp load fix tries it again
"
    );
}

#[test]
fn damaged_files_are_named() {
    let tree = stalled();
    tree.patch_file("sleeper_fix", "blockers", "nobody\n");
    let run = klp(&tree, &["status", "-v"]);
    assert_eq!((run.status, run.output.as_str()), (Some(1), ""));
    assert!(run.message.starts_with("klp: "), "{}", run.message);
    assert!(
        run.message.contains("sleeper_fix/blockers: expected"),
        "{}",
        run.message
    );
    assert_eq!(run.message.lines().count(), 1);
}
