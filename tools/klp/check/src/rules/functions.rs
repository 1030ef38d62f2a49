// SPDX-License-Identifier: GPL-2.0

//! The functions that are replaced: whether they are there, clear, and can be intercepted.

use std::collections::{HashMap, HashSet};

use crate::{
    declaration::{Func, Object},
    kernel::{Kernel, Symbol, Symbols},
    report::{Finding, Level, Report, Rule, Subject},
    Patch,
};

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
                .note(super::why_unknown(kernel, name))
                .advice(super::how_to_know(name)),
            ),
        }
    }
}

fn of_object(kernel: &Kernel, object: &Object, symbols: &Symbols, report: &mut Report) {
    let clones = Clones::of(symbols);
    let names = object.funcs.iter().flatten();
    let names: HashSet<_> = names.filter_map(|func| func.name.as_deref()).collect();
    let mut replaced: HashMap<u64, &str> = HashMap::new();
    let mut moved = vec![];
    for func in object.funcs.iter().flatten() {
        let Some(name) = &func.name else {
            continue;
        };
        let Some(symbol) = find(kernel, object, symbols, &clones, func, report) else {
            continue;
        };
        if !is_as_made_for(func, symbol) {
            match symbols.named(name) {
                [_] => moved.push(name.clone()),
                found => report.add(misplaced(object.name(), func, name, found)),
            }
        }
        one(kernel, object.name(), symbols, name, symbol, report);
        copies(object.name(), &names, &clones, name, report);
        if symbol.address != 0 {
            match replaced.insert(symbol.address, name) {
                Some(other) if other != name => report.add(
                    Finding::error(
                        Rule::FunctionTwice,
                        Subject::symbol(object.name(), name),
                        format!("{name} and {other} are names of the same function"),
                    )
                    .note("only one of the replacements would run")
                    .advice("keep one of them")
                    .taken(),
                ),
                _ => (),
            }
        }
    }
    if !moved.is_empty() {
        report.add(
            Finding::new(
                Rule::Vermagic,
                Level::Warning,
                Subject::object(object.name()),
                format!(
                    "functions were elsewhere in the kernel that the patch was made for: {}",
                    super::list(&moved)
                ),
            )
            .note("that was another build; this kernel goes by their names, and takes the patch")
            .advice("build the patch for this kernel"),
        );
    }
}

/// The kernel lies at a multiple of this, wherever it is put at boot (`CONFIG_PHYSICAL_ALIGN` of
/// x86-64 cannot be less).
const KERNEL_ALIGNMENT: u64 = 0x20_0000;

/// Whether a symbol may be the function that the patch was made for, by where it is.
fn is_as_made_for(func: &Func, symbol: &Symbol) -> bool {
    match (func.made_for, symbol.address) {
        (None, _) | (_, 0) => true,
        (Some(address), found) => address % KERNEL_ALIGNMENT == found % KERNEL_ALIGNMENT,
    }
}

/// One of several functions of a name, which is elsewhere than the one that the patch was made for.
/// kpatch-build counts positions as they come in the table of symbols of vmlinux, file by file, and
/// the kernel by address: for most names that is the same.
fn misplaced(object: &str, func: &Func, name: &str, found: &[Symbol]) -> Finding {
    let subject = Subject::symbol(object, name);
    let position = func.position;
    let right = (1..).zip(found);
    let right = right.filter(|(_, symbol)| symbol.address != 0 && is_as_made_for(func, symbol));
    let right: Vec<_> = right
        .map(|(number, _)| format!("number {number}"))
        .collect();
    if right.is_empty() {
        Finding::unknown(
            Rule::FunctionPosition,
            subject,
            format!(
                "whether number {position} of the symbols {name} is the right one is not known"
            ),
        )
        .note("none of them is where the patch has it: it was made for another build of the kernel")
        .advice("build the patch for this kernel: positions differ between builds")
    } else {
        Finding::error(
            Rule::FunctionPosition,
            subject,
            format!(
                "the patch replaces number {position} of the symbols {name}, and was made for {}",
                right.join(" or ")
            ),
        )
        .note("kpatch-build counts in the order of the table of symbols, the kernel by address")
        .note("another function would be replaced")
        .advice("replace the functions that call it, or build the patch by klp build")
        .taken()
    }
}

