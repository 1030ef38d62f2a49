// SPDX-License-Identifier: GPL-2.0

use std::fs;

use super::{expect_failure, klp, output, stalled, stalled_on_rust_core, Tree};

fn patch_file(tree: &Tree, file: &str) -> String {
    fs::read_to_string(tree.path().join("sys/kernel/livepatch").join(file)).unwrap()
}

#[test]
fn reverse_writes_the_opposite() {
    let tree = stalled();
    assert_eq!(
        output(&tree, &["reverse"]),
        "disabling patch module: sleeper_fix\n"
    );
    assert_eq!(patch_file(&tree, "sleeper_fix/enabled").trim(), "0");
    assert_eq!(
        output(&tree, &["reverse", "sleeper-fix.ko"]),
        "enabling patch module: sleeper_fix\n"
    );
    assert_eq!(patch_file(&tree, "sleeper_fix/enabled").trim(), "1");
    assert_eq!(patch_file(&tree, "cmdline/enabled").trim(), "1");
}

#[test]
fn only_the_patch_in_transition() {
    let tree = stalled();
    for command in ["reverse", "force"] {
        let expect = |name, message| expect_failure(&tree, &[command, name], message);
        expect("cmdline", "klp: cmdline is not in transition\n");
        expect("other", "klp: there is no patch other\n");
    }
    assert_eq!(patch_file(&tree, "sleeper_fix/enabled").trim(), "1");
    assert_eq!(patch_file(&tree, "sleeper_fix/force"), "");
    for command in ["reverse", "force"] {
        expect_failure(&Tree::new(), &[command], "klp: no transition is going on\n");
    }
}

#[test]
fn force_wants_to_be_sure() {
    let tree = stalled();
    expect_failure(
        &tree,
        &["force"],
        "klp: there is no terminal to ask on: use --yes if it is what you want\n",
    );
    assert_eq!(patch_file(&tree, "sleeper_fix/force"), "");
    assert_eq!(
        output(&tree, &["force", "--yes", "sleeper-fix.ko"]),
        "forced the transition of patch module: sleeper_fix\n"
    );
    assert_eq!(patch_file(&tree, "sleeper_fix/force"), "1");
}

#[test]
fn wait_does_not_wait_for_nothing() {
    let tree = Tree::new();
    assert_eq!(output(&tree, &["wait"]), "");
    assert_eq!(output(&tree, &["wait", "other"]), "");
    assert_eq!(output(&stalled(), &["wait", "cmdline"]), "");
}

#[test]
fn a_signal_that_was_ignored_stays_so() {
    let tree = stalled();
    let script = "trap '' HUP INT; (sleep 0.3; kill -HUP $$; kill -INT $$) & exec \"$@\"";
    let status = std::process::Command::new("sh")
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_klp"), "--root"])
        .arg(tree.path())
        .args(["wait", "--timeout", "1"])
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn wait_says_who_is_left() {
    let message = "klp: sleeper_fix is still in transition: task 12 kworker/0:1: unknown reason, \
                   and 2 more (klp status -v)\n";
    for arguments in [
        &["wait", "--timeout", "0.05"][..],
        &["wait", "sleeper-fix", "--timeout", "0"],
        &["wait", "./sleeper-fix.ko", "--timeout", "0"],
    ] {
        expect_failure(&stalled(), arguments, message);
    }
    let tree = stalled_on_rust_core();
    tree.patch_file("sleeper_fix", "blockers", "9\tuser\tnot tried\tcat\n");
    expect_failure(
        &tree,
        &["wait", "--timeout", "0"],
        "klp: sleeper_fix is still in transition: task 9 cat: not tried yet\n",
    );
}

#[test]
fn wrong_names_are_wrong_usage() {
    for command in ["wait", "reverse", "force"] {
        let run = klp(&Tree::new(), &[command, ".fix"]);
        assert_eq!(run.status, Some(2), "{command}");
    }
}

#[test]
fn wrong_times_are_wrong_usage() {
    let run = klp(&Tree::new(), &["wait", "--timeout", "-1"]);
    assert_eq!(run.status, Some(2));
    let run = klp(&Tree::new(), &["wait", "--timeout", "soon"]);
    assert_eq!(run.status, Some(2));
    assert!(
        run.message.contains("not a number of seconds"),
        "{}",
        run.message
    );
}

#[test]
fn top_ends_with_the_transition() {
    assert_eq!(
        output(&Tree::new(), &["top"]),
        "no transition is going on\n"
    );
    expect_failure(
        &Tree::new(),
        &["top", "--json"],
        "klp: klp top is for people: use klp status --json\n",
    );
}

#[test]
fn top_prints_lines_only_when_something_has_changed() {
    use std::{
        io::{BufRead, BufReader, Read},
        process::{Command, Stdio},
    };

    let tree = stalled_on_rust_core();
    let mut top = Command::new(env!("CARGO_BIN_EXE_klp"))
        .arg("--root")
        .arg(tree.path())
        .arg("top")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(top.stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert_eq!(
        line,
        "sleeper_fix [enabling...] 3 left: kernel thread 0 swapper/1: running\n"
    );
    // It looks at the files between the two writes or not; the result is the same.
    tree.patch_file(
        "sleeper_fix",
        "blockers",
        "0\tkthread\trunning\tswapper/1\n",
    );
    tree.patch_file("sleeper_fix", "transition", "0\n");
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "sleeper_fix: transition has ended\n");
    assert!(top.wait().unwrap().success());
}
