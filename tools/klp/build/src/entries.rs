// SPDX-License-Identifier: GPL-2.0

//! What is kept in tables about places in the code, and is part of what a function does: the keys
//! of static branches, the texts and flags of warnings, the handling of exceptions.
//!
//! `objtool` brings the entries of functions that are replaced, but compares none. Where only an
//! entry changes, such as from `WARN_ON()` to `WARN_ON_ONCE()`, it would not replace the function.

use std::collections::BTreeMap;

use object::elf;

use crate::{
    elf::{Relocation, Section},
    namesakes::Side,
};

/// The tables of static branches and exceptions, with the size of an entry in bytes, and that of
/// warnings, in which it depends on the configuration.
const BRANCHES: (&str, u64) = ("__jump_table", 16);
const EXCEPTIONS: (&str, u64) = ("__ex_table", 12);
const WARNINGS: &str = "__bug_table";

/// The bytes of the line of a warning, which come after the last pointer. It changes when a
/// function is moved.
const LINE: std::ops::Range<u64> = 4..6;

/// The size of the flags of a warning in bytes, which are at the end of its entry.
const FLAGS: u64 = 2;

/// What the text of a warning begins with that is made of its condition, and not written for
/// people: the names in it may change.
const CONDITION: &str = "\"[";

/// An entry, without what may change: where in its function, its bytes, and what it points to.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    place: u64,
    bytes: Vec<u8>,
    targets: Vec<(u64, String, u64)>,
}

/// The entries of a kind, by the functions that they are about.
type Entries = BTreeMap<usize, Vec<Entry>>;

/// The tables of an object.
pub(crate) struct Tables {
    /// With what is told of a function whose entries differ.
    kinds: Vec<(&'static str, Entries)>,
}

impl Tables {
    /// Reads them.
    pub(crate) fn of(side: &Side<'_>) -> Self {
        let fixed = |(name, size): (&str, u64)| {
            entries(side, name, |section| {
                let length = section.data.len() as u64;
                (0..length / size).map(|number| number * size).collect()
            })
        };
        // Only the first pointer of an entry leads into code.
        let warnings = entries(side, WARNINGS, |section| {
            let all = section.relocations.iter();
            let all = all.filter(|relocation| function(side, relocation).is_some());
            let mut starts: Vec<_> = all.map(|relocation| relocation.offset).collect();
            starts.sort_unstable();
            starts
        });
        Self {
            kinds: vec![
                ("the key of a static branch in it changes", fixed(BRANCHES)),
                ("the text or kind of a warning in it changes", warnings),
                (
                    "the handling of an exception in it changes",
                    fixed(EXCEPTIONS),
                ),
            ],
        }
    }

    /// What changes of a function, which is this one here and that one in the other object.
    pub(crate) fn differences(&self, one: usize, others: &Self, other: usize) -> Vec<&'static str> {
        let pairs = self.kinds.iter().zip(&others.kinds);
        let changed = pairs.filter(|((_, here), (_, there))| here.get(&one) != there.get(&other));
        changed.map(|((what, _), _)| *what).collect()
    }
}

/// The entries of the tables of this name, of which it is known where they begin.
fn entries(side: &Side<'_>, name: &str, starts: impl Fn(&Section<'_>) -> Vec<u64>) -> Entries {
    let mut found = Entries::new();
    let tables = side.file.sections.iter();
    for section in tables.filter(|section| section.name == name) {
        let starts = starts(section);
        let mut relocations: BTreeMap<u64, &Relocation> = BTreeMap::new();
        for relocation in &section.relocations {
            relocations.insert(relocation.offset, relocation);
        }
        for (number, start) in starts.iter().copied().enumerate() {
            let length = section.data.len() as u64;
            let end = starts.get(number + 1).copied().unwrap_or(length);
            let pointers: Vec<_> = relocations.range(start..end).map(|(_, one)| *one).collect();
            let place = pointers.first().and_then(|first| function(side, first));
            let Some((function, place)) = place else {
                continue;
            };
            let line = match (&pointers[..], name) {
                // Without CONFIG_DEBUG_BUGVERBOSE, the flags are there, and nothing follows them.
                ([_, .., last], WARNINGS) if end >= last.offset + LINE.end + FLAGS => {
                    last.offset + LINE.start..last.offset + LINE.end
                }
                _ => 0..0,
            };
            let bytes = (start..end).filter(|place| !line.contains(place));
            let bytes = bytes.filter_map(|place| section.data.get(usize::try_from(place).ok()?));
            let targets = pointers.iter().skip(1).map(|pointer| {
                let (target, distance) = side.target(&from_data(pointer), 1);
                (pointer.offset - start, target, distance)
            });
            let targets = targets.filter(|(_, target, _)| !target.starts_with(CONDITION));
            found.entry(function).or_default().push(Entry {
                place,
                bytes: bytes.copied().collect(),
                targets: targets.collect(),
            });
        }
    }
    for entries in found.values_mut() {
        entries.sort();
    }
    found
}

