// SPDX-License-Identifier: GPL-2.0

//! Static variables of functions, by the debugging information of the objects.
//!
//! The compiler names them `variable.number`, and `objtool klp diff` knows them apart by the variable's
//! name and their order in the file alone. So one that a patch takes from a function and another one
//! of that name that it gives to another function would be the same variable, with the value that
//! the old one has.

use std::collections::{BTreeMap, BTreeSet};

use gimli::{Dwarf, Unit};

use crate::{
    error::{Refusal, Result},
    layout::{self, Reader},
};

/// What begins the names that macros make up with a number, which counts what is before it in the
/// file. Whatever is added moves them all; nobody has written them, and no state is in them.
pub(crate) const MADE_UP: &str = "__UNIQUE_ID_";

/// The functions that have a static variable, by its name.
type Statics = BTreeMap<String, BTreeSet<String>>;

/// Compares the variables of an object before and after.
///
/// # Errors
///
/// The debugging information is damaged.
pub(crate) fn compare(object: &str, before: &[u8], after: &[u8]) -> Result<Vec<Refusal>> {
    let read = |data| layout::with_units(data, collect);
    let (before, after) = (read(before)?, read(after)?);
    let mut refusals = Vec::new();
    for (name, old) in &before {
        let Some(new) = after.get(name) else {
            continue;
        };
        let (Some(from), Some(to)) = (old.difference(new).next(), new.difference(old).next())
        else {
            continue;
        };
        refusals.push(Refusal::new(
            object,
            format!("the static variable {name} of {from}() goes, and {to}() gets one of that name"),
            "static variables of functions are known apart by their names alone, so the new one would \
             be the old one, with its value",
            "give the new variable another name",
        ));
    }
    Ok(refusals)
}

fn collect(
    dwarf: &Dwarf<Reader<'_>>,
    unit: &Unit<Reader<'_>>,
    statics: &mut Statics,
) -> std::result::Result<(), gimli::Error> {
    let mut entries = unit.entries();
    let mut around = layout::Around::default();
    while let Some((deeper, entry)) = entries.next_dfs()? {
        around.step(deeper);
        match entry.tag() {
            gimli::DW_TAG_subprogram | gimli::DW_TAG_inlined_subroutine => {
                around.enter(layout::name_or_origins(dwarf, unit, entry)?);
            }
            gimli::DW_TAG_variable if layout::has_address(entry)? => {
                let Some(function) = around.innermost() else {
                    continue;
                };
                let variable = layout::name_or_origins(dwarf, unit, entry)?;
                if let Some(variable) = variable.filter(|name| !name.starts_with(MADE_UP)) {
                    let all = statics.entry(variable).or_default();
                    all.insert(function.clone());
                }
            }
            _ => (),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::tests::compile;

    fn said(before: &str, after: &str) -> Vec<String> {
        let refusals = compare("x.o", &compile(before), &compile(after)).unwrap();
        refusals.into_iter().map(|refusal| refusal.what).collect()
    }

    const WITH: &str = "{ static int done; return done++; }";
    const WITHOUT: &str = "{ return 0; }";

    #[test]
    fn a_variable_that_moves() {
        let moved = "the static variable done of f() goes, and g() gets one of that name";
        let before = format!("int f(void) {WITH} int g(void) {WITHOUT}");
        let after = format!("int f(void) {WITHOUT} int g(void) {WITH}");
        assert_eq!(said(&before, &after), [moved]);
        let other = format!("int h(void) {WITH}");
        assert_eq!(
            said(&format!("{before} {other}"), &format!("{after} {other}")),
            [moved]
        );
    }

    #[test]
    fn addresses_in_a_table() {
        // As Clang gives them: the operation of an expression of 9 bytes.
        let compiled = |source: &str| {
            let mut object = compile(source);
            let expressions = object.windows(10).enumerate();
            let found =
                expressions.filter(|(_, bytes)| bytes[..2] == [9, 3] && bytes[2..] == [0; 8]);
            for place in Vec::from_iter(found.map(|(place, _)| place)) {
                object[place + 1] = gimli::DW_OP_addrx.0;
            }
            object
        };
        let before = compiled(&format!("int f(void) {WITH} int g(void) {WITHOUT}"));
        let after = compiled(&format!("int f(void) {WITHOUT} int g(void) {WITH}"));
        assert_eq!(compare("x.o", &before, &after).unwrap().len(), 1);
    }

    #[test]
    fn variables_that_stay_come_or_go() {
        let one = format!("int f(void) {WITH} int g(void) {WITHOUT}");
        let two = format!("int f(void) {WITH} int g(void) {WITH}");
        for (before, after) in [(&one, &one), (&one, &two), (&two, &one)] {
            assert!(said(before, after).is_empty());
        }
        // Names that macros make up.
        let made_up = |f: u32, g: u32| {
            let one = |name, number: u32| {
                format!("void {name}(void) {{ static void *__UNIQUE_ID_addressable_x_{number} = {name}; }}")
            };
            format!("{}{}", one("f", f), one("g", g))
        };
        assert!(said(&made_up(1, 2), &made_up(2, 3)).is_empty());
        // On the stack, they have nothing to do with it.
        let local = "int f(void) { int done = 0; return done; } int g(void) { return 0; }";
        let moved = "int f(void) { return 0; } int g(void) { int done = 0; return done; }";
        assert!(said(local, moved).is_empty());
        // Nor has a pointer that is known to lead to an address.
        let pointer = "{ int *done = &all; use(done); return *done; }";
        let source = |f: &str, g: &str| {
            format!(
                "static int all; void use(int *); int h(void) {{ return all++; }}\
                 int f(void) {f} int g(void) {g}"
            )
        };
        let (before, after) = (source(pointer, WITHOUT), source(WITHOUT, pointer));
        assert!(said(&before, &after).is_empty());
    }
}
