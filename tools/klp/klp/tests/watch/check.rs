// SPDX-License-Identifier: GPL-2.0

//! `klp check`, and `klp load` that looks first, on trees of machines that run a kernel.

use super::{
    json::compare,
    klp,
    sample::{Sample, KALLSYMS, SITES, SYMVERS},
    Run, Tree,
};

const KERNEL: &str = "7.3.4-test";

/// A machine that the sample fits.
fn machine() -> Tree {
    let tree = Tree::new();
    tree.file("proc/kallsyms", KALLSYMS);
    tree.file("proc/modules", "driver 16384 0 - Live 0xffffffffc0000000\n");
    tree.file("sys/kernel/tracing/available_filter_functions_addrs", SITES);
    tree.file("sys/kernel/tracing/enabled_functions", "");
    tree.file(
        &format!("lib/modules/{KERNEL}/build/Module.symvers"),
        SYMVERS,
    );
    tree.file(
        &format!("boot/config-{KERNEL}"),
        "CONFIG_SMP=y\nCONFIG_MODULE_UNLOAD=y\n# CONFIG_PREEMPT_RT is not set\n",
    );
    tree
}

/// The sample for the kernel of trees, with another function if one is named.
fn patch(tree: &Tree, func: Option<&'static str>) -> String {
    let mut sample = Sample::default();
    sample.info = sample.info.replace("7.3.4", KERNEL);
    if let Some(func) = func {
        sample.funcs(0)[0].name = Some(func);
    }
    let path = tree.path().join("fix.ko");
    std::fs::write(&path, sample.build()).unwrap();
    path.to_str().unwrap().into()
}

fn check(tree: &Tree, arguments: &[&str]) -> Run {
    klp(tree, &[&["check"], arguments].concat())
}

#[test]
fn what_fits() {
    let tree = machine();
    let file = patch(&tree, None);
    let run = check(&tree, &[&file]);
    let last = run.output.lines().last().unwrap();
    assert_eq!(
        last,
        format!(
            "{file}: fits {KERNEL}, as far as is known: no information on inlined, prototype, \
             structure"
        )
    );
    assert_eq!((run.status, run.message.as_str()), (Some(0), ""));
    let quick = check(&tree, &["--quick", &file]);
    assert_eq!(
        (quick.status, quick.output.lines().last()),
        (Some(0), Some(last))
    );
    assert!(quick
        .output
        .contains("the types of the replacements were not looked at"));
    let run = check(&tree, &["--quiet", &file]);
    assert_eq!((run.status, run.output.as_str()), (Some(0), ""));
    assert_eq!(check(&tree, &["--strict", &file]).status, Some(2));
}

#[test]
fn what_does_not_fit() {
    let tree = machine();
    let file = patch(&tree, Some("hidden"));
    let run = check(&tree, &["--quiet", &file]);
    let expected = format!(
        "error[function-traceable]: ftrace cannot intercept hidden of vmlinux\n\
         \x20 --> {file}: vmlinux:hidden\n\
         \x20  = it is notrace (inline implies that), in assembly, or its directory is compiled \
         without ftrace\n\
         \x20  = the core refuses the patch (EINVAL)\n\
         \x20  = help: replace the functions that call it\n\
         \n\
         {file}: does not fit {KERNEL}\n"
    );
    assert_eq!(run.output, expected);
    assert_eq!((run.status, run.message.as_str()), (Some(1), ""));
    let run = check(&tree, &["--json", &file]);
    assert_eq!(run.status, Some(1));
    compare(&run.output);
}

#[test]
fn what_cannot_be_told() {
    let tree = machine();
    let file = patch(&tree, None);
    // As users who are not root see it.
    let text = KALLSYMS
        .lines()
        .map(|line| format!("{:016x}{}\n", 0, &line[16..]));
    tree.file("proc/kallsyms", &text.collect::<String>());
    let run = check(&tree, &["--quiet", &file]);
    let last = run.output.lines().last().unwrap();
    assert_eq!(
        last,
        format!("{file}: cannot tell whether it fits {KERNEL}")
    );
    assert_eq!(run.status, Some(2));
    let run = check(&tree, &["/nowhere.ko"]);
    assert_eq!(run.status, Some(2));
    assert!(run
        .output
        .starts_with("unknown[module]: /nowhere.ko: No such file"));
}

#[test]
fn the_worst_of_several() {
    let tree = machine();
    let file = patch(&tree, None);
    let text = tree.path().join("text.ko");
    std::fs::write(&text, "text").unwrap();
    let run = check(&tree, &[text.to_str().unwrap(), &file]);
    assert_eq!(run.status, Some(1));
    assert!(run
        .output
        .starts_with("error[module]: not a kernel module: "));
    assert!(run.output.contains(&format!("{file}: fits {KERNEL}")));
}

#[test]
fn other_kernels() {
    let tree = machine();
    let file = patch(&tree, None);
    let run = check(&tree, &["--quiet", "--kernel", "7.3.5-other", &file]);
    assert_eq!(run.status, Some(1));
    assert!(run.output.starts_with(&format!(
        "error[vermagic]: the module was built for the kernel {KERNEL}, and this is 7.3.5-other\n"
    )));
    // The symbols of another kernel are not those of the running one.
    let map = tree.path().join("System.map");
    std::fs::write(&map, KALLSYMS.replace(" do_nap\n", " do_sleep\n")).unwrap();
    let map = map.to_str().unwrap();
    let run = check(&tree, &["--quiet", "--system-map", map, &file]);
    assert!(run
        .output
        .contains("error[function-missing]: vmlinux has no function do_nap\n"));
    let run = check(&tree, &["--system-map", "/dev/null", &file]);
    assert_eq!(
        (run.status, run.message.as_str()),
        (Some(2), "klp check: /dev/null: no symbols of a kernel\n")
    );
}

#[test]
fn load_looks_first() {
    let tree = machine();
    std::fs::create_dir(tree.path().join("run")).unwrap();
    let file = patch(&tree, Some("gone"));
    let run = klp(&tree, &["load", &file]);
    // As kpatch says it, too.
    assert_eq!(run.output, format!("loading patch module: {file}\n"));
    assert_eq!(run.status, Some(1));
    // The kernel of these trees loads nothing. What it could not have found is told then.
    let mut lines = run.message.lines();
    assert_eq!(
        lines.next(),
        Some("klp: error[function-missing]: vmlinux has no function gone")
    );
    let last = lines.last().unwrap();
    assert!(
        last.starts_with(&format!("klp: failed to load module {file}: ")),
        "{last}"
    );
    assert!(!last.contains("it does not fit"), "{last}");
    // What the module itself tells is not left to the kernel.
    let mut sample = Sample::default();
    let again = sample.funcs(0)[0].clone();
    sample.funcs(0).push(again);
    std::fs::write(&file, sample.build()).unwrap();
    let run = klp(&tree, &["load", &file]);
    assert_eq!(run.status, Some(1));
    let last = run.message.lines().last().unwrap();
    assert_eq!(
        last,
        format!(
            "klp: failed to load module {file}: it does not fit this kernel; --no-check has the \
             kernel try"
        )
    );
}
