// SPDX-License-Identifier: GPL-2.0

//! Constants that the compiler makes: tables of what a `switch` returns, initial values of local
//! arrays, strings of wide characters.
//!
//! `objtool` compares functions by their instructions and the names that these refer to, and such
//! constants have no name, or one that says nothing. A function that differs in them alone is not
//! replaced; and of a wide string, which it takes for one of bytes, the patch gets the beginning only.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    path::Path,
};

use object::elf;

use crate::{
    elf::{File, Relocation, Section, Symbol, UNDEFINED},
    error::{read, Refusal, Result},
    pair::{clone_of, without_number, Changes},
};

/// How the compiler names the tables that it makes of a `switch`.
const TABLE: &str = "CSWTCH.";

/// Refuses functions that should be replaced and are not, and wide strings in those that are.
///
/// # Errors
///
/// An object cannot be read, or is damaged.
pub(crate) fn compare(changes: &Changes, before: &Path, after: &Path) -> Result<Vec<Refusal>> {
    let (before, after) = (read(before)?, read(after)?);
    let (before, after) = (File::parse(&before)?, File::parse(&after)?);
    Ok(unseen(changes, &before, &after))
}

fn unseen(changes: &Changes, before: &File<'_>, after: &File<'_>) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let place = |name: &str| format!("{}: {name}", changes.object);
    let (old, new) = (Constants::of(before), Constants::of(after));
    let old_functions = functions(before);
    for (symbol, function) in functions(after) {
        // What the compiler has split off goes with its function.
        let name = symbol.strip_suffix(".cold").unwrap_or(symbol);
        let in_patch = [&changes.changed, &changes.new]
            .iter()
            .any(|names| names.iter().any(|changed| changed == name));
        if in_patch {
            let mut relocations = new.relocations(function);
            if relocations.any(|relocation| new.is_wide(relocation)) {
                refusals.push(Refusal::new(
                    place(name),
                    "it uses a string of wide characters",
                    "objtool takes it for a string of bytes, and cuts it off at the first zero",
                    "make it an array with a name: static const efi_char16_t name[] = L\"...\"",
                ));
            }
            continue;
        }
        // Of which others it is one, its number does not tell.
        let old_function = old_functions.get(symbol);
        let Some(old_function) = old_function.filter(|_| clone_of(name).is_none()) else {
            continue;
        };
        let pairs = old.relocations(old_function).zip(new.relocations(function));
        let changed = pairs
            .filter_map(|(one, other)| Some((old.contents(one)?, new.contents(other)?)))
            .any(|(one, other)| !one.agrees_with(&other));
        if changed {
            refusals.push(Refusal::new(
                place(name),
                "constants change that the compiler keeps outside of its code",
                "objtool compares the code, so it would not replace this function; nor does the \
                 kernel's klp-build notice",
                "change something in the code of the function as well: a function that is replaced \
                 brings its constants",
            ));
        }
    }
    refusals
}

/// The functions of an object, by names that only one of them has.
fn functions<'f>(file: &'f File<'_>) -> BTreeMap<&'f str, &'f Symbol<'f>> {
    let mut functions = BTreeMap::new();
    let mut several = BTreeSet::new();
    for symbol in file.definitions().filter(|symbol| symbol.is_function()) {
        if functions.insert(symbol.name, symbol).is_some() {
            several.insert(symbol.name);
        }
    }
    functions.retain(|name, _| !several.contains(name));
    functions
}

/// What is at a place.
pub(crate) struct Contents<'f> {
    data: &'f [u8],
    /// Whether it is known where it ends.
    exact: bool,
    /// Where its pointers are, and what they lead to.
    pointers: Vec<(u64, &'f [u8], u64)>,
}

impl Contents<'_> {
    /// Whether it can be the same, as far as it is known where it ends.
    pub(crate) fn agrees_with(&self, other: &Self) -> bool {
        if self.exact && other.exact && self.data.len() != other.data.len() {
            return false;
        }
        // What comes after a constant without a name can be another one.
        let length = self.data.len().min(other.data.len());
        let within = |pointer: &&(u64, &[u8], u64)| pointer.0 < length as u64;
        let (one, two) = (self.pointers.iter(), other.pointers.iter());
        self.data[..length] == other.data[..length] && one.filter(within).eq(two.filter(within))
    }
}

/// The constants of an object.
pub(crate) struct Constants<'f> {
    file: &'f File<'f>,
    /// Where references lead to, by section.
    referred: BTreeMap<usize, BTreeSet<u64>>,
}

