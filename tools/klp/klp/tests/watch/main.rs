// SPDX-License-Identifier: GPL-2.0

//! Runs the commands that watch patches, on trees with the sysfs and procfs of machines.

mod change;
mod check;
mod doctor;
#[path = "../../../convert/tests/module/mod.rs"]
mod file;
mod generated;
mod json;
mod metrics;
#[path = "../../../check/tests/sample/mod.rs"]
mod sample;
mod status;
#[path = "../../../live/tests/tree/mod.rs"]
mod tree;

use std::process::{Command, Output, Stdio};

use tree::{TaskFiles, Tree};

/// What the program did.
struct Run {
    status: Option<i32>,
    output: String,
    message: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code(),
            output: String::from_utf8(output.stdout).unwrap(),
            message: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

fn klp(tree: &Tree, arguments: &[&str]) -> Run {
    Command::new(env!("CARGO_BIN_EXE_klp"))
        .arg("--root")
        .arg(tree.path())
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
        .into()
}

/// What a command prints, which must succeed and have nothing to complain of.
fn output(tree: &Tree, arguments: &[&str]) -> String {
    let run = klp(tree, arguments);
    assert_eq!(
        (run.status, run.message.as_str()),
        (Some(0), ""),
        "{arguments:?}"
    );
    run.output
}

/// A command must fail with one line on standard error.
fn expect_failure(tree: &Tree, arguments: &[&str], message: &str) {
    let run = klp(tree, arguments);
    assert_eq!(
        (run.status, run.message.as_str()),
        (Some(1), message),
        "{arguments:?}"
    );
    assert_eq!(run.output, "");
}

const SLEEPER: TaskFiles = TaskFiles {
    pid: 202,
    tid: 202,
    comm: "cat",
    state: 'S',
    kthread: false,
    patch_state: 0,
    stack: "[<0>] sleeper_wait+0xa5/0x100 [sleeper]\n[<0>] seq_read_iter+0x10c/0x440\n",
};

/// A machine on the built-in core with a patch of the kernel, and one of a module that has been in
/// transition for 6 s, since a task sleeps in the function. 37 tasks have switched.
fn stalled() -> Tree {
    let tree = Tree::new();
    tree.patch("cmdline", true, false, "vmlinux", "cmdline_proc_show");
    tree.patch_file("cmdline", "stack_order", "1\n");
    tree.patch_file("cmdline", "replace", "0\n");
    tree.patch("sleeper_fix", true, true, "sleeper", "sleeper_wait");
    tree.patch_file("sleeper_fix", "stack_order", "2\n");
    tree.patch_file("sleeper_fix", "replace", "1\n");
    tree.file(
        "dev/kmsg",
        "5,1,40000000,-;livepatch: enabling patch 'cmdline'\n\
         5,2,40000000,-;livepatch: 'cmdline': starting patching transition\n\
         4,3,40500000,-;livepatch: forcing remaining tasks to the patched state\n\
         5,4,41000000,-;livepatch: 'cmdline': patching complete\n\
         5,5,94000000,-;livepatch: enabling patch 'sleeper_fix'\n\
         5,6,94000000,-;livepatch: 'sleeper_fix': starting patching transition\n",
    );
    tree.task(SLEEPER);
    tree.task(TaskFiles {
        pid: 12,
        tid: 12,
        comm: "kworker/0:1",
        state: 'I',
        kthread: true,
        stack: "[<0>] worker_thread+0x1/0x2\n",
        ..SLEEPER
    });
    tree.task(TaskFiles {
        pid: 14,
        tid: 14,
        comm: "yes",
        state: 'R',
        stack: "",
        ..SLEEPER
    });
    tree.task(TaskFiles {
        pid: 1,
        tid: 1,
        comm: "init",
        patch_state: 1,
        ..SLEEPER
    });
    tree
}

/// The same with the Rust core in charge.
fn stalled_on_rust_core() -> Tree {
    let tree = stalled();
    tree.rust_core("1.2");
    tree.patch_file("cmdline", "direct", "1\n");
    tree.patch_file("sleeper_fix", "direct", "0\n");
    tree.patch_file("sleeper_fix", "remaining", "3\n");
    tree.patch_file(
        "sleeper_fix",
        "blockers",
        "0\tkthread\trunning\tswapper/1\n\
         12\tkthread\tunreliable stack\tkworker/0:1\n\
         202\tuser\tsleeping in sleeper_wait\tcat\n",
    );
    tree
}
