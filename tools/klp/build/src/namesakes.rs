// SPDX-License-Identifier: GPL-2.0

//! Symbols of an object that `objtool klp diff` does not tell apart by their names.
//!
//! The compiler adds numbers to names: static variables of functions are `variable.number`,
//! compound literals `__compound_literal.number`, functions that it makes of others
//! `function.constprop.number`. What is added or moved changes the numbers, so `objtool` leaves
//! them out, with what follows:
//!
//! * Of several symbols of a name, it takes those for the same that have the same contents, and
//!   else those that have the same position among them, if there are as many as before. A patch
//!   that moves a function moves its variables, too, and the new code would work with the variable
//!   of another function, or with one of its own that does not have the old one's value.
//! * A function or table that refers to another symbol of the same name does not differ, and is not
//!   replaced, or not refused as changed data.
//! * Static variables with some names, which macros give them, are never taken for the same.
//!   Whether their initial data changes, nobody compares.
//!
//! Which symbols are really the same is found out here. A static variable belongs to a function, as
//! the debugging information tells. If the function has several of the name, the line counts from
//! the function's first one: lines that a patch does not change keep their numbers. Other symbols
//! are the same if their contents are. What cannot be told: two variables of one function that have
//! exchanged their lines from two that have not, and anonymous ones of the same contents.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
};

use gimli::{Dwarf, Section as _, Unit};
use object::elf;

use crate::{
    constants::Constants,
    elf::{File, Relocation, Section, Symbol, UNDEFINED},
    entries::Tables,
    error::{read, Refusal, Result},
    layout::{self, Entry, Reader},
    pair::{changed_data, Changes, Objects},
    statics::MADE_UP,
};

/// Static variables of functions of which each function that is replaced gets new ones.
const COPIES: [&str; 9] = [
    "CSWTCH",
    "__already_done",
    "__func__",
    "__key",
    "__warned",
    "_entry",
    "_entry_ptr",
    "_rs",
    "descriptor",
];

/// Those of them that are compared elsewhere (module `constants`), or have the number of their
/// line, which changes when a function is moved, and nothing else that the code does not have; and
/// the name of a function, which may be inlined and be called otherwise.
const NOT_COMPARED: [&str; 4] = ["CSWTCH", "__func__", "_entry", "_entry_ptr"];

/// The section of messages for debugging, which have their lines as well.
const DEBUG_MESSAGES: &str = "__dyndbg";

/// The section of flags that something was done once, of which there are new ones as well.
const ONCE: &str = ".data..once";

/// How deep pointers are followed in contents.
const DEEPEST: usize = 3;

/// The size of an entry in the lists of references that `objtool klp diff` makes: a place, a symbol
/// and a type.
const ENTRY: u64 = 24;

/// Compares an object before and after: what refers to another symbol of a name, and initial data
/// that changes without being noticed by `objtool`.
///
/// # Errors
///
/// An object cannot be read, or is damaged.
pub(crate) fn compare(changes: &Changes, before: &Path, after: &Path) -> Result<Vec<Refusal>> {
    let (before, after) = (read(before)?, read(after)?);
    let (old, new) = (File::parse(&before)?, File::parse(&after)?);
    let (old, new) = sides((&before, &old), (&after, &new))?;
    let mut refusals = references(changes, &old, &new);
    refusals.extend(data(changes, &old, &new));
    Ok(refusals)
}

/// Refuses functions that are not replaced, but should be.
fn references(changes: &Changes, old: &Side<'_>, new: &Side<'_>) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let functions = |side: &Side<'_>| side.unique(|symbol| symbol.is_function());
    let old_functions = functions(old);
    let (tables, new_tables) = (Tables::of(old), Tables::of(new));
    let in_patch = |name: &str| {
        let mut all = [&changes.changed, &changes.new].into_iter().flatten();
        all.any(|changed| changed == name)
    };
    let place = |symbol: &Symbol<'_>| (symbol.section, symbol.value);
    // An alias is replaced with its function.
    let replaced: BTreeSet<_> = new
        .file
        .definitions()
        .filter(|symbol| symbol.is_function() && in_patch(symbol.name))
        .map(place)
        .collect();
    for (name, index) in functions(new) {
        // What the compiler has split off goes with its function.
        let whole = new.file.symbols[index].name;
        let whole = whole.strip_suffix(".cold").unwrap_or(whole);
        let Some(old_index) = old_functions.get(&name) else {
            continue;
        };
        if in_patch(whole) || replaced.contains(&place(&new.file.symbols[index])) {
            continue;
        }
        let pairs = old.relocations(*old_index).into_iter();
        let differences = pairs
            .zip(new.relocations(index))
            .filter_map(|(one, other)| {
                let (one, other) = (old.definition(one)?, new.definition(other)?);
                difference(old, one, new, other)
            });
        let mut differences: BTreeSet<_> = differences.collect();
        let entries = tables.differences(*old_index, &new_tables, index);
        differences.extend(entries.into_iter().map(String::from));
        refusals.extend(differences.into_iter().map(|what| {
            Refusal::new(
                format!("{}: {whole}", changes.object),
                what,
                "objtool compares code, and names without numbers, so it would not replace this \
                 function; nor does the kernel's klp-build notice",
                "have its code differ as well, such as by asm volatile(\"nop\"): then it is replaced",
            )
        }));
    }
    refusals
}

