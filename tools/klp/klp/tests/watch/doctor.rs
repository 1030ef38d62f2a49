// SPDX-License-Identifier: GPL-2.0

use std::{fs, io::Write};

use super::{klp, output, stalled, Tree, SLEEPER};
use crate::tree::TaskFiles;

/// A machine on which nothing stands in the way.
fn healthy() -> Tree {
    let tree = Tree::new();
    tree.file(
        "boot/config-7.3.4-test",
        "CONFIG_LIVEPATCH=y\nCONFIG_DYNAMIC_FTRACE=y\nCONFIG_HAVE_RELIABLE_STACKTRACE=y\n\
         CONFIG_RUST=y\nCONFIG_KALLSYMS_ALL=y\n",
    );
    tree.file("proc/sys/kernel/ftrace_enabled", "1\n");
    tree.file("proc/sys/kernel/modules_disabled", "0\n");
    tree.file("proc/sys/kernel/tainted", "36864\n");
    tree.file("sys/module/module/parameters/sig_enforce", "N\n");
    tree.file(
        "sys/kernel/security/lockdown",
        "[none] integrity confidentiality\n",
    );
    tree.file("sys/kernel/tracing/enabled_functions", "");
    tree.file("sys/kernel/debug/kprobes/list", "");
    tree
}

/// What doctor says that is not ok, without advice, and its status.
fn findings(tree: &Tree, arguments: &[&str]) -> (Vec<String>, Option<i32>) {
    let run = klp(tree, &[&["doctor"], arguments].concat());
    assert_eq!(run.message, "");
    let lines = run.output.lines();
    let found = lines.filter(|line| line.starts_with("note") || line.starts_with("problem"));
    (found.map(Into::into).collect(), run.status)
}

#[test]
fn nothing_stands_in_the_way() {
    assert_eq!(
        output(&healthy(), &["doctor"]),
        "\
ok       core: the built-in core is in charge
ok       configuration: this kernel has all options that live patching needs
ok       ftrace: ftrace is switched on
ok       modules: modules can be loaded
ok       signatures: unsigned modules are loaded, too
ok       lockdown: the kernel is not locked down
ok       functions: no function is taken by others
ok       kprobes: there are no kprobes
ok       transition: no transition is going on
ok       tasks: no task sleeps uninterruptibly
ok       leftovers: no module of a former patch is loaded
ok       boot: no patch is skipped at boot
ok       taint: the kernel has not seen an accident
"
    );
}

/// Changes one file of a healthy machine. That must be the only finding.
fn with(file: &str, contents: &str, expected: &str) {
    let tree = healthy();
    tree.file(file, contents);
    let (found, status) = findings(&tree, &[]);
    assert_eq!(found, [expected]);
    assert_eq!(status, Some(expected.starts_with("problem").into()));
}

#[test]
fn problems() {
    with(
        "proc/sys/kernel/ftrace_enabled",
        "0\n",
        "problem  ftrace: ftrace is switched off",
    );
    with(
        "proc/sys/kernel/modules_disabled",
        "1\n",
        "problem  modules: no module can be loaded any more",
    );
    with(
        "boot/config-7.3.4-test",
        "CONFIG_DYNAMIC_FTRACE=y\nCONFIG_LIVEPATCH=m\n",
        "problem  configuration: this kernel was built without LIVEPATCH, HAVE_RELIABLE_STACKTRACE",
    );
}

#[test]
fn notes() {
    with(
        "boot/config-7.3.4-test",
        "CONFIG_LIVEPATCH=y\nCONFIG_DYNAMIC_FTRACE=y\nCONFIG_HAVE_RELIABLE_STACKTRACE=y\n\
         CONFIG_KALLSYMS_ALL=y\n",
        "note     configuration: this kernel was built without RUST",
    );
    with(
        "sys/module/module/parameters/sig_enforce",
        "Y\n",
        "note     signatures: only signed modules are loaded",
    );
    with(
        "sys/kernel/tracing/enabled_functions",
        "do_nap (1) R I      \ttramp: 0xffffffffc0400000 (x)\nnap [driver] (1) R I   \t->x\n",
        "note     functions: changed by others than patches: do_nap, nap [driver]",
    );
    with(
        "sys/kernel/tracing/enabled_functions",
        "vfs_read (1)     D   M \ttramp: ERROR!\n\tdirect-->bpf_trampoline_1+0x0/0x1\n",
        "note     functions: called by a BPF program or directly: vfs_read",
    );
    with(
        "sys/kernel/debug/kprobes/list",
        "ffffffff81234567  k  vfs_read+0x0    [FTRACE]\n",
        "note     kprobes: probed: vfs_read",
    );
    with(
        "proc/sys/kernel/tainted",
        "128\n",
        "note     taint: since boot: an oops",
    );
    with(
        "sys/module/gone/taint",
        "OEK\n",
        "note     leftovers: loaded, but not a patch any more: gone",
    );
}

