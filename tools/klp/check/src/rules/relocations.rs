// SPDX-License-Identifier: GPL-2.0

//! Livepatch relocations: what they refer to, and whether they are written in time.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use klp_convert::{late_obstacle, SHF_RELA_LIVEPATCH};
use object::elf;

use crate::{
    declaration::Object,
    file::{File, Home, LivepatchRelocs},
    kernel::Kernel,
    report::{Finding, Report, Rule, Subject},
    Patch,
};

/// What the name of a section with livepatch relocations begins with.
const SECTION: &str = ".klp.rela.";
/// And that of a symbol that they refer to.
const SYMBOL: &str = ".klp.sym.";
/// The lists of references that the kernel's objtool has made livepatch relocations of: they stay,
/// and nothing reads them.
const LEFT_BEHIND: &str = "__klp_relocs.";
/// The kind of a relocation that changes nothing, which objtool makes of those that it has replaced.
const NO_CHANGE: u32 = 0;
/// How many bytes the others change, at least.
const LEAST_CHANGE: u64 = 4;
/// The kernel reads at most so many characters of an object's name.
const OBJECT_LENGTH: usize = 55;
/// And of a symbol's.
const SYMBOL_LENGTH: usize = 511;

/// The parts of a livepatch symbol's name.
struct Name<'a> {
    object: &'a str,
    symbol: &'a str,
    position: u64,
}

/// Reads the name of an object as the kernel's `%55[^.]` does, up to what follows it.
fn object_in(text: &str) -> Option<(&str, &str)> {
    let end = text.find('.').unwrap_or(text.len());
    (1..=OBJECT_LENGTH)
        .contains(&end)
        .then(|| text.split_at(end))
}

impl<'a> Name<'a> {
    /// Reads a name as the kernel does, with `.klp.sym.%55[^.].%511[^,],%lu`.
    fn parse(name: &'a str) -> Option<Self> {
        let (object, rest) = object_in(name.strip_prefix(SYMBOL)?)?;
        let (symbol, rest) = rest.strip_prefix('.')?.split_once(',')?;
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        (1..=SYMBOL_LENGTH).contains(&symbol.len()).then_some(Self {
            object,
            symbol,
            position: rest[..digits].parse().ok()?,
        })
    }
}

/// The objects that livepatch relocations refer to.
pub(crate) fn referred_objects<'a>(file: &'a File<'_>) -> impl Iterator<Item = String> + 'a {
    let symbols = file.symbols.iter();
    symbols
        .filter(|symbol| symbol.home == Home::Livepatch)
        .filter_map(|symbol| Some(Name::parse(&symbol.name)?.object.into()))
}

pub(super) fn check(patch: &Patch<'_>, kernel: &Kernel, report: &mut Report) {
    let mut sections = BTreeMap::new();
    let declared = patch.declaration.as_ref().ok().map(|declaration| {
        let objects = declaration.objects.iter();
        objects.map(Object::name).collect::<HashSet<_>>()
    });
    for relocs in &patch.file.livepatch {
        let name = &*patch.file.sections[relocs.section].name;
        let object = name.strip_prefix(SECTION).and_then(object_in);
        match object {
            Some((object, _)) => {
                sections.insert(relocs.section, object.to_owned());
                section(patch, declared.as_ref(), object, relocs, report);
            }
            None => report.add(
                Finding::error(
                    Rule::Relocation,
                    Subject::module(),
                    format!("the section {name} of livepatch relocations has a wrong name"),
                )
                .note("it must be .klp.rela.OBJECT.SECTION; the core refuses the module (EINVAL)"),
            ),
        }
    }
    unmarked(&patch.file, report);

    // Each symbol once, with the objects of the sections that refer to it.
    let mut symbols: BTreeMap<usize, BTreeSet<&str>> = BTreeMap::new();
    for relocs in &patch.file.livepatch {
        let Some(object) = sections.get(&relocs.section) else {
            continue;
        };
        for reloc in &relocs.relocs {
            symbols.entry(reloc.symbol).or_default().insert(object);
        }
    }
    ordinary(&patch.file, report);
    for (index, users) in symbols {
        symbol(patch, kernel, index, &users, report);
    }
}

