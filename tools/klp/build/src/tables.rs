// SPDX-License-Identifier: GPL-2.0

//! What only booting, or loading a module, looks at: init code and the tables of the linker.
//!
//! `objtool klp diff` takes what the functions that change refer to. What a patch adds here is
//! referred to by nobody, and would be left out without a word.

use std::collections::BTreeSet;

use crate::{
    elf::File,
    error::{Refusal, Result},
};

/// The names with which sections of tables begin, and what an entry is.
const TABLES: [(&str, &str); 8] = [
    (".initcall", "an initcall"),
    (".init.setup", "a parameter of the kernel (__setup)"),
    ("__param", "a parameter (module_param)"),
    (".export_symbol", "an exported symbol"),
    ("___ksymtab", "an exported symbol"),
    ("__tracepoints_ptrs", "a tracepoint"),
    ("_ftrace_events", "a trace event"),
    ("___srcu_struct_ptrs", "a static srcu_struct of a module"),
];

/// Compares an object before and after: what the patch adds in these places.
///
/// # Errors
///
/// An object is damaged.
pub(crate) fn compare(object: &str, before: &[u8], after: &[u8]) -> Result<Vec<Refusal>> {
    Ok(additions(
        object,
        &File::parse(before)?,
        &File::parse(after)?,
    ))
}

fn additions(object: &str, before: &File<'_>, after: &File<'_>) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let refusal = |what| {
        Refusal::new(
            object,
            what,
            "it is looked at when the kernel boots or the module is loaded, which was long ago",
            "do it in a callback of the patch (samples/README.md), or in a module of its own",
        )
    };
    let there = init_functions(before);
    for name in init_functions(after).difference(&there) {
        refusals.push(refusal(format!("it gets the init function {name}")));
    }
    let mut seen = BTreeSet::new();
    for (prefix, entry) in TABLES {
        if size(after, prefix) > size(before, prefix) && seen.insert(entry) {
            refusals.push(refusal(format!("it gets {entry}")));
        }
    }
    refusals
}

fn init_functions<'a>(file: &File<'a>) -> BTreeSet<&'a str> {
    let functions = file.symbols.iter().filter(|symbol| {
        symbol.is_function()
            && file
                .sections
                .get(symbol.section)
                .is_some_and(|section| section.name.starts_with(".init.text"))
    });
    functions.map(|symbol| symbol.name).collect()
}

/// The size in bytes of all sections whose names begin so.
fn size(file: &File<'_>, prefix: &str) -> usize {
    let sections = file.sections.iter();
    sections
        .filter(|section| section.name.starts_with(prefix))
        .map(|section| section.data.len())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::{Section, Symbol};

    fn section<'a>(name: &'a str, data: &'a [u8]) -> Section<'a> {
        Section {
            name,
            flags: 0,
            entry_size: 0,
            data,
            relocations: Vec::new(),
        }
    }

    fn function(name: &str, section: usize) -> Symbol<'_> {
        Symbol {
            name,
            kind: object::elf::STT_FUNC,
            local: true,
            weak: false,
            section,
            value: 0,
            size: 1,
        }
    }

    fn added(sections: Vec<Section<'_>>, symbols: Vec<Symbol<'_>>) -> Vec<String> {
        let before = File {
            sections: vec![
                section("", b""),
                section(".init.text", b"a"),
                section(".initcall6.init", b"1234"),
                section("__param", b""),
            ],
            symbols: vec![function("old_init", 1)],
        };
        let after = File { sections, symbols };
        let refusals = additions("x.o", &before, &after).into_iter();
        refusals.map(|refusal| refusal.what).collect()
    }

    #[test]
    fn what_stays_is_not_reported() {
        let sections = vec![
            section("", b""),
            section(".init.text", b"changed"),
            section(".initcall6.init", b"4321"),
        ];
        assert!(added(sections, vec![function("old_init", 1)]).is_empty());
    }

    #[test]
    fn what_is_added_is_reported() {
        let sections = vec![
            section("", b""),
            section(".init.text", b"ab"),
            section(".initcall6.init", b"12345678"),
            section("__param", b"p"),
            section(".export_symbol", b"e"),
            section(".text.new", b"t"),
        ];
        let symbols = vec![
            function("old_init", 1),
            function("new_init", 1),
            function("new", 5),
        ];
        assert_eq!(
            added(sections, symbols),
            [
                "it gets the init function new_init",
                "it gets an initcall",
                "it gets a parameter (module_param)",
                "it gets an exported symbol"
            ]
        );
    }
}
