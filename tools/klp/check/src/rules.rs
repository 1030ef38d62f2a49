// SPDX-License-Identifier: GPL-2.0

//! The rules, a module for each group.

mod declared;
mod functions;
mod inlined;
mod live;
mod module;
mod relocations;
mod symbols;
mod types;

use crate::{
    kernel::{Kernel, Symbol},
    report::Report,
    Patch,
};

pub(crate) use relocations::referred_objects;

/// Goes through the rules that take no time.
pub(crate) fn check_quickly(patch: &Patch<'_>, kernel: &Kernel, report: &mut Report) {
    module::check(patch, kernel, report);
    symbols::check(patch, kernel, report);
    relocations::check(patch, kernel, report);
    declared::check(patch, kernel, report);
    functions::check(patch, kernel, report);
    live::check(patch, kernel, report);
}

/// Goes through the rules on what the kernel does not look at, and only type information tells.
pub(crate) fn check_types(patch: &Patch<'_>, kernel: &Kernel, report: &mut Report) {
    types::check(patch, kernel, report);
    inlined::check(patch, kernel, report);
}

/// How the symbols of an object come to be known.
fn how_to_know(object: &str) -> String {
    match object {
        "vmlinux" => {
            "run it as root on a machine that runs this kernel, or name a vmlinux that was \
                      not stripped with --vmlinux"
                .into()
        }
        module => format!("load {module}, or name its file with --target"),
    }
}

/// Whether positions of symbols of one name are not the same before and after an object has been
/// initialised.
fn changes_positions(object: &str, found: &[Symbol]) -> bool {
    object != "vmlinux"
        && found.iter().any(|symbol| symbol.init)
        && found.iter().any(|symbol| !symbol.init)
}

/// The most names that are listed of many.
const LISTED: usize = 4;

/// Names joined by commas, only some of them if they are many.
fn list(names: &[String]) -> String {
    let listed = names[..names.len().min(LISTED)].join(", ");
    match names.len().saturating_sub(LISTED) {
        0 => listed,
        more => format!("{listed} and {more} more"),
    }
}
