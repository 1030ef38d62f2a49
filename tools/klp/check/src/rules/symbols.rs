// SPDX-License-Identifier: GPL-2.0

//! Ordinary references, which the module loader resolves against exported symbols.

use std::collections::{HashMap, HashSet};

use crate::{
    exports::{Export, Exports},
    file::{Home, Symbol},
    kernel::Kernel,
    report::{Finding, Level, Report, Rule, Subject},
    Patch,
};

/// Licences that the kernel takes for compatible with the GPL.
const GPL: [&str; 6] = [
    "GPL",
    "GPL v2",
    "GPL and additional rights",
    "Dual BSD/GPL",
    "Dual MIT/GPL",
    "Dual MPL/GPL",
];

pub(super) fn check(patch: &Patch<'_>, kernel: &Kernel, report: &mut Report) {
    for symbol in &patch.file.symbols {
        // The module loader passes over what link-time optimisation leaves behind.
        if symbol.home == Home::Common && !symbol.name.starts_with("__gnu_lto") {
            report.add(
                Finding::error(
                    Rule::Symbol,
                    Subject::name(&symbol.name),
                    format!("{} has no place in the module", symbol.name),
                )
                .note("the module loader refuses the module (ENOEXEC)")
                .advice("compile with -fno-common, as the kernel's build system does"),
            );
        }
    }
    let undefined = patch.file.symbols.iter().filter(|symbol| {
        // Old assemblers leave the second one behind, and the loader passes over it.
        symbol.home == Home::Undefined
            && !symbol.name.is_empty()
            && symbol.name != "_GLOBAL_OFFSET_TABLE_"
    });
    let undefined: Vec<_> = undefined.collect();
    let Some(exports) = &kernel.exports else {
        if !undefined.is_empty() {
            report.add(
                Finding::unknown(
                    Rule::Symbol,
                    Subject::module(),
                    "which symbols the kernel exports is not known",
                )
                .note("there is no Module.symvers of this kernel")
                .advice(
                    "install the headers of this kernel, or name its build directory with \
                         --kernel",
                ),
            );
        }
        return;
    };
    let versions = Versions::read(patch);
    let imported = patch.module.all_info();
    let imported = imported.filter(|(key, _)| *key == "import_ns");
    let imported: HashSet<_> = imported.map(|(_, namespace)| namespace).collect();
    for symbol in undefined {
        match exports.get(&symbol.name) {
            None if symbol.weak => (),
            None if !exports.are_complete() => report.add(
                Finding::unknown(
                    Rule::Symbol,
                    Subject::name(&symbol.name),
                    format!("whether a module exports {} is not known", symbol.name),
                )
                .note("the kernel itself does not, and there is no Module.symvers")
                .advice("install the headers of this kernel, or name its Module.symvers"),
            ),
            None => report.add(not_exported(patch, kernel, symbol)),
            Some(export) => {
                usable(patch, kernel, &imported, symbol, export, report);
                version(&versions, kernel, symbol, export, report);
            }
        }
    }
    layout(&versions, exports, kernel, report);
    if !exports.are_described() {
        let note = "there is no Module.symvers of this kernel";
        let mut unknown = |rule: Rule, what: &str| {
            let what = format!("{what} of what the kernel exports are not known");
            report
                .add(Finding::new(rule, Level::NoInformation, Subject::module(), what).note(note));
        };
        unknown(Rule::Symbol, "licences and name spaces");
        if demands_versions(kernel) {
            unknown(Rule::Modversions, "checksums");
        }
    }
}

/// Whether the kernel wants a checksum for each symbol.
fn demands_versions(kernel: &Kernel) -> bool {
    kernel
        .vermagic
        .as_deref()
        .is_some_and(|magic| magic.split(' ').any(|word| word == "modversions"))
}

fn not_exported(patch: &Patch<'_>, kernel: &Kernel, symbol: &Symbol<'_>) -> Finding {
    let name = &*symbol.name;
    let finding = Finding::error(
        Rule::Symbol,
        Subject::name(name),
        format!("neither the kernel nor a module exports {name}"),
    )
    .note("the module loader refuses the module (ENOENT)");
    let has = kernel
        .symbols
        .iter()
        .filter(|(_, symbols)| !symbols.named(name).is_empty());
    let has: Vec<_> = has.map(|(object, _)| object.as_str()).collect();
    if name.starts_with(".klp.sym.") {
        finding
            .note("the symbol has the name of a livepatch symbol, but is not marked as one")
            .advice("convert the module again: klp convert; do not strip it or change its symbols")
    } else if has.is_empty() {
        finding.advice("look at the name; if a module exports it, name its Module.symvers")
    } else {
        let file = patch.module.name().replace('_', "-");
        finding
            .note(format!("{} has it, but does not export it", has.join(", ")))
            .advice(format!(
                "make it a livepatch relocation: klp convert --auto {file}.ko"
            ))
    }
}

