// SPDX-License-Identifier: GPL-2.0

//! Copies of a function that were inlined into others, which keep what the patch is to mend.

use crate::{
    kernel::Kernel,
    report::{Finding, Level, Report, Rule, Subject},
    Patch,
};

pub(super) fn check(patch: &Patch<'_>, kernel: &Kernel, report: &mut Report) {
    let Ok(declaration) = &patch.declaration else {
        return;
    };
    for object in &declaration.objects {
        let object = object.name();
        let replaced = patch.functions(object);
        if replaced.is_empty() {
            continue;
        }
        let Some(inlined) = kernel.inlined.get(object) else {
            report.add(
                Finding::new(
                    Rule::Inlined,
                    Level::NoInformation,
                    Subject::object(object),
                    format!("into which functions of {object} others were inlined is not known"),
                )
                .note("a copy that was inlined is not replaced with its function")
                .advice(match object {
                    "vmlinux" => "name a vmlinux with DWARF with --vmlinux".to_owned(),
                    module => format!("name a file of {module} with DWARF with --target"),
                }),
            );
            continue;
        };
        let mut names: Vec<_> = replaced.iter().copied().collect();
        names.sort_unstable();
        for name in names {
            // A function with recursion may be inlined into itself.
            let copies = inlined.into(name).filter(|into| !replaced.contains(into));
            let copies: Vec<String> = copies.map(Into::into).collect();
            if copies.is_empty() {
                continue;
            }
            report.add(
                Finding::error(
                    Rule::Inlined,
                    Subject::symbol(object, name),
                    format!("{name} was inlined into functions that the patch does not replace"),
                )
                .note(copies.join(", "))
                .note("their copies stay as they are, and nobody tells")
                .advice("replace these functions, too, with the new code in them"),
            );
        }
    }
}