/// In what two symbols of a name differ that a function refers to before and after.
fn difference(old: &Side<'_>, one: usize, new: &Side<'_>, other: usize) -> Option<String> {
    let (before, after) = (old.file.symbols[one].name, new.file.symbols[other].name);
    let name = plain(before);
    if name != plain(after) || before.starts_with(MADE_UP) {
        return None;
    }
    if is_copy(old.file, one) {
        let section = &old.file.sections[old.file.symbols[one].section];
        let same = NOT_COMPARED.iter().any(|name| is_called(before, name))
            || section.name == DEBUG_MESSAGES
            || old.contents(one, DEEPEST) == new.contents(other, DEEPEST);
        return (!same).then(|| format!("the initial value of its {name} changes"));
    }
    let (before, after) = (old.name(one, DEEPEST), new.name(other, DEEPEST));
    (before != after).then(|| match (old.owners.get(&one), new.owners.get(&other)) {
        (Some(_), Some(_)) => format!("it uses {after} in place of {before}"),
        _ => format!("it uses another {name} than before"),
    })
}

/// Refuses variables whose initial data changes.
fn data(changes: &Changes, old: &Side<'_>, new: &Side<'_>) -> Vec<Refusal> {
    let variables = |side: &Side<'_>| side.unique(|symbol| symbol.kind == elf::STT_OBJECT);
    let after = variables(new);
    let before = variables(old).into_iter().filter_map(|(name, one)| {
        let other = *after.get(&name)?;
        Some((name, one, other))
    });
    let (constants, new_constants) = (Constants::of(old.file), Constants::of(new.file));
    // What has no name, objtool does not follow.
    let nameless = |one, other| {
        let pairs = old.relocations(one).into_iter().zip(new.relocations(other));
        let mut pairs = pairs.filter_map(|(one, other)| {
            Some((constants.contents(one)?, new_constants.contents(other)?))
        });
        pairs.any(|(one, other)| !one.agrees_with(&other))
    };
    let changed = before.filter(|(name, one, other)| {
        !is_copy(old.file, *one)
            && !name.starts_with(MADE_UP)
            && (old.contents(*one, DEEPEST) != new.contents(*other, DEEPEST)
                || nameless(*one, *other))
    });
    let places = changed.map(|(name, ..)| format!("{}: {name}", changes.object));
    places.map(|place| changed_data(&place)).collect()
}

/// Refuses variables that `objtool` has taken for other ones, or has not found again, in what it
/// has made of these objects.
///
/// # Errors
///
/// An object cannot be read, or is damaged.
pub(crate) fn check(before: &Objects, after: &Objects, output: &Path) -> Result<Vec<Refusal>> {
    let output = read(output)?;
    let output = File::parse(&output)?;
    let (references, copies) = (references_to_kernel(&output), own_variables(&output));
    let mut verdicts: BTreeMap<&Reference<'_>, Vec<Option<Refusal>>> = BTreeMap::new();
    for (path, before) in before {
        let after = &after[path];
        if before == after {
            continue;
        }
        let (before, after) = (read(before)?, read(after)?);
        let (old, new) = (File::parse(&before)?, File::parse(&after)?);
        let (old, new) = sides((&before, &old), (&after, &new))?;
        for reference in references.iter().chain(&copies) {
            let Some(index) = new.local(reference.after) else {
                continue;
            };
            // Others of the owner's objects can have functions and variables of these names.
            if reference.function.is_none_or(|name| new.defines(name)) {
                let verdict = verdict(path, &old, &new, index, reference.before);
                verdicts.entry(reference).or_default().push(verdict);
            }
        }
    }
    let mut refusals: Vec<Refusal> = Vec::new();
    for verdicts in verdicts.into_values() {
        // If several objects have such a symbol, one that it fits is the one.
        if let Some(all) = verdicts.into_iter().collect::<Option<Vec<_>>>() {
            for refusal in all {
                if !refusals.contains(&refusal) {
                    refusals.push(refusal);
                }
            }
        }
    }
    Ok(refusals)
}

