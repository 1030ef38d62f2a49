// SPDX-License-Identifier: GPL-2.0

//! `klp new`: what it makes, and what it refuses. That it builds and works is tested with a kernel.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

fn run(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_klp"))
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Makes a patch, and returns its files and their contents.
fn new(directory: &Path, arguments: &[&str]) -> Vec<(String, String)> {
    let output = run(directory, &[&["new"], arguments].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let files = text(&output.stdout).lines().map(|path| {
        let contents = fs::read_to_string(directory.join(path)).unwrap();
        (path.to_owned(), contents)
    });
    files.collect()
}

fn contents<'a>(files: &'a [(String, String)], name: &str) -> &'a str {
    let file = files.iter().find(|(path, _)| path == name);
    &file.unwrap_or_else(|| panic!("no {name}")).1
}

#[test]
fn makes_the_files_that_it_lists() {
    for (arguments, source) in [
        (&["my-patch"] as &[&str], "my-patch.c"),
        (&["my-patch", "--c"], "my-patch.c"),
        (&["my-patch", "--rust"], "my-patch.rs"),
        (
            &["my-patch", "--function=f", "--target=some-module"],
            "my-patch.c",
        ),
        (
            &["my-patch", "--rust", "--function=f", "--target=some-module"],
            "my-patch.rs",
        ),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let files = new(directory.path(), arguments);
        let names: Vec<_> = files.iter().map(|(path, _)| path.as_str()).collect();
        let expected = [
            ".gitignore",
            "Kbuild",
            "Makefile",
            "README.md",
            source,
            "test.sh",
        ];
        let expected = expected.map(|name| format!("my-patch/{name}"));
        assert_eq!(names, expected);
        let there = fs::read_dir(directory.path().join("my-patch")).unwrap();
        assert_eq!(there.count(), expected.len());
        for (path, contents) in &files {
            // No placeholder is left over; make has @ for commands, and make and test.sh "$@".
            for word in contents.split('@').skip(1) {
                let word: String = word.chars().take_while(char::is_ascii_uppercase).collect();
                assert!(word.len() < 2, "{path}: @{word}");
            }
            assert!(
                contents.ends_with('\n') && !contents.ends_with("\n\n"),
                "{path}"
            );
            assert!(!contents.contains("\n\n\n"), "{path}");
            assert!(
                !contents.lines().any(|line| line.ends_with([' ', '\t'])),
                "{path}"
            );
            let mode = fs::metadata(directory.path().join(path))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o100 != 0, path.ends_with("test.sh"), "{path}");
        }
    }
}

#[test]
fn example_in_c() {
    let directory = tempfile::tempdir().unwrap();
    let files = new(directory.path(), &["my-patch"]);
    assert!(contents(&files, "my-patch/Kbuild").contains("obj-m := my-patch.o\n"));
    let makefile = contents(&files, "my-patch/Makefile");
    assert!(makefile.contains("UNEXPORTED := vmlinux:saved_command_line\n"));
    assert!(makefile.contains("/sys/kernel/livepatch/my_patch\n"));
    assert!(!makefile.contains("KLP_CRATE"));
    let source = contents(&files, "my-patch/my-patch.c");
    assert!(source.contains(
        r#"{ .old_name = "cmdline_proc_show", .new_func = patched_cmdline_proc_show },"#
    ));
    assert!(source.contains("\t{ .funcs = funcs },\n"));
    let readme = contents(&files, "my-patch/README.md");
    assert!(readme.contains(
        "    klp new --c my-patch\n    cd my-patch\n    make\n    make load\n    \
         cat /proc/cmdline\n"
    ));
}

