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
    report::{Finding, Level, Report, Rule, Subject},
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

/// Says which rules were left out to be quick.
pub(crate) fn leave_out_types(report: &mut Report) {
    for (rule, text) in [
        (
            Rule::Prototype,
            "the types of the replacements were not looked at",
        ),
        (
            Rule::Structure,
            "the layouts of structures were not looked at",
        ),
        (
            Rule::Inlined,
            "copies that were inlined were not looked for",
        ),
    ] {
        report.add(
            Finding::new(rule, Level::NoInformation, Subject::module(), text)
                .note("only what is quickly seen was asked for"),
        );
    }
}

/// Goes through the rules on what the kernel does not look at, and only type information tells.
pub(crate) fn check_types(patch: &Patch<'_>, kernel: &Kernel, report: &mut Report) {
    types::check(patch, kernel, report);
    inlined::check(patch, kernel, report);
}

/// Whether an object is a module that is not loaded now. What is wrong with a patch of it does not
/// keep the patch from being loaded, but the module later.
fn is_late(kernel: &Kernel, object: &str) -> bool {
    let loaded = kernel.loaded.as_ref();
    object != "vmlinux" && loaded.is_some_and(|loaded| !loaded.contains(object))
}

/// Says who is refused, by what is wrong with the patch of an object.
fn refused(kernel: &Kernel, object: &str, finding: Finding) -> Finding {
    if is_late(kernel, object) {
        finding
            .note(format!(
                "the kernel refuses {object} when it comes (EINVAL)"
            ))
            .taken()
    } else {
        finding.note("the core refuses the patch (EINVAL)")
    }
}

/// Why the symbols of an object are not known.
fn why_unknown(kernel: &Kernel, object: &str) -> String {
    match kernel.unreadable.get(object) {
        Some(reason) => reason.clone(),
        None => format!("the symbols of {object} are not known"),
    }
}

/// How the symbols of an object come to be known.
fn how_to_know(object: &str) -> String {
    match object {
        "vmlinux" => {
            "run it as root on a machine that runs this kernel, or name a vmlinux that was \
                      not stripped with --vmlinux, or the file that it is booted from with --kernel"
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