/// What is wrong with a symbol of the patch that was taken for this one of the kernel, or for a new
/// one.
fn verdict(
    object: &str,
    old: &Side<'_>,
    new: &Side<'_>,
    index: usize,
    before: Option<&str>,
) -> Option<Refusal> {
    let symbol = &new.file.symbols[index];
    // objtool finds one by its name if there is only one.
    let is_alone = !new.crowded.contains(plain(symbol.name)) && !new.owners.contains_key(&index);
    if is_alone || is_copy(new.file, index) || symbol.name.starts_with(MADE_UP) {
        return None;
    }
    let name = new.name(index, DEEPEST);
    let (there, here) = (old.all(&name), new.all(&name));
    let is_written = is_written(&new.file.sections[symbol.section]);
    let expected = match here.iter().position(|other| *other == index) {
        // They have no names and the same contents, so their order has to do.
        Some(position) if is_written && there.len() == here.len() => vec![there[position]],
        _ if is_written && there.len() > 1 => Vec::new(),
        _ => there,
    };
    let place = format!("{object}: {name}");
    let is_right = |taken| {
        let mut names = expected.iter().map(|index| old.file.symbols[*index].name);
        names.any(|name| name == taken)
    };
    match before {
        Some(taken) if !is_right(taken) => Some(Refusal::new(
            place,
            format!("objtool takes it for {}, which is another one", old.called(taken)),
            "symbols of one name are told apart by their contents and by their order, so the new \
             code would use the other one",
            "leave the functions that have them in their order, and give other names to new ones",
        )),
        None if !expected.is_empty() && is_written => Some(Refusal::new(
            place,
            "objtool does not find it in the kernel",
            "symbols of one name are told apart by their contents and by their order, and with the \
             patch there are more or fewer of them: the new code would use a new one, without the \
             value",
            "give another name to what is new, or leave what is there",
        )),
        _ => None,
    }
}

/// A symbol of the patch, and what it was taken for.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Reference<'f> {
    /// Its name with the patch.
    after: &'f str,
    /// The name of the one that the kernel has; none if the patch brings it.
    before: Option<&'f str>,
    /// The function or variable that refers to it, if that is known.
    function: Option<&'f str>,
}

/// The references to the kernel in what `objtool klp diff` has made. At each place, it leaves a
/// symbol that names what the patch refers to, and a list has what that is in the kernel.
fn references_to_kernel<'f>(output: &File<'f>) -> BTreeSet<Reference<'f>> {
    let mut stand_ins = BTreeMap::new();
    for (index, section) in output.sections.iter().enumerate() {
        for relocation in &section.relocations {
            let name = output.symbols[relocation.symbol].name;
            if let Some(name) = name.strip_prefix(".klp.tombstone.") {
                stand_ins.insert((index, relocation.offset), name);
            }
        }
    }
    let lists = output.sections.iter();
    let lists = lists.filter(|section| section.name.starts_with("__klp_relocs."));
    let mut references = BTreeSet::new();
    for list in lists {
        let mut entries: BTreeMap<u64, [Option<&Relocation>; 2]> = BTreeMap::new();
        for relocation in &list.relocations {
            let word = usize::from(relocation.offset % ENTRY != 0);
            entries.entry(relocation.offset / ENTRY).or_default()[word] = Some(relocation);
        }
        for entry in entries.into_values() {
            let [Some(place), Some(symbol)] = entry else {
                continue;
            };
            let section = output.symbols[place.symbol].section;
            let offset = output.symbols[place.symbol]
                .value
                .wrapping_add_signed(place.addend);
            let name = output.symbols[symbol.symbol].name;
            let name = name
                .strip_prefix(".klp.sym.")
                .and_then(|name| name.split_once('.'));
            let name = name.and_then(|(_, name)| name.rsplit_once(','));
            let (Some(after), Some((before, _))) = (stand_ins.get(&(section, offset)), name) else {
                continue;
            };
            let mut around = output.definitions().filter(|symbol| {
                symbol.section == section
                    && (symbol.value..symbol.value.saturating_add(symbol.size)).contains(&offset)
            });
            references.insert(Reference {
                after,
                before: Some(before),
                function: around.next().map(|symbol| symbol.name),
            });
        }
    }
    references
}

/// The variables that the patch brings.
fn own_variables<'f>(output: &File<'f>) -> BTreeSet<Reference<'f>> {
    let variables = output.definitions();
    let variables = variables.filter(|symbol| symbol.kind == elf::STT_OBJECT);
    let reference = |symbol: &Symbol<'f>| Reference {
        after: symbol.name,
        before: None,
        function: None,
    };
    variables.map(reference).collect()
}

/// The static variable of a function.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Owned {
    variable: String,
    function: String,
    /// Counted from the first one of the function.
    line: u64,
    /// Which one it is of those that a line has.
    number: usize,
}

/// An object before or after.
pub(crate) struct Side<'f> {
    /// Itself.
    pub(crate) file: &'f File<'f>,
    /// What it defines, by section.
    definitions: BTreeMap<usize, Vec<usize>>,
    owners: BTreeMap<usize, Owned>,
    /// The names without numbers that several symbols have, before or after.
    crowded: BTreeSet<&'f str>,
    /// The variables of which a function has several, before or after.
    several: BTreeSet<(String, String)>,
}

/// An object's contents, and what they are read as.
type Input<'f> = (&'f [u8], &'f File<'f>);

/// An object before and after.
fn sides<'f>(before: Input<'f>, after: Input<'f>) -> Result<(Side<'f>, Side<'f>)> {
    let (mut old, mut new) = (Side::of(before)?, Side::of(after)?);
    let crowded = &old.crowded | &new.crowded;
    let several = &old.several | &new.several;
    (old.crowded, old.several) = (crowded.clone(), several.clone());
    (new.crowded, new.several) = (crowded, several);
    Ok((old, new))
}