#[test]
fn function_of_a_module_in_c() {
    let directory = tempfile::tempdir().unwrap();
    let files = new(
        directory.path(),
        &["fix", "--function=do_it", "--target=some-module"],
    );
    let source = contents(&files, "fix/fix.c");
    assert!(source.contains("#error \"copy do_it() from the kernel's source to here\"\n"));
    assert!(source.contains("\t{ .name = \"some_module\", .funcs = funcs },\n"));
    assert!(source.contains(r#"{ .old_name = "do_it", .new_func = patched_do_it },"#));
    assert!(
        contents(&files, "fix/test.sh").contains("/sys/kernel/livepatch/fix/some_module/patched")
    );
    assert!(contents(&files, "fix/Makefile").contains("UNEXPORTED :=\n"));
    assert!(contents(&files, "fix/README.md")
        .contains("    klp new --c fix --function do_it --target some-module\n"));
}

#[test]
fn in_rust() {
    let directory = tempfile::tempdir().unwrap();
    let files = new(directory.path(), &["my-patch", "--rust"]);
    assert!(contents(&files, "my-patch/Kbuild").contains("include $(KLP_CRATE)/klp.mk\n"));
    assert!(contents(&files, "my-patch/Makefile").contains("export KLP_CRATE ?= "));
    let source = contents(&files, "my-patch/my-patch.rs");
    assert!(source.contains("name: \"my_patch\","));
    let files = new(
        directory.path(),
        &["fix", "--rust", "--function=f", "--target=some-module"],
    );
    let source = contents(&files, "fix/fix.rs");
    assert!(source.contains("        module \"some_module\" {\n            // SAFETY: "));
    assert!(source.contains("\n            unsafe f() => patched_f,\n"));
}

#[test]
fn bad_names() {
    let directory = tempfile::tempdir().unwrap();
    let (longest, long) = ("n".repeat(55), "n".repeat(56));
    new(directory.path(), &[&longest]);
    for (arguments, reason) in [
        (&["a.b"] as &[&str], "'a.b' is no name for a module"),
        (&["a.ko"], "no name for a module"),
        (&["a/b"], "no name for a module"),
        (&["../b"], "no name for a module"),
        (&[""], "no name for a module"),
        (&["1a"], "no digit first"),
        (&["a b"], "no name for a module"),
        (&["ä"], "no name for a module"),
        (&["--", "-a"], "no name for a module"),
        (&["vmlinux"], "a part of the kernel"),
        (&["livepatch"], "a part of the kernel"),
        (
            &[&long],
            "has 56 characters, and that of a module at most 55",
        ),
        (
            &["a", "--function=f.isra.0"],
            "'f.isra.0' is no name of a function",
        ),
        (&["a", "--function="], "no name of a function"),
        (
            &["a", "--function=f", "--target=a.ko"],
            "'a.ko' is no name of a module",
        ),
        (&["a", "--function=f", "--target="], "no name of a module"),
    ] {
        let output = run(directory.path(), &[&["new"], arguments].concat());
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(
            message.starts_with("klp: ") && message.lines().count() == 1,
            "{message}"
        );
        assert!(message.contains(reason), "{message}");
        assert!(output.stdout.is_empty());
        assert_eq!(
            fs::read_dir(directory.path()).unwrap().count(),
            1,
            "{arguments:?}"
        );
    }
}

#[test]
fn usage_errors_are_status_two() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [
        &["new"] as &[&str],
        &["new", "a", "b"],
        &["new", "a", "--c", "--rust"],
        &["new", "a", "--target=m"],
    ] {
        let status = run(directory.path(), arguments).status;
        assert_eq!(status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn what_exists_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a");
    for file in [true, false] {
        if file {
            fs::write(&path, "contents").unwrap();
        } else {
            fs::create_dir(&path).unwrap();
        }
        let output = run(directory.path(), &["new", "a"]);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(
            text(&output.stderr),
            "klp: a exists already: take another name, or remove it\n"
        );
        if file {
            assert_eq!(fs::read_to_string(&path).unwrap(), "contents");
            fs::remove_file(&path).unwrap();
        } else {
            assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
        }
    }
}

#[test]
fn where_nothing_can_be_made() {
    let output = run(Path::new("/proc"), &["new", "a"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).starts_with("klp: a: "),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn answers_in_json() {
    let directory = tempfile::tempdir().unwrap();
    let output = run(directory.path(), &["--json", "new", "a"]);
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["schema"], "klp/1");
    assert_eq!(answer["command"], "new");
    assert_eq!(answer["directory"], "a");
    assert_eq!(answer["files"].as_array().unwrap().len(), 6);
    assert_eq!(answer["files"][1], "a/Kbuild");
    assert!(output.stderr.is_empty());
}