impl<'f> Constants<'f> {
    /// Looks where the references of an object lead to.
    pub(crate) fn of(file: &'f File<'f>) -> Self {
        let mut referred: BTreeMap<usize, BTreeSet<u64>> = BTreeMap::new();
        let all = file
            .sections
            .iter()
            .flat_map(|section| &section.relocations);
        for relocation in all {
            let symbol = &file.symbols[relocation.symbol];
            let places = referred.entry(symbol.section).or_default();
            places.insert(relocation.destination(symbol));
        }
        Self { file, referred }
    }

    /// The references in a function, in order.
    fn relocations(&self, function: &Symbol<'_>) -> impl Iterator<Item = &'f Relocation> {
        let range = function.value..function.value.saturating_add(function.size);
        let section = &self.file.sections[function.section];
        let mut relocations: Vec<_> = section
            .relocations
            .iter()
            .filter(|relocation| range.contains(&relocation.offset))
            .collect();
        relocations.sort_by_key(|relocation| relocation.offset);
        relocations.into_iter()
    }

    /// The section of constants that a reference leads to.
    fn section(&self, relocation: &Relocation) -> Option<&'f Section<'f>> {
        let index = self.file.symbols[relocation.symbol].section;
        let section = self.file.sections.get(index)?;
        (index != UNDEFINED && section.name.starts_with(".rodata")).then_some(section)
    }

    fn is_wide(&self, relocation: &Relocation) -> bool {
        self.section(relocation).is_some_and(Section::is_wide)
    }

    /// The variable of the source, or table of the compiler, at a place.
    fn variable(&self, section: usize, place: u64) -> Option<&'f Symbol<'f>> {
        self.file.symbols.iter().find(|symbol| {
            symbol.section == section
                && symbol.kind == elf::STT_OBJECT
                && (symbol.value..symbol.value.saturating_add(symbol.size)).contains(&place)
        })
    }

    /// What a reference leads to, if it is a constant that objtool does not compare.
    pub(crate) fn contents(&self, relocation: &Relocation) -> Option<Contents<'f>> {
        let section = self.section(relocation)?;
        let symbol = &self.file.symbols[relocation.symbol];
        let start = relocation.destination(symbol);
        let variable = match symbol.kind {
            elf::STT_OBJECT => Some(symbol),
            _ => self.variable(symbol.section, start),
        };
        let (range, exact) = match variable {
            Some(table) if table.name.starts_with(TABLE) => {
                (table.value..table.value.checked_add(table.size)?, true)
            }
            // These it does compare: variables of the source, strings and numbers.
            Some(_) => return None,
            None if section.is_wide() => (start..wide_end(section, start)?, true),
            None if section.is_merged() => return None,
            None => {
                let after = (Bound::Excluded(start), Bound::Unbounded);
                let mut next = self.referred.get(&symbol.section)?.range(after);
                let end = next.next().copied().unwrap_or(u64::MAX);
                (start..end.min(section.data.len() as u64), false)
            }
        };
        let data = usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?;
        let within = section.relocations.iter();
        let within = within.filter(|relocation| range.contains(&relocation.offset));
        let pointers = within.map(|relocation| {
            let (target, distance) = self.target(relocation);
            (relocation.offset - range.start, target, distance)
        });
        Some(Contents {
            data: section.data.get(data)?,
            exact,
            pointers: pointers.collect(),
        })
    }

    /// What a pointer in data leads to, as far as that can be told apart: a symbol and how far into
    /// it, a string, or a section.
    fn target(&self, relocation: &Relocation) -> (&'f [u8], u64) {
        let symbol = &self.file.symbols[relocation.symbol];
        let start = symbol.value.wrapping_add_signed(relocation.addend);
        if symbol.kind != elf::STT_SECTION {
            return (plain(symbol.name), start.wrapping_sub(symbol.value));
        }
        if let Some(variable) = self.variable(symbol.section, start) {
            return (plain(variable.name), start - variable.value);
        }
        let Some(section) = self.file.sections.get(symbol.section) else {
            return (&[], 0);
        };
        let text = usize::try_from(start).ok();
        let text = text.and_then(|start| section.data.get(start..));
        match text {
            Some(text) if section.is_merged() => {
                let mut strings = text.split(|byte| *byte == 0);
                (strings.next().unwrap_or_default(), 0)
            }
            _ => (plain(section.name), 0),
        }
    }
}

/// A name without the number that the compiler has given it, which changes with others.
fn plain(name: &str) -> &[u8] {
    without_number(name).unwrap_or(name).as_bytes()
}