impl<'f> Side<'f> {
    fn of((data, file): Input<'f>) -> Result<Self> {
        let mut side = Self {
            file,
            definitions: BTreeMap::new(),
            owners: BTreeMap::new(),
            crowded: BTreeSet::new(),
            several: BTreeSet::new(),
        };
        let mut names = BTreeSet::new();
        for (index, symbol) in file.symbols.iter().enumerate() {
            if symbol.is_definition() {
                side.definitions
                    .entry(symbol.section)
                    .or_default()
                    .push(index);
                if !names.insert(plain(symbol.name)) {
                    side.crowded.insert(plain(symbol.name));
                }
            }
        }
        side.find_owners(data)?;
        Ok(side)
    }

    /// Finds the functions that static variables belong to.
    fn find_owners(&mut self, data: &[u8]) -> Result<()> {
        let addresses = self.file.section(".debug_info");
        let addresses = addresses.map_or(&[][..], |section| &section.relocations);
        let addresses: BTreeMap<_, _> = addresses
            .iter()
            .map(|relocation| (relocation.offset, relocation))
            .collect();
        let mut numbers: BTreeMap<(String, String, u64), usize> = BTreeMap::new();
        let mut known = BTreeSet::new();
        for place in layout::with_units(data, collect)? {
            let address = addresses.get(&place.address).copied();
            let Some(index) = address.and_then(|address| self.definition(address)) else {
                continue;
            };
            if self.owners.contains_key(&index) {
                continue;
            }
            let variable = (place.function.clone(), place.variable.clone());
            if !known.insert(variable.clone()) {
                self.several.insert(variable);
            }
            let key = (place.function.clone(), place.variable.clone(), place.line);
            let number = numbers.entry(key).or_default();
            let owned = Owned {
                variable: place.variable,
                function: place.function,
                line: place.line,
                number: *number,
            };
            *number += 1;
            self.owners.insert(index, owned);
        }
        Ok(())
    }

    /// The function or variable that a reference leads to.
    pub(crate) fn definition(&self, relocation: &Relocation) -> Option<usize> {
        let symbol = &self.file.symbols[relocation.symbol];
        if symbol.is_definition() {
            return Some(relocation.symbol);
        }
        let all = self.definitions.get(&symbol.section)?;
        let place = relocation.destination(symbol);
        // Most have a section of their own.
        let alone = match all[..] {
            [index] if symbol.section != UNDEFINED => Some(index),
            _ => None,
        };
        alone.or_else(|| {
            let mut all = all.iter().copied();
            all.find(|index| {
                let symbol = &self.file.symbols[*index];
                (symbol.value..symbol.value.saturating_add(symbol.size)).contains(&place)
            })
        })
    }

