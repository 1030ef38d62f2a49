// SPDX-License-Identifier: GPL-2.0

//! The functions that are replaced: whether they are there, clear, and can be intercepted.

use std::collections::HashMap;

use crate::{
    declaration::{Func, Object},
    kernel::{Kernel, Symbol, Symbols},
    report::{Finding, Level, Report, Rule, Subject},
    Patch,
};

const REFUSED: &str = "the core refuses the patch (EINVAL)";

pub(super) fn check(patch: &Patch<'_>, kernel: &Kernel, report: &mut Report) {
    let Ok(declaration) = &patch.declaration else {
        return;
    };
    for object in &declaration.objects {
        let name = object.name();
        match kernel.symbols.get(name) {
            Some(symbols) => of_object(kernel, object, symbols, report),
            None if object.funcs.as_ref().is_none_or(Vec::is_empty) => (),
            None => report.add(
                Finding::unknown(
                    Rule::FunctionMissing,
                    Subject::object(name),
                    format!("whether {name} has the functions is not known"),
                )
                .note(format!("the symbols of {name} are not known"))
                .advice(super::how_to_know(name)),
            ),
        }
    }
}

fn of_object(kernel: &Kernel, object: &Object, symbols: &Symbols, report: &mut Report) {
    let mut replaced: HashMap<u64, &str> = HashMap::new();
    for func in object.funcs.iter().flatten() {
        let Some(name) = &func.name else {
            continue;
        };
        let Some(symbol) = find(kernel, object, symbols, func, name, report) else {
            continue;
        };
        one(object.name(), symbols, name, symbol, report);
        copies(object, symbols, name, report);
        if symbol.address != 0 {
            match replaced.insert(symbol.address, name) {
                Some(other) if other != name => report.add(
                    Finding::error(
                        Rule::FunctionTwice,
                        Subject::symbol(object.name(), name),
                        format!("{name} and {other} are names of the same function"),
                    )
                    .note("only one of the replacements would run")
                    .advice("keep one of them"),
                ),
                _ => (),
            }
        }
    }
}

/// The function that is meant; what is wrong is reported.
fn find<'a>(
    kernel: &Kernel,
    object: &Object,
    symbols: &'a Symbols,
    func: &Func,
    name: &str,
    report: &mut Report,
) -> Option<&'a Symbol> {
    let object = object.name();
    let found = symbols.named(name);
    let error = |rule, text| {
        Finding::error(rule, Subject::symbol(object, name), text)
            .notes(describe(found))
            .note(format!("looked at {}", symbols.source))
            .note(REFUSED)
    };
    if super::changes_positions(object, found) {
        report.add(
            error(
                Rule::FunctionPosition,
                format!("positions of {name} in {object} change when that is initialised"),
            )
            .note(
                "some of the functions are gone then, and which one is meant depends on when the \
                   patch comes",
            ),
        );
        return None;
    }
    match (found.len() as u64, func.position) {
        (0, _) => {
            report.add(missing(kernel, object, symbols, name));
            None
        }
        (1, 0 | 1) => found.first(),
        (count, 0) => {
            report.add(
                error(
                    Rule::FunctionAmbiguous,
                    format!(
                        "{object} has {count} symbols {name}, and the patch does not say \
                             which"
                    ),
                )
                .advice(format!("set .old_sympos of {name}, from 1 to {count}")),
            );
            None
        }
        (count, position) if position > count => {
            report.add(
                error(
                    Rule::FunctionPosition,
                    format!(
                        "{object} has {count} symbols {name}, and the patch replaces number \
                             {position}"
                    ),
                )
                .advice("build the patch for this kernel: positions differ between builds"),
            );
            None
        }
        (count, position) => {
            report.add(
                Finding::new(
                    Rule::FunctionPosition,
                    Level::Note,
                    Subject::symbol(object, name),
                    format!("number {position} of {count} symbols {name} is replaced"),
                )
                .notes(describe(found)),
            );
            found.get(usize::try_from(position).ok()?.checked_sub(1)?)
        }
    }
}

/// The symbols of a name, for people.
fn describe(found: &[Symbol]) -> Vec<String> {
    let numbered = (1..).zip(found).take(super::LISTED);
    let lines = numbered.map(|(number, symbol)| {
        let kind = if symbol.function { "function" } else { "data" };
        match symbol.address {
            0 => format!("number {number}: {kind}"),
            address => format!("number {number}: {kind} at {address:#x}"),
        }
    });
    if found.len() > 1 {
        lines.collect()
    } else {
        vec![]
    }
}

