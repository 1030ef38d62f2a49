// SPDX-License-Identifier: GPL-2.0

//! The declaration itself: what the core looks at before it looks at the kernel.

use std::collections::HashSet;

use crate::{
    declaration::{Declaration, Func, Object},
    kernel::Kernel,
    report::{Finding, Level, Report, Rule, Subject},
    Patch,
};

/// The kernel's limits of names, with the zero at their end.
const MODULE_NAME_LEN: usize = 56;
const KSYM_NAME_LEN: usize = 512;

const REFUSED: &str = "klp_enable_patch() fails (EINVAL)";
const EXISTS: &str = "the core cannot add both to sysfs (EEXIST)";

pub(super) fn check(patch: &Patch<'_>, kernel: &Kernel, report: &mut Report) {
    let declaration = match &patch.declaration {
        Ok(declaration) => declaration,
        // A module that is no patch need not declare one.
        Err(_) if patch.module.info("livepatch").is_none() => return,
        Err(reason) => {
            report.add(
                Finding::unknown(
                    Rule::Declaration,
                    Subject::module(),
                    "the file does not tell which functions the patch replaces",
                )
                .note(reason)
                .advice("declare the patch in static structures, or test it in a virtual machine"),
            );
            return;
        }
    };
    if declaration.objects.is_empty() {
        report.add(Finding::new(
            Rule::Declaration,
            Level::Warning,
            Subject::module(),
            "the patch replaces nothing",
        ));
    }
    if declaration.touched {
        report.add(
            Finding::unknown(
                Rule::Declaration,
                Subject::module(),
                "code of the module refers to the lists of functions, and may change them",
            )
            .note("what is told here is about the lists as they are in the file")
            .advice("declare the patch in static structures that code leaves alone"),
        );
    }
    let mut seen = HashSet::new();
    for declared in &declaration.objects {
        if !seen.insert(declared.name()) {
            report.add(
                Finding::error(
                    Rule::Declaration,
                    Subject::object(declared.name()),
                    format!("the object {} is declared twice", declared.name()),
                )
                .note(EXISTS)
                .advice("declare all its functions in one object"),
            );
        }
        object(declared, declaration.touched, kernel, report);
    }
    states(declaration, report);
}

fn object(object: &Object, touched: bool, kernel: &Kernel, report: &mut Report) {
    let name = object.name();
    if let Some(module) = &object.name {
        module_name(module, kernel, report);
    }
    for kind in &object.repeated {
        report.add(
            Finding::error(
                Rule::Declaration,
                Subject::object(name),
                format!("the object {name} has more than one callback {kind}"),
            )
            .note("the code that kpatch-build puts into the module refuses that (EINVAL)")
            .advice("call what they do from one callback"),
        );
    }
    let Some(funcs) = &object.funcs else {
        report.add(
            Finding::error(
                Rule::Declaration,
                Subject::object(name),
                format!("the object {name} has no list of functions"),
            )
            .note(REFUSED)
            .advice("give it a list that may be empty, but for its last entry"),
        );
        return;
    };
    let mut seen = HashSet::new();
    for func in funcs {
        // What is missing is filled in by the code.
        if !touched || func.name.is_some() && func.replacement.is_some() {
            one(name, func, report);
        }
        if let Some(func_name) = &func.name {
            // A function without a position and the first of several have the same directory.
            if !seen.insert((func_name, func.position.max(1))) {
                report.add(
                    Finding::error(
                        Rule::FunctionTwice,
                        Subject::symbol(name, func_name),
                        format!("{func_name} is replaced twice"),
                    )
                    .note(EXISTS)
                    .advice("keep one of the replacements"),
                );
            }
        }
    }
}

fn module_name(name: &str, kernel: &Kernel, report: &mut Report) {
    let error = |text: String| Finding::error(Rule::Object, Subject::object(name), text);
    let never = "the core waits for a module of this name, which never comes: nothing is replaced";
    if name.len() >= MODULE_NAME_LEN {
        report.add(error(format!("{name} is too long for the name of a module")).note(REFUSED));
    } else if name == "vmlinux" {
        report.add(
            error("the kernel itself is declared as if it were a module".into())
                .note(never)
                .advice("leave the name of the object out: NULL is the kernel")
                .taken(),
        );
    } else if name.contains('-') {
        report.add(
            error(format!(
                "no loaded module has a name with a dash, such as {name}"
            ))
            .note(never)
            .advice(format!("write {}", name.replace('-', "_")))
            .taken(),
        );
    } else if kernel.built_in.contains(name) {
        report.add(
            error(format!("{name} is no module of this kernel, but built in"))
                .note(never)
                .advice("declare its functions in the object without a name")
                .taken(),
        );
    } else if !kernel.symbols.contains_key(name)
        && kernel
            .modules
            .as_ref()
            .is_some_and(|modules| !modules.contains(name))
    {
        // It may be one that is built outside of the kernel.
        report.add(
            Finding::new(
                Rule::Object,
                Level::Warning,
                Subject::object(name),
                format!("this kernel has no module {name}"),
            )
            .note("the core waits for it, and replaces its functions when it comes")
            .advice("look at the name; a module from elsewhere can be named with --target"),
        );
    }
}

fn one(object: &str, func: &Func, report: &mut Report) {
    let Some(name) = &func.name else {
        report.add(
            Finding::error(
                Rule::Declaration,
                Subject::object(object),
                "a function has a replacement, but no name",
            )
            .note(REFUSED),
        );
        return;
    };
    let error =
        |text: String| Finding::error(Rule::Declaration, Subject::symbol(object, name), text);
    if name.len() >= KSYM_NAME_LEN {
        report.add(error(format!("{name} is too long for the name of a function")).note(REFUSED));
    }
    match &func.replacement {
        None => report.add(error(format!("{name} has no replacement")).note(REFUSED)),
        Some(replacement) if !replacement.is_code => {
            let what = replacement.name.as_deref().unwrap_or("what replaces it");
            report.add(
                error(format!(
                    "{what} replaces {name}, but is not in code that stays"
                ))
                .note("it is in data, or in code that is freed after the initialisation")
                .advice("take __init, and other sections, off the replacement"),
            );
        }
        Some(_) => (),
    }
}

fn states(declaration: &Declaration, report: &mut Report) {
    let mut seen = HashSet::new();
    for state in declaration.states.iter().flatten() {
        if !seen.insert(state.id) {
            report.add(
                Finding::new(
                    Rule::Declaration,
                    Level::Warning,
                    Subject::module(),
                    format!("the state {:#x} is declared twice", state.id),
                )
                .note("the core sees the first one only"),
            );
        }
    }
}