    /// The references in a function or variable, in order.
    fn relocations(&self, index: usize) -> Vec<&'f Relocation> {
        let symbol = &self.file.symbols[index];
        let range = symbol.value..symbol.value.saturating_add(symbol.size);
        let Some(section) = self.file.sections.get(symbol.section) else {
            return Vec::new();
        };
        let all = section.relocations.iter();
        let mut all: Vec<_> = all.filter(|one| range.contains(&one.offset)).collect();
        all.sort_by_key(|relocation| relocation.offset);
        all
    }

    /// What a symbol is called on both sides.
    fn name(&self, index: usize, depth: usize) -> String {
        let symbol = &self.file.symbols[index];
        let section = self.file.sections.get(symbol.section);
        // Nobody has written the numbers of these, or the lines that others know them by.
        if symbol.name.starts_with(MADE_UP)
            || section.is_some_and(|section| section.name == DEBUG_MESSAGES)
        {
            return plain(symbol.name).into();
        }
        if let Some(owned) = self.owners.get(&index) {
            let Owned {
                variable,
                function,
                line,
                number,
            } = owned;
            let several = (function.clone(), variable.clone());
            return match self.several.contains(&several) {
                true => {
                    let which = format!("{variable} of {function}(), line {line}");
                    match number {
                        0 => which,
                        number => format!("{which}, {number}"),
                    }
                }
                false => format!("{variable} of {function}()"),
            };
        }
        // What the compiler has split off has the number of its function.
        if let Some(whole) = symbol.name.strip_suffix(".cold") {
            return format!("{}.cold", plain(whole));
        }
        let plain = plain(symbol.name);
        if plain == symbol.name || !self.crowded.contains(plain) {
            return plain.into();
        }
        match depth.checked_sub(1) {
            Some(depth) => format!("{plain} {:x}", self.contents(index, depth)),
            None => plain.into(),
        }
    }

    /// A number that stands for the contents of a function or variable.
    fn contents(&self, index: usize, depth: usize) -> u64 {
        let symbol = &self.file.symbols[index];
        let mut hasher = DefaultHasher::new();
        symbol.size.hash(&mut hasher);
        let section = self.file.sections.get(symbol.section);
        let end = symbol.value.saturating_add(symbol.size);
        let range = usize::try_from(symbol.value).ok()..usize::try_from(end).ok();
        if let (Some(section), Some(start), Some(end)) = (section, range.start, range.end) {
            section.data.get(start..end).hash(&mut hasher);
        }
        for relocation in self.relocations(index) {
            (relocation.offset - symbol.value).hash(&mut hasher);
            self.target(relocation, depth).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// What a reference leads to, and how far into it.
    pub(crate) fn target(&self, relocation: &Relocation, depth: usize) -> (String, u64) {
        let symbol = &self.file.symbols[relocation.symbol];
        let place = relocation.destination(symbol);
        if let Some(index) = self.definition(relocation) {
            let distance = place.wrapping_sub(self.file.symbols[index].value);
            return (self.name(index, depth), distance);
        }
        match self.file.sections.get(symbol.section) {
            Some(section) if symbol.section != UNDEFINED && section.is_merged() => {
                (format!("\"{}\"", text(section, place).escape_ascii()), 0)
            }
            Some(section) if symbol.section != UNDEFINED => (plain(section.name).into(), 0),
            _ => (symbol.name.into(), place),
        }
    }

    /// The symbols that are called so, in order.
    fn all(&self, name: &str) -> Vec<usize> {
        let all = self.definitions.values().flatten().copied();
        let mut all: Vec<_> = all
            .filter(|index| self.name(*index, DEEPEST) == name)
            .collect();
        all.sort_unstable();
        all
    }

    /// The symbols, by what they are called on both sides if there is no other one.
    fn unique(&self, wanted: impl Fn(&Symbol<'_>) -> bool) -> BTreeMap<String, usize> {
        let mut all = BTreeMap::new();
        let mut several = BTreeSet::new();
        for index in self.definitions.values().flatten() {
            if wanted(&self.file.symbols[*index]) {
                let name = self.name(*index, DEEPEST);
                if all.insert(name.clone(), *index).is_some() {
                    several.insert(name);
                }
            }
        }
        all.retain(|name, _| !several.contains(name));
        all
    }

    /// The static variable or function of this name.
    fn local(&self, name: &str) -> Option<usize> {
        let mut all = self.definitions.values().flatten().copied();
        all.find(|index| {
            let symbol = &self.file.symbols[*index];
            symbol.name == name && symbol.local
        })
    }

    fn defines(&self, name: &str) -> bool {
        self.file.definitions().any(|symbol| symbol.name == name)
    }

    /// The symbol of this name, for people.
    fn called(&self, name: &str) -> String {
        let index = self.local(name);
        index.map_or(name.into(), |index| self.name(index, DEEPEST))
    }
}

/// A name as `objtool` compares it, without the numbers at its end.
fn plain(name: &str) -> &str {
    if !name.starts_with(MADE_UP) && !name.contains('.') {
        return name;
    }
    let plain = name.trim_end_matches(|char: char| char.is_ascii_digit() || "._".contains(char));
    match plain.len() {
        0 | 1 => name,
        _ => plain,
    }
}

/// Whether a static variable is called so: `name.number` by GCC, `function.name` by Clang.
fn is_called(symbol: &str, name: &str) -> bool {
    let mut parts = symbol.split('.');
    let (first, second) = (parts.next(), parts.next());
    second.is_some() && (first == Some(name) || second == Some(name))
}

/// Whether a replaced function gets a new one of a variable.
fn is_copy(file: &File<'_>, index: usize) -> bool {
    let symbol = &file.symbols[index];
    let section = file.sections.get(symbol.section);
    symbol.kind == elf::STT_OBJECT
        && (COPIES.iter().any(|name| is_called(symbol.name, name))
            || section.is_some_and(|section| section.name == ONCE))
}

/// Whether variables in a section change.
fn is_written(section: &Section<'_>) -> bool {
    let is_data = [".data", ".bss"]
        .iter()
        .any(|name| section.name.starts_with(name));
    is_data && !section.name.starts_with(".data.rel.ro")
}

/// The string or number at a place in a section that the linker merges.
fn text<'f>(section: &Section<'f>, place: u64) -> &'f [u8] {
    let start = usize::try_from(place).ok();
    let Some(data) = start.and_then(|start| section.data.get(start..)) else {
        return &[];
    };
    let size = usize::try_from(section.entry_size).unwrap_or(1).max(1);
    let is_end = |character: &[u8]| character.iter().all(|byte| *byte == 0);
    let length = match section.flags & u64::from(elf::SHF_STRINGS) {
        0 => 1,
        _ => data.chunks_exact(size).position(is_end).unwrap_or_default(),
    };
    data.get(..length * size).unwrap_or(data)
}

/// A static variable of a function in the debugging information.
struct Place {
    variable: String,
    function: String,
    line: u64,
    /// Where in the information its address is.
    address: u64,
}