#[test]
fn lockdown() {
    let tree = healthy();
    tree.file(
        "sys/kernel/security/lockdown",
        "none [integrity] confidentiality\n",
    );
    let expected = [
        "note     signatures: only signed modules are loaded",
        "note     lockdown: the kernel is locked down",
    ];
    assert_eq!(
        findings(&tree, &[]),
        (expected.map(Into::into).into(), Some(0))
    );
}

#[test]
fn what_cannot_be_seen_is_said() {
    let tree = healthy();
    for file in [
        "boot/config-7.3.4-test",
        "proc/sys/kernel/ftrace_enabled",
        "sys/kernel/tracing/enabled_functions",
        "sys/kernel/debug/kprobes/list",
    ] {
        fs::remove_file(tree.path().join(file)).unwrap();
    }
    let (found, status) = findings(&tree, &[]);
    assert_eq!(
        found,
        [
            "note     configuration: the options of this kernel are nowhere to be found",
            "note     ftrace: it cannot be seen whether ftrace is switched on",
            "note     functions: other users of ftrace cannot be seen: tracefs is not mounted",
            "note     kprobes: kprobes cannot be seen: debugfs is not mounted, or the kernel has \
             none",
        ]
    );
    assert_eq!(status, Some(0));
}

#[test]
fn configuration_in_procfs_is_compressed() {
    let tree = healthy();
    let config = fs::read(tree.path().join("boot/config-7.3.4-test")).unwrap();
    fs::remove_file(tree.path().join("boot/config-7.3.4-test")).unwrap();
    let file = fs::File::create(tree.path().join("proc/config.gz")).unwrap();
    let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    encoder.write_all(&config).unwrap();
    encoder.finish().unwrap();
    assert_eq!(findings(&tree, &[]), (vec![], Some(0)));
}

#[test]
fn patches_and_the_rust_core_are_no_strangers() {
    let tree = healthy();
    tree.rust_core("1.2");
    tree.patch("fix", true, false, "driver", "nap");
    tree.file(
        "sys/kernel/tracing/enabled_functions",
        "nap [driver] (1) R I      \t->x\nklp_enable_patch (1) R I      \t->x\n\
         __klp_sched_try_switch (1) R I      \t->x\n",
    );
    assert_eq!(findings(&tree, &[]), (vec![], Some(0)));
    // A function of a module is none of the core's, whatever it is called.
    tree.file(
        "sys/kernel/tracing/enabled_functions",
        "klp_value [driver] (1) R I      \t->x\nklp_enable_patch (1) R I      \t->x\n\
         __klp_sched_try_switch (1) R I      \t->x\n",
    );
    assert_eq!(
        findings(&tree, &[]).0,
        ["note     functions: changed by others than patches: klp_value [driver]"]
    );
    // On the built-in core, nobody has business in its functions.
    fs::remove_dir_all(tree.path().join("sys/module/livepatch")).unwrap();
    assert_eq!(
        findings(&tree, &[]).0,
        ["note     functions: changed by others than patches: \
          klp_value [driver], klp_enable_patch, __klp_sched_try_switch"]
    );
}

#[test]
fn transitions_and_tasks() {
    let tree = healthy();
    tree.patch("fix", true, true, "driver", "nap");
    tree.task(TaskFiles {
        state: 'D',
        ..SLEEPER
    });
    let task = "note     tasks: uninterruptible: 202 cat in sleeper_wait".to_string();
    let (found, status) = findings(&tree, &[]);
    assert_eq!(
        found,
        [
            "note     transition: the transition of fix is going on".into(),
            task.clone()
        ]
    );
    assert_eq!(status, Some(0));
    tree.file(
        "dev/kmsg",
        "5,1,9000000,-;livepatch: 'fix': starting patching transition\n",
    );
    let (found, status) = findings(&tree, &[]);
    assert_eq!(
        found,
        [
            "problem  transition: the transition of fix has stalled".into(),
            task
        ]
    );
    assert_eq!(status, Some(1));
}

#[test]
fn many_are_not_all_named() {
    let lines = (0..10).map(|n| format!("ffffffff81234567  k  f{n}+0x0    [FTRACE]\n"));
    with(
        "sys/kernel/debug/kprobes/list",
        &lines.collect::<String>(),
        "note     kprobes: probed: f0, f1, f2, f3, f4, f5, f6, f7 and 2 more",
    );
}

#[test]
fn findings_have_advice() {
    let text = klp(&stalled(), &["doctor"]).output;
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let next_is_advice = lines
            .peek()
            .is_some_and(|next| next.starts_with("         "));
        assert_eq!(next_is_advice, !line.starts_with("ok"), "{line}");
        if next_is_advice {
            lines.next();
        }
    }
}

#[test]
fn no_file() {
    let run = klp(&healthy(), &["doctor", "absent.ko"]);
    assert_eq!((run.status, run.output.as_str()), (Some(1), ""));
    assert!(
        run.message.starts_with("klp: absent.ko: "),
        "{}",
        run.message
    );
}
