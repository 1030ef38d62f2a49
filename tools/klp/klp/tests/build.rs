// SPDX-License-Identifier: GPL-2.0

//! `klp build`: what it refuses before there is a kernel. The part vm-klp-build of the tests has the
//! rest.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{chown, PermissionsExt},
    path::Path,
    process::{Command, Output},
};

fn build(directory: &Path, arguments: &[&str]) -> Output {
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

#[test]
fn the_scripts_of_others_are_not_run() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let scripts = directory.join("scripts");
    let allow =
        |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    fs::create_dir(&scripts).unwrap();
    for script in ["kernel", "kmake", "toolchain"] {
        let path = scripts.join(script);
        fs::write(&path, "#!/bin/sh\n: >ran; exit 1\n").unwrap();
        allow(&path, 0o755);
    }
    let runs = |arguments: &[&str]| {
        let output = build(directory, arguments);
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stderr);
        let ran = fs::remove_file(directory.join("ran")).is_ok();
        assert_eq!(ran, !said.contains("others may change"), "{said}");
        ran
    };
    allow(&scripts, 0o755);
    assert!(runs(&["fix.patch"]));
    for path in [directory, &*scripts] {
        for mode in [0o1777, 0o775] {
            allow(path, mode);
            assert!(!runs(&["fix.patch"]), "{mode:o}");
            // Whoever names the directory is believed.
            assert!(runs(&["--project", ".", "fix.patch"]), "{mode:o}");
        }
        allow(path, 0o755);
        if rustix::process::geteuid().is_root() {
            chown(path, Some(1), None).unwrap();
            assert!(!runs(&["fix.patch"]));
            chown(path, Some(0), None).unwrap();
        }
    }
}