/// What there is to say of a section of relocations as a whole.
fn section(
    patch: &Patch<'_>,
    declared: Option<&HashSet<&str>>,
    object: &str,
    relocs: &LivepatchRelocs,
    report: &mut Report,
) {
    let name = &patch.file.sections[relocs.section].name;
    let changed = &patch.file.sections[relocs.target];
    let error = |text: String| Finding::error(Rule::Relocation, Subject::object(object), text);
    if !changed.is_loaded() {
        let finding = error(format!(
            "{name} changes {}, which is not loaded",
            changed.name
        ));
        // The loader passes over those; what is written later is memory of somebody else.
        report.add(finding.taken_if(object == "vmlinux"));
    } else if let Some(outside) = relocs.relocs.iter().find(|reloc| {
        reloc.kind != NO_CHANGE && reloc.offset.saturating_add(LEAST_CHANGE) > changed.size
    }) {
        report.add(
            error(format!(
                "{name} changes {} at {:#x}, where it has ended",
                changed.name, outside.offset
            ))
            .note("the built-in core would write there; the Rust core refuses the module (ENOEXEC)")
            .advice("build the module again"),
        );
    }
    if object == "vmlinux" {
        return;
    }
    if let Some(reason) = late_obstacle(&changed.name) {
        report.add(
            error(format!(
                "{name} changes {}, which {reason}, and {object} may come later",
                changed.name
            ))
            .advice(format!(
                "use the symbol in code that runs when {object} is there"
            )),
        );
    }
    if declared.is_some_and(|declared| !declared.contains(object)) {
        report.add(
            error(format!(
                "{name} is for {object}, of which the patch replaces nothing"
            ))
            .note(
                "the core writes relocations of objects that are patched only: these would stay as \
                   they are, and the code that they are in would use address 0",
            )
            .advice(format!(
                "declare the object {object}, perhaps without functions"
            )),
        );
    }
}

/// Sections that have the name, but not the mark.
fn unmarked(file: &File<'_>, report: &mut Report) {
    for section in &file.sections {
        if section.name.starts_with(SECTION)
            && section.kind == elf::SHT_RELA
            && section.flags & SHF_RELA_LIVEPATCH == 0
        {
            report.add(
                Finding::error(
                    Rule::Relocation,
                    Subject::module(),
                    format!(
                        "section {} is not marked as livepatch relocations",
                        section.name
                    ),
                )
                .note("its flag SHF_RELA_LIVEPATCH is missing, which strip and some linkers remove")
                .advice("convert the module again, and do not strip it")
                // It writes them as ordinary relocations, of symbols whose address is 0.
                .taken(),
            );
        }
    }
}

/// Ordinary relocations against livepatch symbols, which have no address yet when they are applied.
fn ordinary(file: &File<'_>, report: &mut Report) {
    let mut wrong = BTreeMap::new();
    for (index, section) in file.sections.iter().enumerate() {
        if !section.is_loaded() || section.name.starts_with(LEFT_BEHIND) {
            continue;
        }
        for reloc in file.relocs(index) {
            if reloc.kind != NO_CHANGE && file.symbols[reloc.symbol].home == Home::Livepatch {
                wrong.entry(reloc.symbol).or_insert(&section.name);
            }
        }
    }
    for (symbol, section) in wrong {
        let name = &*file.symbols[symbol].name;
        report.add(
            Finding::error(
                Rule::Relocation,
                Subject::name(name),
                format!("an ordinary relocation in {section} refers to {name}"),
            )
            .note("the loader applies it with address 0, before the core knows the symbol")
            .advice("convert the module again: klp convert"),
        );
    }
}

/// Says who is refused, by what is wrong with a symbol: the patch, unless the relocations that refer
/// to it are all written later.
fn refused(kernel: &Kernel, users: &BTreeSet<&str>, finding: Finding) -> Finding {
    let now = users.iter().find(|user| !super::is_late(kernel, user));
    let first = now.or(users.first()).copied().unwrap_or("vmlinux");
    super::refused(kernel, first, finding)
}