/// The function that a pointer in a table leads into, and how far.
fn function(side: &Side<'_>, pointer: &Relocation) -> Option<(usize, u64)> {
    let pointer = from_data(pointer);
    let index = side.definition(&pointer)?;
    let (_, distance) = side.target(&pointer, 0);
    side.file.symbols[index]
        .is_function()
        .then_some((index, distance))
}

/// A pointer that counts from its own place, as in a table, and not from the end of an instruction.
fn from_data(pointer: &Relocation) -> Relocation {
    Relocation {
        kind: elf::R_X86_64_64,
        ..*pointer
    }
}

#[cfg(test)]
mod tests {
    use crate::namesakes::tests::said;

    /// A function with an entry of a table that is about its code.
    fn source(table: &str, entry: &str) -> String {
        format!(
            "int one, two; int f(int i) {{ __asm__ volatile(\"1: nop\\n\
             .pushsection {table},\\\"aw\\\"\\n.long 1b - .\\n{entry}\\n.popsection\");\
             return i; }}"
        )
    }

    /// What is said if the entry changes in a function that is replaced, and in one that is not.
    fn changed(table: &str, before: &str, after: &str) -> Vec<String> {
        let (before, after) = (source(table, before), source(table, after));
        assert!(said(&before, &before, &[]).is_empty());
        assert!(said(&before, &after, &["f"]).is_empty());
        said(&before, &after, &[])
    }

    #[test]
    fn static_branches() {
        let entry = |key: &str| format!(".long 1b - .\\n.quad {key} - .");
        let what = ["x.o: f: the key of a static branch in it changes"];
        assert_eq!(changed("__jump_table", &entry("one"), &entry("two")), what);
        assert_eq!(
            changed("__jump_table", &entry("one"), &entry("one + 1")),
            what
        );
    }

    #[test]
    fn keys_of_messages() {
        let source = |lines: &str, number: u32, section: &str| {
            format!(
                "int f(int i) {{ {lines} static int __UNIQUE_ID_ddebug_{number} \
                 __attribute__((section(\"{section}\"))) = 1;\
                 __asm__ volatile(\"1: nop\\n.pushsection __jump_table,\\\"aw\\\"\\n\
                 .long 1b - ., 1b - .\\n.quad %c0 - .\\n.popsection\" : :\
                 \"i\" (&__UNIQUE_ID_ddebug_{number})); return i; }}"
            )
        };
        for section in ["__dyndbg", ".data.x"] {
            let (before, after) = (source("", 1, section), source("\n", 3, section));
            assert!(said(&before, &after, &[]).is_empty(), "{section}");
        }
    }

    #[test]
    fn warnings() {
        let entry = |text: &str, line: u32, flags: u32| {
            format!(
                ".long 3f - .\\n.long 4f - .\\n.word {line}, {flags}\\n\
                 .section .rodata.str1.1,\\\"aMS\\\",@progbits,1\\n\
                 3: .asciz \\\"{text}\\\"\\n4: .asciz \\\"x.c\\\"\\n.previous"
            )
        };
        let what = ["x.o: f: the text or kind of a warning in it changes"];
        let before = entry("text", 7, 1);
        assert_eq!(changed("__bug_table", &before, &entry("text", 7, 3)), what);
        assert_eq!(changed("__bug_table", &before, &entry("other", 7, 1)), what);
        assert!(changed("__bug_table", &before, &entry("text", 8, 1)).is_empty());
        // Without CONFIG_DEBUG_BUGVERBOSE.
        let short = |flags: u32| {
            format!(
                ".long 3f - .\\n.word {flags}\\n.section .rodata.str1.1,\\\"aMS\\\",@progbits,1\\n\
                 3: .asciz \\\"text\\\"\\n.previous"
            )
        };
        assert_eq!(changed("__bug_table", &short(1), &short(3)), what);
        let condition = |name| entry(&format!("[{name}] "), 7, 1);
        assert!(changed("__bug_table", &condition("a"), &condition("b")).is_empty());
    }

    #[test]
    fn exceptions() {
        let entry = |kind: u32| format!(".long 1b - .\\n.long {kind}");
        let what = ["x.o: f: the handling of an exception in it changes"];
        assert_eq!(changed("__ex_table", &entry(1), &entry(2)), what);
    }
}