fn collect(
    dwarf: &Dwarf<Reader<'_>>,
    unit: &Unit<Reader<'_>>,
    places: &mut Vec<Place>,
) -> std::result::Result<(), gimli::Error> {
    let mut entries = unit.entries();
    let mut around = layout::Around::default();
    // The lines of functions, by their names.
    let mut lines = BTreeMap::new();
    while let Some((deeper, entry)) = entries.next_dfs()? {
        around.step(deeper);
        match entry.tag() {
            gimli::DW_TAG_subprogram | gimli::DW_TAG_inlined_subroutine => {
                let name = layout::name_or_origins(dwarf, unit, entry)?;
                if let Some(name) = &name {
                    lines.insert(name.clone(), line(unit, entry)?);
                }
                around.enter(name);
            }
            gimli::DW_TAG_variable if layout::has_address(entry)? => {
                let variable = layout::name_or_origins(dwarf, unit, entry)?;
                let (Some(function), Some(variable)) = (around.innermost(), variable) else {
                    continue;
                };
                let location = entry.attr_value(gimli::DW_AT_location)?;
                let Some(code) = location.and_then(|location| location.exprloc_value()) else {
                    continue;
                };
                let first = lines.get(function).copied().unwrap_or_default();
                places.push(Place {
                    function: function.clone(),
                    variable,
                    line: line(unit, entry)?.wrapping_sub(first),
                    // After the operation that it is an operand of.
                    address: code.0.offset_from(*dwarf.debug_info.reader()) as u64 + 1,
                });
            }
            _ => (),
        }
    }
    Ok(())
}

