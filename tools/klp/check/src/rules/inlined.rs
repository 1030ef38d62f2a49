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
        let inlined = match kernel.inlined.get(object) {
            Some(Ok(inlined)) => inlined,
            Some(Err(reason)) => {
                report.add(no_information(object).note(reason));
                continue;
            }
            None => {
                report.add(no_information(object).advice(match object {
                    "vmlinux" => "name a vmlinux with DWARF with --vmlinux".to_owned(),
                    module => format!("name a file of {module} with DWARF with --target"),
                }));
                continue;
            }
        };
        for function in &replaced {
            let name = &function.0;
            let Some(copies) = inlined.into(function) else {
                report.add(
                    Finding::new(
                        Rule::Inlined,
                        Level::NoInformation,
                        Subject::symbol(object, name),
                        format!("into which functions {name} was inlined is not known"),
                    )
                    .note("DWARF does not tell of it, such as of what is written in assembly"),
                );
                continue;
            };
            if copies.is_empty() {
                continue;
            }
            let copies: Vec<String> = copies.iter().cloned().collect();
            report.add(
                Finding::error(
                    Rule::Inlined,
                    Subject::symbol(object, name),
                    format!("{name} was inlined into functions that the patch does not replace"),
                )
                .note(copies.join(", "))
                .note("their copies stay as they are, and nobody tells")
                .advice("replace these functions, too, with the new code in them")
                .taken(),
            );
        }
    }
}

fn no_information(object: &str) -> Finding {
    Finding::new(
        Rule::Inlined,
        Level::NoInformation,
        Subject::object(object),
        format!("into which functions of {object} others were inlined is not known"),
    )
    .note("a copy that was inlined is not replaced with its function")
}