fn symbol(
    patch: &Patch<'_>,
    kernel: &Kernel,
    index: usize,
    users: &BTreeSet<&str>,
    report: &mut Report,
) {
    let symbol = &patch.file.symbols[index];
    let text = &*symbol.name;
    let error = |text: String| Finding::error(Rule::Relocation, Subject::name(&symbol.name), text);
    if symbol.home != Home::Livepatch {
        let finding = error(format!("{text} is not marked as a livepatch symbol"))
            .note("a livepatch relocation refers to it")
            .advice("convert the module again, and do not strip it");
        report.add(refused(kernel, users, finding));
        return;
    }
    let Some(name) = Name::parse(text) else {
        let finding = error(format!("{text} is no name of a livepatch symbol"))
            .note("it must be .klp.sym.OBJECT.NAME,POSITION");
        report.add(refused(kernel, users, finding));
        return;
    };
    if name.object == "vmlinux" {
        if let Some(user) = users.iter().find(|user| **user != "vmlinux") {
            report.add(
                error(format!(
                    "a relocation of the object {user} refers to {} of the kernel",
                    name.symbol
                ))
                .note("the core refuses that since 6.17 (EINVAL)")
                .advice("move it to a section .klp.rela.vmlinux.SECTION")
                .taken_if(super::is_late(kernel, user) || is_before(kernel, (6, 17))),
            );
        }
    } else if users.contains("vmlinux") {
        report.add(
            error(format!(
                "a relocation of the kernel refers to {} of the module {}",
                name.symbol, name.object
            ))
            .note("it is written when the patch is loaded, and only if the module is there then")
            .advice(format!(
                "move it to a section .klp.rela.{}.SECTION",
                name.object
            ))
            .taken(),
        );
    }
    if let Some(loaded) = &kernel.loaded {
        let object = name.object;
        let is_there = |object: &str| object == "vmlinux" || loaded.contains(object);
        let user = users.iter().find(|user| **user != object && is_there(user));
        if let (Some(user), false) = (user, is_there(object)) {
            report.add(
                error(format!(
                    "{} of {object} is used by the relocations of {user}, and {object} is not \
                     loaded",
                    name.symbol
                ))
                .note("the core refuses the module (EINVAL)")
                .advice(format!("load it first: modprobe {object}")),
            );
            return;
        }
    }
    resolve(kernel, &name, users, report);
}

/// Whether the kernel is known to be older than a version.
fn is_before(kernel: &Kernel, version: (u32, u32)) -> bool {
    let Some(release) = &kernel.release else {
        return false;
    };
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next()?.parse::<u32>().ok();
    matches!((number(), number()), (Some(major), Some(minor)) if (major, minor) < version)
}

/// Whether the symbol is there, and clear.
fn resolve(kernel: &Kernel, name: &Name<'_>, users: &BTreeSet<&str>, report: &mut Report) {
    let Name {
        object,
        symbol,
        position,
    } = *name;
    let subject = || Subject::symbol(object, symbol);
    let Some(symbols) = kernel.symbols.get(object) else {
        report.add(
            Finding::unknown(
                Rule::Relocation,
                subject(),
                format!("whether {object} has {symbol} is not known"),
            )
            .note(super::why_unknown(kernel, object))
            .advice(super::how_to_know(object)),
        );
        return;
    };
    let found = symbols.named(symbol);
    let error = |text| {
        let finding = Finding::error(Rule::Relocation, subject(), text);
        refused(kernel, users, finding)
    };
    if super::changes_positions(object, found) {
        report.add(error(format!(
            "positions of {symbol} in {object} change when that is initialised"
        )));
        return;
    }
    match (found.len() as u64, position) {
        (0, _) => {
            let others = kernel
                .symbols
                .iter()
                .filter(|(other, symbols)| *other != object && !symbols.named(symbol).is_empty());
            let others = others.map(|(other, _)| format!("{other} has a symbol of this name"));
            report.add(
                error(format!("{object} has no symbol {symbol}"))
                    .notes(others)
                    .note(format!("looked at {}", symbols.source))
                    .advice("build the patch for this kernel, or look at the name"),
            );
        }
        (count, 0) if count > 1 => report.add(
            error(format!(
                "{object} has {count} symbols {symbol}, and the relocation does not \
                           say which"
            ))
            .advice(format!(
                "convert the module with --position {object}:{symbol}=N"
            )),
        ),
        (count, position) if position > count => report.add(error(format!(
            "{object} has {count} symbols {symbol}, and the relocation asks for number {position}"
        ))),
        (_, position) => {
            let chosen = &found[usize::try_from(position.max(1)).unwrap_or(1) - 1];
            if chosen.init {
                report.add(
                    Finding::error(
                        Rule::Relocation,
                        subject(),
                        format!("{symbol} is gone when {object} has been initialised"),
                    )
                    .note("the patch would use memory that belongs to somebody else")
                    .taken_if(super::is_late(kernel, object)),
                );
            }
        }
    }
}
