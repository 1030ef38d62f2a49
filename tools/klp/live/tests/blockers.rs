// SPDX-License-Identifier: GPL-2.0

//! Who holds a transition up, on both cores.

mod tree;

use klp_live::{Blocker, Error, Machine, Reason};
use tree::{TaskFiles, Tree};

const SLEEPER: TaskFiles = TaskFiles {
    pid: 200,
    tid: 202,
    comm: "cat) S (x",
    state: 'S',
    kthread: false,
    patch_state: 0,
    stack: "[<0>] sleeper_wait+0xa5/0x100 [sleeper]\n[<0>] seq_read_iter+0x10c/0x440\n",
};

fn blockers(tree: &Tree, patch: &str) -> Vec<Blocker> {
    let machine = Machine::with_root(tree.path());
    machine.blockers(&machine.patch(patch).unwrap()).unwrap()
}

fn reasons(tree: &Tree, patch: &str) -> Vec<(u32, String)> {
    blockers(tree, patch)
        .iter()
        .map(|blocker| (blocker.tid, blocker.reason.to_string()))
        .collect()
}

fn remaining(tree: &Tree, patch: &str) -> Option<u64> {
    let machine = Machine::with_root(tree.path());
    machine.remaining(&machine.patch(patch).unwrap()).unwrap()
}

#[test]
fn built_in_core_patching() {
    let tree = Tree::new();
    tree.patch("fix", true, true, "sleeper", "sleeper_wait");
    tree.patch("old", true, false, "vmlinux", "do_nap");
    tree.task(SLEEPER);
    // Has switched, and has no state.
    tree.task(TaskFiles {
        tid: 200,
        patch_state: 1,
        ..SLEEPER
    });
    tree.task(TaskFiles {
        pid: 1,
        tid: 1,
        patch_state: -1,
        ..SLEEPER
    });
    // A kernel thread in a function of the same name elsewhere, one in an older patch, one that
    // runs.
    tree.task(TaskFiles {
        pid: 12,
        tid: 12,
        comm: "kworker/0:1",
        kthread: true,
        stack: "[<0>] sleeper_wait+0x1/0x2\n",
        ..SLEEPER
    });
    tree.task(TaskFiles {
        pid: 13,
        tid: 13,
        stack: "[<0>] new_nap+0x1/0x2 [old]\n",
        ..SLEEPER
    });
    tree.task(TaskFiles {
        pid: 14,
        tid: 14,
        state: 'R',
        stack: "",
        ..SLEEPER
    });
    assert_eq!(
        reasons(&tree, "fix"),
        [
            (12, "unknown reason".into()),
            (13, "sleeping in new_nap".into()),
            (14, "running".into()),
            (202, "sleeping in sleeper_wait".into()),
        ]
    );
    assert_eq!(remaining(&tree, "fix"), Some(4));
    let all = blockers(&tree, "fix");
    assert_eq!(
        (all[0].kthread, all[0].comm.as_str()),
        (true, "kworker/0:1")
    );
    assert_eq!((all[3].kthread, all[3].comm.as_str()), (false, "cat) S (x"));
    // Of a patch without a transition.
    assert_eq!(blockers(&tree, "old"), []);
    assert_eq!(remaining(&tree, "old"), Some(0));
}

#[test]
fn built_in_core_unpatching() {
    let tree = Tree::new();
    tree.patch("fix", false, true, "sleeper", "sleeper_wait");
    // In the function that is patched, which is no obstacle, and not switched.
    tree.task(TaskFiles {
        patch_state: 1,
        ..SLEEPER
    });
    tree.task(TaskFiles {
        pid: 13,
        tid: 13,
        patch_state: 1,
        stack: "[<0>] msleep+0x1/0x2\n[<0>] wait_no_longer+0x1/0x2 [fix]\n",
        ..SLEEPER
    });
    tree.task(TaskFiles {
        pid: 14,
        tid: 14,
        patch_state: 0,
        ..SLEEPER
    });
    assert_eq!(
        reasons(&tree, "fix"),
        [
            (13, "sleeping in wait_no_longer".into()),
            (202, "unknown reason".into()),
        ]
    );
}

#[test]
fn rust_core_is_believed() {
    let tree = Tree::new();
    tree.rust_core("1.2");
    tree.patch("fix", true, true, "sleeper", "sleeper_wait");
    tree.patch_file("fix", "remaining", "2\n");
    tree.patch_file(
        "fix",
        "blockers",
        "0\tkthread\trunning\tswapper/1\n202\tuser\tnot tried\tcat\n",
    );
    tree.task(TaskFiles {
        pid: 14,
        tid: 14,
        ..SLEEPER
    });
    assert_eq!(remaining(&tree, "fix"), Some(2));
    assert_eq!(
        blockers(&tree, "fix"),
        [
            Blocker {
                tid: 0,
                comm: "swapper/1".into(),
                kthread: true,
                reason: Reason::Running
            },
            Blocker {
                tid: 202,
                comm: "cat".into(),
                kthread: false,
                reason: Reason::NotTried
            },
        ]
    );
}

#[test]
fn damaged_list_is_an_error() {
    let tree = Tree::new();
    tree.patch("fix", true, true, "sleeper", "sleeper_wait");
    tree.patch_file("fix", "blockers", "202 cat\n");
    let machine = Machine::with_root(tree.path());
    let error = machine
        .blockers(&machine.patch("fix").unwrap())
        .unwrap_err();
    assert!(matches!(error, Error::Unexpected { .. }), "{error}");
    assert!(
        error.to_string().contains("fix/blockers: expected"),
        "{error}"
    );
}

#[test]
fn damaged_task_is_an_error() {
    let tree = Tree::new();
    tree.file("proc/7/task/7/stat", "7 cat\n");
    let error = Machine::with_root(tree.path()).task(7).unwrap_err();
    assert!(
        error.to_string().contains("proc/7/task/7/stat: expected"),
        "{error}"
    );
    assert!(Machine::with_root(tree.path()).task(8).unwrap().is_none());
}