/// The line of an entry, or of the one that it is a copy of.
fn line(unit: &Unit<Reader<'_>>, entry: &Entry<'_, '_>) -> std::result::Result<u64, gimli::Error> {
    let origin = layout::reference(entry, gimli::DW_AT_abstract_origin)?;
    let own = layout::number(entry, gimli::DW_AT_decl_line)?;
    Ok(match (own, origin) {
        (Some(line), _) => line,
        (None, Some(origin)) => {
            let origin = unit.entry(origin)?;
            layout::number(&origin, gimli::DW_AT_decl_line)?.unwrap_or_default()
        }
        (None, None) => 0,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{fs, path::PathBuf};

    use super::*;
    use crate::layout::tests::compile_with;

    const BASE: &str = "void use(void *); extern int out;";

    fn compiled(source: &str) -> tempfile::NamedTempFile {
        let options = [
            "-g",
            "-O2",
            "-ffunction-sections",
            "-fdata-sections",
            "-fshort-wchar",
            "-fno-pie",
        ];
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, compile_with(&format!("{BASE}{source}"), &options)).unwrap();
        file
    }

    /// What is said if the functions `changed` are replaced.
    pub(crate) fn said(before: &str, after: &str, changed: &[&str]) -> Vec<String> {
        let (before, after) = (compiled(before), compiled(after));
        let changes = Changes {
            object: "x.o".into(),
            changed: changed.iter().copied().map(String::from).collect(),
            ..Changes::default()
        };
        let refusals = compare(&changes, before.path(), after.path())
            .unwrap()
            .into_iter();
        refusals
            .map(|refusal| format!("{}: {}", refusal.place, refusal.what))
            .collect()
    }

    /// A function with a static variable.
    fn with_variable(name: &str, variable: &str, rest: &str) -> String {
        format!(
            "__attribute__((noinline)) int {name}(int i) {{ static int {variable}; {variable} += i;\
             use(&{variable}); return out{rest}; }}"
        )
    }

    #[test]
    fn functions_that_use_another_variable() {
        let functions = ["f", "g"].map(|name| {
            format!(
                "static inline __attribute__((always_inline)) void {name}(int i) {{\
                 static int count; count += i; use(&count); }}"
            )
        });
        let source = |used: [&str; 3]| {
            let [h, k, l] = used;
            format!(
                "{} int h(int i) {{ {h}(i); return 1; }} int k(int i) {{ {k}(i); return 2; }}\
                 int l(int i) {{ {l}(i); return 3; }}",
                functions.concat()
            )
        };
        let before = source(["f", "f", "g"]);
        let what = "x.o: h: it uses count of g() in place of count of f()";
        assert!(said(&before, &before, &[]).is_empty());
        assert_eq!(said(&before, &source(["g", "f", "g"]), &[]), [what]);
        assert!(said(&before, &source(["g", "f", "g"]), &["h"]).is_empty());
    }

    #[test]
    fn pointers_to_variables() {
        let before = "static int all[4];\
                      int h(int i) { use(all); return all[i]++; }\
                      __attribute__((alias(\"h\"))) int alias(int i);";
        let after = format!("{before} int k(int i) {{ int *one = all; use(one); return one[i]; }}");
        assert!(said(before, &after, &[]).is_empty());
        assert!(said(&after, before, &[]).is_empty());
    }

    #[test]
    fn other_names_of_functions() {
        let source = |value: u32| {
            format!(
                "int f(int i) {{ static int _rs = {value}; use(&_rs); return i; }}\
                 __attribute__((alias(\"f\"))) int other(int i);"
            )
        };
        let what = ["x.o: f: the initial value of its _rs changes"];
        assert_eq!(said(&source(1), &source(2), &[])[..1], what);
        assert!(said(&source(1), &source(2), &["f"]).is_empty());
        // The name of one that is inlined.
        let renamed = |name: &str| {
            format!(
                "static inline __attribute__((always_inline)) void {name}(void)\
                 {{ use((void *)__func__); }} int g(void) {{ {name}(); return 1; }}"
            )
        };
        assert!(said(&renamed("help"), &renamed("__help"), &[]).is_empty());
    }

    #[test]
    fn functions_that_are_moved() {
        let (f, g) = (
            with_variable("f", "count", ""),
            with_variable("g", "count", ""),
        );
        assert!(said(&format!("{f}{g}"), &format!("{g}{f}"), &[]).is_empty());
        // With several of a name, and what counts lines.
        let two = "void h(int i) {\nif (i) { static int count; use(&count); }\n\
                   { static int count; use(&count); }\n\
                   static struct { int line; } descriptor\n\
                   __attribute__((section(\"__dyndbg\"))) = { __LINE__ }; use(&descriptor); }";
        let moved = format!("{f}\n\n\n{two}\n{g}");
        assert!(said(&format!("{two}\n{f}\n{g}"), &moved, &[]).is_empty());
    }

    #[test]
    fn functions_that_call_another_one() {
        let clone = |number: u32, value: u32| {
            format!(
                "static __attribute__((noinline, noipa)) int f{number}(void)\
                 __asm__(\"f.constprop.{number}\");\
                 static int f{number}(void) {{ if (out == 7) {{ rare(); rare(); }}\
                 return out + {value}; }}"
            )
        };
        let source = |first: u32, second: u32, called: u32, others: u32| {
            format!(
                "__attribute__((cold)) void rare(void); {}{}\
                 int h(void) {{ return f{called}(); }} int k(void) {{ return f{others}(); }}",
                clone(0, first),
                clone(1, second)
            )
        };
        let before = source(1, 2, 0, 1);
        let file = compiled(&before);
        let data = fs::read(file.path()).unwrap();
        let symbols = File::parse(&data).unwrap().symbols;
        assert!(symbols
            .iter()
            .any(|symbol| symbol.name == "f.constprop.0.cold"));
        let what = "x.o: h: it uses another f.constprop than before";
        // With other numbers.
        assert!(said(&before, &source(2, 1, 1, 0), &[]).is_empty());
        let after = format!("{} int l(void) {{ return f0(); }}", source(1, 2, 1, 1));
        assert_eq!(said(&before, &after, &[]), [what]);
        assert!(said(&before, &after, &["h"]).is_empty());
    }

    #[test]
    fn tables_of_literals() {
        let source = |first: u32, second: u32| {
            format!(
                "struct s {{ int a; long b; }}; static const struct s *const table[] = {{\
                 &(struct s) {{ {first}, 2 }}, &(struct s) {{ {second}, 4 }} }};\
                 int f(int i) {{ return table[i]->a; }}"
            )
        };
        let before = source(1, 3);
        assert!(said(&before, &before, &[]).is_empty());
        assert_eq!(
            said(&before, &source(3, 1), &[]),
            ["x.o: table: its initial value changes"]
        );
        // A new literal changes the numbers only.
        let more = "struct t { int a; long b; }; struct t *other = &(struct t) { 8, 9 };";
        assert!(said(&before, &format!("{more}{before}"), &[]).is_empty());
    }

    #[test]
    fn initial_data() {
        let variables = |f: u32, g: u32| {
            let one = |name, value: u32| {
                format!(
                    "int {name}(void) {{ static int count = {value}; use(&count); return out; }}"
                )
            };
            one("f", f) + &one("g", g)
        };
        let before = variables(1, 2);
        let what = "its initial value changes";
        let both = [
            format!("x.o: count of f(): {what}"),
            format!("x.o: count of g(): {what}"),
        ];
        assert!(said(&before, &before, &[]).is_empty());
        // Exchanged, each is like one that was there.
        assert_eq!(said(&before, &variables(2, 1), &["f"]), both);

        let table =
            |text: &str| format!("const char *const table[] = {{ \"a\\0{text}\", \"\\0b\" }};");
        assert!(said(&table("b"), &table("b"), &[]).is_empty());
        assert_eq!(
            said(&table("b"), &table("c"), &[]),
            [format!("x.o: table: {what}")]
        );

        let table = |text: &str| {
            format!("const __WCHAR_TYPE__ *const table[] = {{ L\"{text}\", L\"other\" }};")
        };
        assert!(said(&table("nvram"), &table("nvram"), &[]).is_empty());
        assert_eq!(
            said(&table("nvram"), &table("nvrom"), &[]),
            [format!("x.o: table: {what}")]
        );
    }

    #[test]
    fn initial_data_that_is_not_compared() {
        let source = |interval: u32| {
            format!(
                "int f(void) {{ static struct {{ int i, j; }} _rs = {{ {interval}, 10 }};\
                 use(&_rs); return out; }}"
            )
        };
        let what = "x.o: f: the initial value of its _rs changes";
        assert!(said(&source(5), &source(5), &[]).is_empty());
        assert_eq!(said(&source(5), &source(6), &[]), [what]);
        assert!(said(&source(5), &source(6), &["f"]).is_empty());
    }

    /// What is said if objtool has taken symbols for these, or for none.
    fn taken(before: &str, after: &str, taken: &[(&str, Option<&str>)]) -> Vec<String> {
        let mut output = String::from(".text\n");
        for (after, before) in taken {
            output.push_str(&match before {
                Some(before) => format!(
                    ".section .text.f,\"ax\"\n1: .long \".klp.tombstone.{after}\" - .\n\
                     .section __klp_relocs.vmlinux,\"a\"\n\
                     .quad 1b, \".klp.sym.vmlinux.{before},0\"\n.quad 0\n"
                ),
                None => format!(
                    ".section .bss.{after}\n.type \"{after}\",@object\n\
                     .size \"{after}\",4\n\"{after}\": .zero 4\n"
                ),
            });
        }
        let size = ".section .text.f,\"ax\"\n.type f,@function\n.size f,1f - f\n1:\n";
        let output = format!(".section .text.f,\"ax\"\nf:\n{output}{size}");
        let module = tempfile::NamedTempFile::new().unwrap();
        fs::write(&module, compile_with(&format!("__asm__({output:?});"), &[])).unwrap();
        let (before, after) = (compiled(before), compiled(after));
        let objects = |file: &tempfile::NamedTempFile| {
            Objects::from([("x.o".to_owned(), PathBuf::from(file.path()))])
        };
        let refusals = check(&objects(&before), &objects(&after), module.path()).unwrap();
        let refusals = refusals.into_iter();
        refusals
            .map(|refusal| format!("{}: {}", refusal.place, refusal.what))
            .collect()
    }

    /// The name that the compiler has given to a static variable.
    fn number(source: &str, function: &str) -> String {
        let file = compiled(source);
        let data = fs::read(file.path()).unwrap();
        let file = File::parse(&data).unwrap();
        let side = Side::of((&data, &file)).unwrap();
        let mut owners = side.owners.iter();
        let (index, _) = owners
            .find(|(_, owned)| owned.function == function)
            .unwrap();
        file.symbols[*index].name.into()
    }

    #[test]
    fn variables_that_are_mixed_up() {
        let (f, g) = (
            with_variable("f", "count", ""),
            with_variable("g", "count", ""),
        );
        let (before, after) = (
            format!("{f}{g}"),
            format!("{g}{}", with_variable("f", "count", " + 1")),
        );
        let new = number(&after, "f");
        let (right, wrong) = (number(&before, "f"), number(&before, "g"));
        assert!(taken(&before, &after, &[(&new, Some(&right))]).is_empty());
        assert_eq!(
            taken(&before, &after, &[(&new, Some(&wrong))]),
            ["x.o: count of f(): objtool takes it for count of g(), which is another one"]
        );
        assert_eq!(
            taken(&before, &after, &[(&new, None)]),
            ["x.o: count of f(): objtool does not find it in the kernel"]
        );
        // One that is new.
        let after = format!("{before}{}", with_variable("h", "count", ""));
        let new = number(&after, "h");
        assert!(taken(&before, &after, &[(&new, None)]).is_empty());
        assert_eq!(
            taken(&before, &after, &[(&new, Some(&right))]),
            ["x.o: count of h(): objtool takes it for count of f(), which is another one"]
        );
    }

    #[test]
    fn variables_of_files() {
        let before = "static int count; int f(void) { count += out; use(&count); return count; }";
        let after = format!("{before}{}", with_variable("h", "count", ""));
        assert!(taken(before, &after, &[("count", Some("count"))]).is_empty());
        assert_eq!(
            taken(before, &after, &[("count", None)]),
            ["x.o: count: objtool does not find it in the kernel"]
        );
    }

    #[test]
    fn variables_of_which_there_are_copies() {
        let f = with_variable("f", "_rs", "");
        assert!(taken(&f, &f, &[(&number(&f, "f"), None)]).is_empty());
    }

    #[test]
    fn several_variables_of_a_function() {
        let source = |more: &str, first: &str, second: &str| {
            format!(
                "int f(int i) {{ {more}\nif (i) {{ {first} use(&count); }}\n\
                 else {{ {second} use(&count); }}\n\
                 return out; }}"
            )
        };
        let variable = "static int count;";
        let before = source("", variable, variable);
        let after = source("", "int count = 4;", variable);
        let (old, new) = (compiled(&before), number(&after, "f"));
        let data = fs::read(old.path()).unwrap();
        let file = File::parse(&data).unwrap();
        let side = Side::of((&data, &file)).unwrap();
        let named = |line| {
            let mut owners = side.owners.iter();
            let (index, _) = owners.find(|(_, owned)| owned.line == line).unwrap();
            file.symbols[*index].name
        };
        assert!(taken(&before, &after, &[(&new, Some(named(2)))]).is_empty());
        assert_eq!(
            taken(&before, &after, &[(&new, Some(named(1)))]),
            [
                "x.o: count of f(), line 2: objtool takes it for count of f(), line 1, which is \
             another one"
            ]
        );
    }

    #[test]
    fn names_as_objtool_compares_them() {
        for (name, expected) in [
            ("count.0", "count"),
            ("count_1.0", "count"),
            ("count_1", "count_1"),
            ("x.0", "x.0"),
            ("C.0.12", "C.0.12"),
            ("f.constprop.0", "f.constprop"),
            ("__UNIQUE_ID_a_12", "__UNIQUE_ID_a"),
        ] {
            assert_eq!(plain(name), expected);
        }
    }
}