fn missing(kernel: &Kernel, object: &str, symbols: &Symbols, name: &str) -> Finding {
    let finding = Finding::error(
        Rule::FunctionMissing,
        Subject::symbol(object, name),
        format!("{object} has no function {name}"),
    )
    .note(format!("looked at {}", symbols.source))
    .note(REFUSED);

    let mut clones: Vec<_> = symbols
        .names()
        .filter(|other| is_clone(other, name))
        .map(Into::into)
        .collect();
    clones.sort();
    if !clones.is_empty() {
        return finding
            .note(format!(
                "the compiler made other functions of it: {}",
                super::list(&clones)
            ))
            .advice("replace its callers: what such a function gets is not what its source says");
    }
    let others = kernel
        .symbols
        .iter()
        .filter(|(other, symbols)| *other != object && !symbols.named(name).is_empty());
    let others: Vec<_> = others.map(|(other, _)| other.clone()).collect();
    if !others.is_empty() {
        return finding.advice(format!("declare it in the object {}", others.join(" or ")));
    }
    let call = name.strip_prefix("sys_").unwrap_or(name);
    let call = format!("__x64_sys_{call}");
    if !symbols.named(&call).is_empty() {
        return finding.advice(format!("the function of the system call is called {call}"));
    }
    finding.advice(
        "if the source has it, it was inlined everywhere: replace the functions that use it",
    )
}

/// Whether a function is a copy that a compiler made of another one.
fn is_clone(other: &str, name: &str) -> bool {
    let Some(suffix) = other.strip_prefix(name) else {
        return false;
    };
    [".isra.", ".constprop.", ".part.", ".llvm."]
        .iter()
        .any(|clone| suffix.starts_with(clone))
}

/// What is wrong with a function that is there.
fn one(object: &str, symbols: &Symbols, name: &str, symbol: &Symbol, report: &mut Report) {
    let error = |rule, text| Finding::error(rule, Subject::symbol(object, name), text);
    if !symbol.function {
        report.add(
            error(
                Rule::FunctionTraceable,
                format!("{name} of {object} is data, not a function"),
            )
            .note(REFUSED),
        );
        return;
    }
    if symbol.init {
        report.add(
            error(
                Rule::FunctionInit,
                format!("{name} is __init: it is gone when {object} has been initialised"),
            )
            .note("it has run, and will not run again")
            .note(REFUSED)
            .advice("change what it left behind, in a callback"),
        );
        return;
    }
    match symbols.is_traceable(symbol) {
        Some(true) => (),
        Some(false) => report.add(
            error(
                Rule::FunctionTraceable,
                format!("ftrace cannot intercept {name} of {object}"),
            )
            .note(why_untraceable(symbols, name, symbol))
            .note(REFUSED)
            .advice("replace the functions that call it"),
        ),
        None => report.add(
            Finding::unknown(
                Rule::FunctionTraceable,
                Subject::symbol(object, name),
                format!("whether ftrace can intercept {name} of {object} is not known"),
            )
            .note(format!("looked at {}", symbols.source))
            .advice(super::how_to_know(object)),
        ),
    }
    if symbol.size.is_none() {
        report.add(
            Finding::unknown(
                Rule::FunctionSize,
                Subject::symbol(object, name),
                format!("the size of {name} of {object} is not known"),
            )
            .note("the core needs it to look for the function on stacks"),
        );
    }
}

fn why_untraceable(symbols: &Symbols, name: &str, symbol: &Symbol) -> String {
    let ranges = [
        (
            "__noinstr_text_start",
            "__noinstr_text_end",
            "it is noinstr: it runs where nothing may be traced",
        ),
        (
            "__kprobes_text_start",
            "__kprobes_text_end",
            "it is __kprobes, which keeps probes and ftrace off",
        ),
        (
            "__entry_text_start",
            "__entry_text_end",
            "it is entry code, in assembly",
        ),
        (
            "__sched_text_start",
            "__sched_text_end",
            "it is part of the scheduler, and notrace",
        ),
    ];
    for (start, end, reason) in ranges {
        if symbols.is_between(start, end, symbol.address) {
            return reason.into();
        }
    }
    if name.starts_with("_R") {
        return "it is written in Rust, which is not compiled for ftrace".into();
    }
    "it is notrace (inline implies that), in assembly, or its directory is compiled without \
     ftrace"
        .into()
}

/// Copies that the compiler made beside the function, which keep running.
fn copies(object: &Object, symbols: &Symbols, name: &str, report: &mut Report) {
    let replaced = |other: &str| {
        let mut funcs = object.funcs.iter().flatten();
        funcs.any(|func| func.name.as_deref() == Some(other))
    };
    let mut clones: Vec<String> = symbols
        .names()
        .filter(|other| is_clone(other, name) && !replaced(other))
        // The rest of a function is only entered from the part that is replaced.
        .filter(|other| !other.ends_with(".cold"))
        .map(Into::into)
        .collect();
    clones.sort();
    if !clones.is_empty() {
        let what = super::list(&clones);
        report.add(
            Finding::new(
                Rule::FunctionCopies,
                Level::Warning,
                Subject::symbol(object.name(), name),
                format!("the compiler made copies of {name}, which stay in use: {what}"),
            )
            .note("some callers do not call the function, but the copy")
            .advice("replace the functions that call the copies, too"),
        );
    }
}
