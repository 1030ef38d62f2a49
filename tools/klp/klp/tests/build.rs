// SPDX-License-Identifier: GPL-2.0

//! `klp build`: what it refuses before there is a kernel. The part vm-klp-build of the tests has the
//! rest.

use std::process::{Command, Output};

fn build(directory: &std::path::Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_klp"))
        .arg("build")
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap()
}

#[test]
fn without_a_patch() {
    let directory = tempfile::tempdir().unwrap();
    let output = build(directory.path(), &[]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn without_the_scripts() {
    let directory = tempfile::tempdir().unwrap();
    let output = build(directory.path(), &["--project", ".", "fix.patch"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.starts_with("klp build: ")
            && said.contains("scripts/kernel: there is none; name the directory"),
        "{said}"
    );
    let output = build(directory.path(), &["--project", "none", "fix.patch"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("klp build: none: "), "{said}");
}
