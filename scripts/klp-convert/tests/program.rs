// SPDX-License-Identifier: GPL-2.0

//! Runs the program itself: what it says, its exit status, and that it leaves files alone.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

fn run(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_klp-convert"))
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
        message(&output).starts_with("klp-convert: x.ko: damaged"),
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
        message(&output).starts_with("klp-convert: list:2: expected"),
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
