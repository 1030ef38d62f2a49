// SPDX-License-Identifier: GPL-2.0

//! Everything about a machine at once.

mod tree;

use klp_live::{Core, Error, Machine, State, Status};
use tree::{TaskFiles, Tree};

fn status(tree: &Tree) -> Status {
    Machine::with_root(tree.path()).status().unwrap()
}

#[test]
fn no_live_patching() {
    let tree = Tree::new();
    std::fs::remove_dir(tree.path().join("sys/kernel/livepatch")).unwrap();
    let error = Machine::with_root(tree.path()).status().unwrap_err();
    assert!(matches!(error, Error::NoLivepatch(_)), "{error}");
}

#[test]
fn order_of_the_stack() {
    let tree = Tree::new();
    for (name, order) in [("a", 3), ("b", 1), ("c", 2)] {
        tree.patch(name, true, false, "vmlinux", "f");
        tree.patch_file(name, "stack_order", &format!("{order}\n"));
    }
    let status = status(&tree);
    let names = status
        .patches
        .iter()
        .map(|patch| patch.name.as_str())
        .collect::<Vec<_>>();
    assert_eq!(names, ["b", "c", "a"]);
    assert_eq!(status.core, Core::BuiltIn);
    assert!(status.in_transition().is_none());
}

#[test]
fn progress_and_times() {
    let tree = Tree::new();
    tree.patch("fix", false, true, "sleeper", "sleeper_wait");
    tree.file(
        "dev/kmsg",
        "5,1,40000000,-;livepatch: enabling patch 'fix'\n\
         5,2,40000000,-;livepatch: 'fix': starting patching transition\n\
         5,3,90000000,-;livepatch: 'fix': starting unpatching transition\n",
    );
    tree.task(TaskFiles {
        pid: 7,
        tid: 7,
        comm: "cat",
        state: 'S',
        kthread: false,
        patch_state: 1,
        stack: "",
    });
    let status = status(&tree);
    let patch = status.in_transition().unwrap();
    assert_eq!(patch.state, State::Disabling);
    assert_eq!(patch.age_seconds, Some(60));
    assert_eq!(patch.forced, Some(false));
    let transition = patch.transition.unwrap();
    assert_eq!(transition.seconds, Some(10));
    assert_eq!(transition.remaining, Some(1));
    assert_eq!(transition.tasks, Some(40));
    assert_eq!(transition.done(), Some(39));
}

#[test]
fn idle_tasks_do_not_make_progress_negative() {
    let tree = Tree::new();
    tree.rust_core("1.2");
    tree.patch("fix", true, true, "vmlinux", "f");
    tree.patch_file("fix", "remaining", "44\n");
    assert_eq!(status(&tree).patches[0].transition.unwrap().done(), Some(0));
}

#[test]
fn modules_without_a_patch() {
    let tree = Tree::new();
    tree.rust_core("1.2");
    tree.patch("fix", true, false, "vmlinux", "f");
    tree.module("gone", "OEK", 1);
    tree.module("driver", "OE", 0);
    tree.file("sys/module/compression", "zstd\n");
    let status = status(&tree);
    let leftovers = status
        .leftovers
        .iter()
        .map(|module| (module.name.as_str(), module.references))
        .collect::<Vec<_>>();
    assert_eq!(leftovers, [("gone", 1)]);
}

#[test]
fn garbage_in_sysfs_is_an_error() {
    let tree = Tree::new();
    tree.patch("fix", true, false, "vmlinux", "f");
    tree.patch_file("fix", "stack_order", "first\n");
    let error = Machine::with_root(tree.path()).status().unwrap_err();
    assert!(
        error
            .to_string()
            .contains("fix/stack_order: expected a number"),
        "{error}"
    );
}
