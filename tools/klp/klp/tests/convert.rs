// SPDX-License-Identifier: GPL-2.0

//! Runs the program itself: what it says, its exit status, and that it leaves files alone.

#[path = "../../convert/tests/module/mod.rs"]
mod module;

use std::{
    fs,
    os::unix::fs::{symlink, PermissionsExt},
    path::Path,
    process::{Command, Output},
};

fn run(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_klp"))
        .arg("convert")
        .current_dir(directory)
        .args(arguments)
        .output()
        .unwrap()
}

fn message(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("list"), "0\thidden\tvmlinux\tx\n").unwrap();
    directory
}

#[test]
fn errors_are_one_line_and_leave_the_file_alone() {
    let directory = directory();
    let module = directory.path().join("x.ko");
    fs::write(&module, b"\x7fELFnot really").unwrap();
    fs::set_permissions(&module, fs::Permissions::from_mode(0o640)).unwrap();
    let output = run(directory.path(), &["--symbols", "list", "x.ko"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        message(&output).starts_with("klp convert: x.ko: damaged"),
        "{}",
        message(&output)
    );
    assert_eq!(message(&output).lines().count(), 1);
    assert_eq!(fs::read(&module).unwrap(), b"\x7fELFnot really");
    assert_eq!(
        fs::metadata(&module).unwrap().permissions().mode() & 0o777,
        0o640
    );
    // Nothing else appeared.
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn missing_files_are_named() {
    let directory = directory();
    let output = run(directory.path(), &["--symbols", "list", "absent.ko"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(message(&output).contains("absent.ko: No such file"));
    let output = run(directory.path(), &["--symbols", "absent", "x.ko"]);
    assert!(message(&output).contains("absent: No such file"));
}

#[test]
fn malformed_list_is_named_with_its_line() {
    let directory = directory();
    fs::write(directory.path().join("list"), "0\ta\tvmlinux\tx\nwrong\n").unwrap();
    let output = run(directory.path(), &["--symbols", "list", "x.ko"]);
    assert!(
        message(&output).starts_with("klp convert: list:2: expected"),
        "{}",
        message(&output)
    );
}

#[test]
fn usage_errors_are_status_two() {
    let directory = directory();
    for arguments in [
        &["x.ko"] as &[&str],
        &["--symbols", "list", "--position", "x", "x.ko"],
        &["--nonsense"],
    ] {
        assert_eq!(
            run(directory.path(), arguments).status.code(),
            Some(2),
            "{arguments:?}"
        );
    }
}

/// The names of the files there.
fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn is_converted(file: &Path) -> bool {
    let (sections, symbols) = module::read(&fs::read(file).unwrap());
    sections
        .iter()
        .any(|section| section.name == ".klp.rela.vmlinux..text")
        && symbols[2] == (".klp.sym.vmlinux.hidden,0".into(), 0xff20)
}

#[test]
fn converts_in_place_and_only_once() {
    let directory = directory();
    let module = directory.path().join("x.ko");
    fs::write(&module, module::example().build()).unwrap();
    fs::set_permissions(&module, fs::Permissions::from_mode(0o640)).unwrap();

    let output = run(directory.path(), &["--symbols", "list", "x.ko"]);
    assert_eq!(
        message(&output),
        "klp convert: x.ko: 2 relocations against 1 symbols converted\n"
    );
    assert!(output.status.success() && output.stdout.is_empty());
    assert!(is_converted(&module));
    let metadata = fs::metadata(&module).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o640);
    assert_eq!(files(directory.path()), ["list", "x.ko"]);

    let output = run(directory.path(), &["--symbols", "list", "x.ko"]);
    assert!(output.status.success());
    assert!(
        message(&output).contains("converted already"),
        "{}",
        message(&output)
    );
    let again = fs::metadata(&module).unwrap();
    assert_eq!(again.modified().unwrap(), metadata.modified().unwrap());
}

#[test]
fn quiet_output_lists_and_positions() {
    let directory = directory();
    let path = |name| directory.path().join(name);
    let before = module::example().build();
    fs::write(path("x.ko"), &before).unwrap();
    fs::write(path("list2"), "0\tother\tsome-module.ko\tx\t\n").unwrap();
    fs::write(path("map"), "0 T hidden\n1 t hidden\n").unwrap();
    let arguments = [
        "--symbols=list",
        "--symbols=list2",
        "--system-map=map",
        "--quiet",
        "--output=y.ko",
        "x.ko",
    ];

    let output = run(directory.path(), &arguments);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        message(&output).contains("--position vmlinux:hidden=N"),
        "{}",
        message(&output)
    );
    assert_eq!(files(directory.path()), ["list", "list2", "map", "x.ko"]);

    let mut with_positions = vec![
        "--position=vmlinux:hidden=2",
        "--position=some_module:other=1",
    ];
    with_positions.extend(arguments);
    let output = run(directory.path(), &with_positions);
    assert!(output.status.success());
    assert_eq!(message(&output), "");
    assert_eq!(fs::read(path("x.ko")).unwrap(), before);
    let (_, symbols) = module::read(&fs::read(path("y.ko")).unwrap());
    assert_eq!(symbols[2].0, ".klp.sym.vmlinux.hidden,2");
    assert_eq!(symbols[3].0, ".klp.sym.some_module.other,1");

    // The output is there even if there was nothing to do.
    fs::write(path("list"), "").unwrap();
    let output = run(
        directory.path(),
        &["--symbols=list", "--output=z.ko", "--quiet", "x.ko"],
    );
    assert!(output.status.success());
    assert_eq!(message(&output), "");
    assert_eq!(fs::read(path("z.ko")).unwrap(), before);
}

#[test]
fn links_stay_and_what_is_no_file_too() {
    let directory = directory();
    let path = |name| directory.path().join(name);
    fs::create_dir(path("sub")).unwrap();
    fs::write(path("sub/x.ko"), module::example().build()).unwrap();
    symlink("sub/x.ko", path("link.ko")).unwrap();
    let run = |output| {
        run(
            directory.path(),
            &["--symbols=list", "--output", output, "link.ko"],
        )
    };
    // In the place of a directory or in one that is missing, nothing can be written.
    for (output, reason) in [("sub", "not a regular file"), ("no/x.ko", "No such file")] {
        let result = run(output);
        assert_eq!(result.status.code(), Some(1));
        assert!(message(&result).contains(reason), "{}", message(&result));
    }
    assert_eq!(files(directory.path()), ["link.ko", "list", "sub"]);

    assert!(run("link.ko").status.success());
    assert!(path("link.ko").is_symlink());
    assert!(is_converted(&path("sub/x.ko")));
    assert_eq!(files(&path("sub")), ["x.ko"]);
}

#[test]
fn wrong_positions_and_signed_modules_change_nothing() {
    let directory = directory();
    let module = directory.path().join("x.ko");
    let mut signed = module::example().build();
    signed.extend(b"~Module signature appended~\n");
    fs::write(&module, &signed).unwrap();
    for (arguments, reason) in [
        (&["x.ko"] as &[&str], "signed"),
        (
            &["--position=vmlinux:printk=1", "x.ko"],
            "not in the list of symbols",
        ),
        (
            &[
                "--position=vmlinux:hidden=1",
                "--position=vmlinux:hidden=1",
                "x.ko",
            ],
            "two positions",
        ),
        (&["--system-map=list", "x.ko"], "list:1: "),
    ] {
        let mut all = vec!["--symbols", "list"];
        all.extend(arguments);
        let output = run(directory.path(), &all);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(message(&output).lines().count(), 1);
        assert!(message(&output).contains(reason), "{}", message(&output));
        assert_eq!(fs::read(&module).unwrap(), signed);
    }
}