/// The function that is meant; what is wrong is reported.
fn find<'a>(
    kernel: &Kernel,
    object: &Object,
    symbols: &'a Symbols,
    clones: &Clones<'_>,
    func: &Func,
    report: &mut Report,
) -> Option<&'a Symbol> {
    let object = object.name();
    let name = func.name.as_deref()?;
    let found = symbols.named(name);
    let error = |rule, text| {
        let finding = Finding::error(rule, Subject::symbol(object, name), text)
            .notes(describe(found))
            .note(format!("looked at {}", symbols.source));
        super::refused(kernel, object, finding)
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
            report.add(missing(kernel, object, symbols, clones, name));
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

fn missing(
    kernel: &Kernel,
    object: &str,
    symbols: &Symbols,
    clones: &Clones<'_>,
    name: &str,
) -> Finding {
    let finding = Finding::error(
        Rule::FunctionMissing,
        Subject::symbol(object, name),
        format!("{object} has no function {name}"),
    )
    .note(format!("looked at {}", symbols.source));
    let finding = super::refused(kernel, object, finding);

    let clones = clones.made_of(name);
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

/// The functions that a compiler made of others, by the names of those.
struct Clones<'a>(HashMap<&'a str, Vec<&'a str>>);

impl<'a> Clones<'a> {
    fn of(symbols: &'a Symbols) -> Self {
        let mut clones: HashMap<_, Vec<_>> = HashMap::new();
        for name in symbols.names() {
            for mark in [".isra.", ".constprop.", ".part.", ".llvm."] {
                for (end, _) in name.match_indices(mark) {
                    clones.entry(&name[..end]).or_default().push(name);
                }
            }
        }
        Self(clones)
    }

    /// The names of those that were made of a function.
    fn made_of(&self, name: &str) -> Vec<String> {
        let clones = self.0.get(name).into_iter().flatten();
        let mut clones: Vec<String> = clones.map(|name| (*name).to_owned()).collect();
        clones.sort();
        clones.dedup();
        clones
    }
}

/// What is wrong with a function that is there.
fn one(
    kernel: &Kernel,
    object: &str,
    symbols: &Symbols,
    name: &str,
    symbol: &Symbol,
    report: &mut Report,
) {
    let error = |rule, text| Finding::error(rule, Subject::symbol(object, name), text);
    let refused = |finding| super::refused(kernel, object, finding);
    if !symbol.function {
        report.add(refused(error(
            Rule::FunctionTraceable,
            format!("{name} of {object} is data, not a function"),
        )));
        return;
    }
    if symbol.init {
        let finding = error(
            Rule::FunctionInit,
            format!("{name} is __init: it is gone when {object} has been initialised"),
        );
        let finding = if super::is_late(kernel, object) {
            // It is there when the module comes, so that the patch is applied.
            finding
                .note("it runs once, and its memory is given back while it is patched")
                .taken()
        } else {
            refused(finding.note("it has run, and will not run again"))
        };
        report.add(finding.advice("change what it left behind, in a callback"));
        return;
    }
    match symbols.is_traceable(symbol) {
        Some(true) => (),
        Some(false) => report.add(
            refused(
                error(
                    Rule::FunctionTraceable,
                    format!("ftrace cannot intercept {name} of {object}"),
                )
                .note(why_untraceable(symbols, name, symbol)),
            )
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
fn copies(
    object: &str,
    replaced: &HashSet<&str>,
    clones: &Clones<'_>,
    name: &str,
    report: &mut Report,
) {
    let mut clones = clones.made_of(name);
    clones.retain(|other| {
        // The rest of a function is only entered from the part that is replaced.
        !replaced.contains(other.as_str()) && !other.ends_with(".cold")
    });
    if !clones.is_empty() {
        let what = super::list(&clones);
        report.add(
            Finding::new(
                Rule::FunctionCopies,
                Level::Warning,
                Subject::symbol(object, name),
                format!("the compiler made copies of {name}, which stay in use: {what}"),
            )
            .note("some callers do not call the function, but the copy")
            .advice("replace the functions that call the copies, too"),
        );
    }
}
