// SPDX-License-Identifier: GPL-2.0

//! Makes the walk's pieces so small that a model with a few tasks has several, and has the kernel's
//! configuration say that stacks are reliable.

use std::{env, fs, path::Path};

fn main() {
    for option in ["CONFIG_STACKTRACE", "CONFIG_HAVE_RELIABLE_STACKTRACE"] {
        println!("cargo::rustc-check-cfg=cfg({option})");
        println!("cargo::rustc-cfg={option}");
    }
    let source = "../../../rust/livepatch/pure/walk.rs";
    println!("cargo::rerun-if-changed={source}");
    let text = fs::read_to_string(source).expect("the source of the walk");
    let piece = "const PIECE: u32 = 512;";
    assert_eq!(text.matches(piece).count(), 1, "the size of a piece");
    // The documentation of a module cannot be included.
    let lines = text.lines().filter(|line| !line.starts_with("//!"));
    let text: Vec<&str> = lines.collect();
    let text = text.join("\n").replace(piece, "const PIECE: u32 = 1;");
    let target = env::var_os("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&target).join("walk.rs"), text).expect("a place for the copy");
}
