// SPDX-License-Identifier: GPL-2.0

//! What kernel and module must agree on: the types of replacements, and structures.

use std::collections::HashSet;

use crate::{
    declaration::{Declaration, Shape},
    kernel::Kernel,
    report::{Finding, Level, Report, Rule, Subject},
    types::{Difference, ModuleTypes, Prototype, Structure, Types},
    Patch,
};

/// The most structures of which each is told.
const TOLD: usize = 8;

pub(super) fn check(patch: &Patch<'_>, kernel: &Kernel, report: &mut Report) {
    let Ok(declaration) = &patch.declaration else {
        return;
    };
    own_layout(patch, declaration, kernel, report);
    let Some(types) = &kernel.types else {
        for rule in [Rule::Prototype, Rule::Structure] {
            report.add(no_information(
                rule,
                "the kernel has no type information (BTF)",
            ));
        }
        return;
    };
    let functions: HashSet<&str> = declaration
        .objects
        .iter()
        .flat_map(|object| object.funcs.iter().flatten())
        .filter_map(|func| func.replacement.as_ref()?.name.as_deref())
        .collect();
    match ModuleTypes::read(patch.data, Some(types), &functions) {
        Ok(module) => {
            let used = prototypes(declaration, kernel, types, &module, report);
            structures(types, &module, &used, report);
        }
        Err(reason) => {
            for rule in [Rule::Prototype, Rule::Structure] {
                report.add(no_information(rule, &reason));
            }
        }
    }
}

fn no_information(rule: Rule, reason: &str) -> Finding {
    let what = match rule {
        Rule::Prototype => "whether the replacements have the types of the functions is not known",
        _ => "whether kernel and module agree on structures is not known",
    };
    Finding::new(rule, Level::NoInformation, Subject::module(), what).note(reason)
}

/// The structures of the kernel that the loader and the core themselves read in a module.
fn own_layout(patch: &Patch<'_>, declaration: &Declaration, kernel: &Kernel, report: &mut Report) {
    let Some(types) = &kernel.types else {
        return;
    };
    let mut differ = |name: &str, kernel: u64, module: u64, note: &str| {
        report.add(
            Finding::error(
                Rule::Structure,
                Subject::name(name),
                format!("struct {name} of the module is not that of the kernel"),
            )
            .note(format!(
                "it has {kernel} bytes in the kernel, and {module} in the module"
            ))
            .note(note)
            .advice("build the patch for this kernel"),
        );
    };
    let this_module = patch.file.section(".gnu.linkonce.this_module");
    if let (Some(wanted), Some(index)) = (types.size_of("module"), this_module) {
        let size = patch.file.sections[index].size;
        if size != wanted {
            differ(
                "module",
                wanted,
                size,
                "the module loader refuses it (ENOEXEC)",
            );
        }
    }
    if declaration.shape != Shape::Static {
        return;
    }
    if let (Some(wanted), Some(sizes)) = (types.layout(), declaration.sizes) {
        let note = "the core would read its lists wrongly";
        if sizes.func != wanted.func {
            differ("klp_func", wanted.func, sizes.func, note);
        }
        if sizes.object != wanted.object {
            differ("klp_object", wanted.object, sizes.object, note);
        }
    }
}

/// Compares the types of functions; returns the structures that they get.
fn prototypes(
    declaration: &Declaration,
    kernel: &Kernel,
    types: &Types,
    module: &ModuleTypes,
    report: &mut Report,
) -> HashSet<String> {
    let mut used = HashSet::new();
    for object in &declaration.objects {
        let types = match &object.name {
            None => Some(types),
            Some(name) => kernel.module_types.get(name),
        };
        let from_file = object.name.as_ref().and_then(|name| {
            let names = object.funcs.iter().flatten();
            let names = names.filter_map(|func| func.name.as_deref()).collect();
            ModuleTypes::read(kernel.files.get(name)?, kernel.types.as_ref(), &names).ok()
        });
        for func in object.funcs.iter().flatten() {
            let (Some(name), Some(replacement)) = (&func.name, &func.replacement) else {
                continue;
            };
            let mut original = types.map(|types| types.functions(name)).unwrap_or_default();
            if let (true, Some(file)) = (original.is_empty(), &from_file) {
                original = file.functions.get(name).cloned().unwrap_or_default();
            }
            let found = replacement.name.as_ref();
            let found = found.and_then(|name| module.functions.get(name));
            let found = found.map_or(&[][..], Vec::as_slice);
            for one in found {
                used.extend(one.structures().map(Into::into));
            }
            compare(object.name(), name, &original, found, report);
        }
    }
    used
}

fn compare(
    object: &str,
    name: &str,
    original: &[Prototype],
    replacement: &[Prototype],
    report: &mut Report,
) {
    let subject = || Subject::symbol(object, name);
    let reason = match (original, replacement) {
        ([], _) => "the type information of the function's object does not have it",
        (_, []) => "the module's type information does not have the replacement",
        _ => "",
    };
    if !reason.is_empty() {
        report.add(
            Finding::new(
                Rule::Prototype,
                Level::NoInformation,
                subject(),
                format!("whether the replacement of {name} has its type is not known"),
            )
            .note(reason),
        );
        return;
    }
    let pairs = original
        .iter()
        .flat_map(|one| replacement.iter().map(|other| one.differences(other)));
    // Several functions of a name have one type each, and which is which is not told.
    let Some((difference, lines)) = pairs.min_by_key(|(difference, _)| *difference) else {
        return;
    };
    let (level, text) = match difference {
        Difference::None => return,
        Difference::Sign => (
            Level::Warning,
            format!("the replacement of {name} takes a number with another sign"),
        ),
        Difference::Type => (
            Level::Error,
            format!("the replacement of {name} has another type than the function"),
        ),
    };
    let finding = Finding::new(Rule::Prototype, level, subject(), text).notes(lines);
    report.add(match level {
        Level::Error => finding
            .note("callers pass what the function expects, and the replacement misreads it")
            .advice("give the replacement the parameters and the result of the function"),
        _ => finding,
    });
}

/// Compares the layouts of structures that both kernel and module have.
fn structures(types: &Types, module: &ModuleTypes, used: &HashSet<String>, report: &mut Report) {
    let mut differ = 0;
    for (name, found) in &module.structures {
        let kernel = types.structures(name);
        if kernel.is_empty() {
            continue;
        }
        for one in found {
            // A structure of the module's own source may have the name by chance, unless a function
            // of the kernel passes it.
            if !one.shared && !used.contains(name) {
                continue;
            }
            if kernel.iter().any(|other| other.agrees(&one.structure)) {
                continue;
            }
            differ += 1;
            if differ <= TOLD {
                report.add(mismatch(name, &kernel, &one.structure));
            }
            break;
        }
    }
    if differ > TOLD {
        report.add(Finding::error(
            Rule::Structure,
            Subject::module(),
            format!("{} more structures have another layout", differ - TOLD),
        ));
    }
}

fn mismatch(name: &str, kernel: &[Structure], module: &Structure) -> Finding {
    let differences = kernel.iter().map(|kernel| kernel.difference(module));
    Finding::error(
        Rule::Structure,
        Subject::name(name),
        format!("struct {name} has another layout in the module than in the kernel"),
    )
    .notes(differences.take(super::LISTED))
    .note("the patch would read and write other members than it means to")
    .advice(
        "build the patch with the headers of this kernel; data that is added to what exists \
             belongs in shadow variables (klp_shadow_alloc())",
    )
}