/// The end of the wide string at a place.
fn wide_end(section: &Section<'_>, start: u64) -> Option<u64> {
    let size = usize::try_from(section.entry_size).ok()?;
    let data = section.data.get(usize::try_from(start).ok()?..)?;
    let length = data
        .chunks_exact(size)
        .position(|character| character.iter().all(|byte| *byte == 0))?;
    Some(start + (length * size) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::tests::compile_with;

    fn compiled(source: &str) -> Vec<u8> {
        let options = [
            "-O2",
            "-ffunction-sections",
            "-fdata-sections",
            "-fshort-wchar",
            "-mno-sse",
        ];
        compile_with(source, &options)
    }

    /// What is said if the functions `changed` are replaced.
    fn said(before: &str, after: &str, changed: &[&str]) -> Vec<String> {
        let (before, after) = (compiled(before), compiled(after));
        let changes = Changes {
            object: "x.o".into(),
            changed: changed.iter().copied().map(String::from).collect(),
            ..Changes::default()
        };
        let (before, after) = (File::parse(&before).unwrap(), File::parse(&after).unwrap());
        let refusals = unseen(&changes, &before, &after).into_iter();
        refusals.map(|refusal| refusal.place).collect()
    }

    #[test]
    fn tables_of_a_switch() {
        let source = |value: u32| {
            format!(
                "int f(int x) {{ switch (x) {{ case 0: return 5; case 1: return {value}; \
                 case 2: return 13; case 3: return 40; case 4: return 2; }} return 7; }}\
                 int g(int x) {{ switch (x) {{ case 0: return 6; case 1: return 3; \
                 case 2: return 11; case 3: return 30; case 4: return 1; }} return 8; }}"
            )
        };
        let (before, after) = (source(900), source(901));
        assert!(said(&before, &before, &[]).is_empty());
        assert_eq!(said(&before, &after, &[]), ["x.o: f"]);
        assert!(said(&before, &after, &["f"]).is_empty());
    }

    #[test]
    fn initial_values_of_local_arrays() {
        let function = |name: &str, first: u32| {
            let values: Vec<_> = (first..first + 60).map(|value| value.to_string()).collect();
            let values = values.join(", ");
            format!("void {name}(void) {{ long a[60] = {{ {values} }}; use(a); }}")
        };
        let source = |first| {
            let (f, g) = (function("f", first), function("g", 7));
            format!("void use(void *); {f} {g}")
        };
        let (before, after) = (source(4), source(44));
        assert!(said(&before, &before, &[]).is_empty());
        assert_eq!(said(&before, &after, &[]), ["x.o: f"]);
        assert!(said(&before, &after, &["f"]).is_empty());
    }

    #[test]
    fn parts_that_are_split_off() {
        let source = |value: u32| {
            format!(
                "void use(int); __attribute__((cold)) void rare(void); int f(int x, int y) {{\
                 if (__builtin_expect(y, 0)) {{ rare(); switch (x) {{ case 0: x = 5; break;\
                 case 1: x = {value}; break; case 2: x = 13; break; case 3: x = 40; break;\
                 case 4: x = 2; break; default: x = 7; }} use(x); rare(); }} return y; }}"
            )
        };
        let (before, after) = (source(900), source(901));
        assert_eq!(said(&before, &after, &[]), ["x.o: f"]);
        assert!(said(&before, &after, &["f"]).is_empty());
    }

    #[test]
    fn numbers_of_the_compiler() {
        let source = |more: &str| {
            let pointers = "&st, ".repeat(40);
            format!(
                "void use(void *); {more} void g(void) {{ static int st; st++;\
                 void *a[] = {{ {pointers} }}; use(a); }}"
            )
        };
        let more = "void f(void) { static int st; st++; use(&st); }";
        assert!(said(&source(""), &source(more), &[]).is_empty());
        assert_eq!(plain("st.12"), b"st");
        assert_eq!(plain("st12"), b"st12");
    }

    #[test]
    fn variables_of_the_source() {
        // objtool compares them itself; where their strings are does not matter.
        let source = |first: &str, value: u32| {
            format!(
                "struct s {{ const char *name; int value; }};\
                 static const struct s table[] = {{ {{ \"a\", {value} }}, {{ \"b\", 2 }} }};\
                 void use(const void *); void f(void) {{ use(table); }}\
                 void g(void) {{ use(\"{first}\"); }}"
            )
        };
        assert!(said(&source("x", 1), &source("a longer one", 9), &["g"]).is_empty());
    }

    #[test]
    fn wide_strings() {
        let source = |text: &str| {
            format!(
                "const __WCHAR_TYPE__ *f(void) {{ return L\"{text}\"; }}\
                 const __WCHAR_TYPE__ *g(void) {{ return L\"other\"; }}\
                 const char *h(void) {{ return \"bytes\"; }}"
            )
        };
        let (before, after) = (source("nvram"), source("nvram2"));
        assert!(said(&before, &before, &[]).is_empty());
        assert_eq!(said(&before, &after, &[]), ["x.o: f"]);
        // Replaced or new, it would not have the whole string.
        assert_eq!(said(&before, &after, &["f"]), ["x.o: f"]);
        assert!(said(&before, &before, &["h"]).is_empty());
    }
}