fn usable(
    patch: &Patch<'_>,
    kernel: &Kernel,
    imported: &HashSet<&str>,
    symbol: &Symbol<'_>,
    export: &Export,
    report: &mut Report,
) {
    let name = &*symbol.name;
    let subject = || Subject::symbol(&export.object, name);
    let licence = patch.module.info("license").unwrap_or("unspecified");
    if export.gpl_only && !GPL.contains(&licence) {
        report.add(
            Finding::error(
                Rule::Symbol,
                subject(),
                format!("{name} is for modules under the GPL, and this one's licence is {licence}"),
            )
            .note("the module loader does not find the symbol (ENOENT)"),
        );
    }
    if let Some(namespace) = &export.namespace {
        if !is_for(namespace, patch.module.name()) && !imported.contains(namespace.as_str()) {
            let (level, note) = if kernel.lax_namespaces {
                (Level::Warning, "this kernel only warns of that")
            } else {
                (
                    Level::Error,
                    "the module loader refuses the module (EINVAL)",
                )
            };
            report.add(
                Finding::new(
                    Rule::Symbol,
                    level,
                    subject(),
                    format!("{name} is in the name space {namespace}, which is not imported"),
                )
                .note(note)
                .advice(format!("write MODULE_IMPORT_NS(\"{namespace}\");")),
            );
        }
    }
    if export.object != "vmlinux" && !symbol.weak {
        if let Some(loaded) = &kernel.loaded {
            if !loaded.contains(&export.object) {
                report.add(
                    Finding::error(
                        Rule::Symbol,
                        subject(),
                        format!(
                            "{name} is exported by {}, which is not loaded",
                            export.object
                        ),
                    )
                    .note("the module loader refuses the patch (ENOENT) until it is")
                    .advice(format!(
                        "load it first: modprobe {}; or make the reference a livepatch relocation",
                        export.object
                    )),
                );
            }
        }
    }
}

/// Whether a name space is one that lists the modules which may use it.
fn is_for(namespace: &str, module: &str) -> bool {
    let Some(names) = namespace.strip_prefix("module:") else {
        return false;
    };
    names.split(',').any(|name| match name.strip_suffix('*') {
        Some(prefix) => module.starts_with(prefix),
        None => module == name,
    })
}

/// The checksums of the symbols that a module uses.
struct Versions {
    /// [`None`] if the module has no table of them.
    sums: Option<HashMap<String, u32>>,
    /// Whether the table is the one for long names.
    extended: bool,
}

impl Versions {
    fn read(patch: &Patch<'_>) -> Self {
        let data = |name| {
            let index = patch.file.section(name)?;
            Some(patch.file.sections[index].data)
        };
        let word = |bytes: &[u8]| {
            let mut word = [0; 4];
            word.copy_from_slice(bytes);
            u32::from_le_bytes(word)
        };
        if let (Some(sums), Some(names)) = (data("__version_ext_crcs"), data("__version_ext_names"))
        {
            let names = names.split(|byte| *byte == 0);
            let names = names.map(|name| String::from_utf8_lossy(name).into_owned());
            return Self {
                sums: Some(names.zip(sums.chunks_exact(4).map(word)).collect()),
                extended: true,
            };
        }
        // Entries of the checksum in 8 bytes and the name in 56.
        let sums = data("__versions").map(|entries| {
            let entries = entries.chunks_exact(64);
            let entries = entries.map(|entry| {
                let name = entry[8..].split(|byte| *byte == 0).next();
                let name = String::from_utf8_lossy(name.unwrap_or_default());
                (name.into_owned(), word(&entry[..4]))
            });
            entries.collect()
        });
        Self {
            sums,
            extended: false,
        }
    }
}

fn version(
    versions: &Versions,
    kernel: &Kernel,
    symbol: &Symbol<'_>,
    export: &Export,
    report: &mut Report,
) {
    let Versions { sums, extended } = versions;
    let (Some(checksum), Some(versions)) = (export.checksum, sums) else {
        return;
    };
    let name = &*symbol.name;
    match versions.get(name) {
        Some(built) if *built == checksum => (),
        Some(built) => report.add(
            Finding::error(
                Rule::Modversions,
                Subject::symbol(&export.object, name),
                format!("{name} has another type in this kernel than the module was built with"),
            )
            .note(format!(
                "its checksum is {checksum:#010x} in the kernel, and {built:#010x} in the module"
            ))
            .note("the module loader refuses the module (EINVAL)")
            .advice("build the patch for this kernel"),
        ),
        None if demands_versions(kernel) => {
            let finding = Finding::error(
                Rule::Modversions,
                Subject::symbol(&export.object, name),
                format!("the module has no checksum for {name}"),
            )
            .advice("link it again with the Module.symvers of this kernel");
            report.add(if *extended {
                Finding {
                    level: Level::Warning,
                    ..finding.taken()
                }
                .note("the module loader only warns of that")
            } else {
                finding.note("the module loader refuses the module (EINVAL)")
            });
        }
        None => (),
    }
}

/// The checksum for the layout of what the loader itself reads of modules.
fn layout(versions: &Versions, exports: &Exports, kernel: &Kernel, report: &mut Report) {
    let built = versions.sums.as_ref();
    let built = built.and_then(|all| all.get("module_layout"));
    if built.is_none() && demands_versions(kernel) {
        let finding = Finding::error(
            Rule::Modversions,
            Subject::module(),
            "the module has no checksum for struct module, which this kernel demands",
        )
        .advice("link it again with the Module.symvers of this kernel");
        report.add(match versions {
            Versions { sums: None, .. } => super::module::forced(kernel, finding),
            Versions { extended: true, .. } => Finding {
                level: Level::Warning,
                ..finding.taken()
            }
            .note("the module loader only warns of that"),
            _ => finding.note("the module loader refuses the module (ENOEXEC)"),
        });
    }
    let export = exports.get("module_layout");
    if let (Some(built), Some(wanted)) = (built, export.and_then(|export| export.checksum)) {
        if *built != wanted {
            report.add(
                Finding::error(
                    Rule::Modversions,
                    Subject::module(),
                    "the module was built with another struct module than this kernel has",
                )
                .note("the module loader refuses the module (ENOEXEC)")
                .advice("build the patch for this kernel"),
            );
        }
    }
}
