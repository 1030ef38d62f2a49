// SPDX-License-Identifier: GPL-2.0

//! Fields of structures that a patch sets in another way.
//!
//! No comparison of objects can tell whether a value means something else than before, so this is
//! only a hint for the author: instances that exist when the patch is loaded have been set by the old
//! code.

use std::collections::{BTreeMap, BTreeSet};

/// What comes before the name of a field that is reached by a pointer.
const ARROW: &str = "->";

/// Functions and macros that set what their first argument points to or is.
const SETTERS: [&str; 6] = [
    "WRITE_ONCE(",
    "atomic_",
    "atomic64_",
    "atomic_long_",
    "refcount_set(",
    "smp_store_release(",
];

/// The fields that a patch, in the format of `diff -u`, sets in another way: source file and name.
pub(crate) fn set_otherwise(diff: &str) -> BTreeSet<(String, String)> {
    let mut file = String::new();
    let mut removed: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    let mut added = removed.clone();
    for line in diff.lines() {
        if line.starts_with("--- ") {
            continue;
        }
        if let Some(header) = line.strip_prefix("+++ ") {
            let path = header.split('\t').next().unwrap_or_default();
            file = path.split_once('/').map_or(path, |(_, path)| path).into();
            continue;
        }
        let (side, statement) = match line.split_at_checked(1) {
            Some(("-", statement)) => (&mut removed, statement),
            Some(("+", statement)) => (&mut added, statement),
            _ => continue,
        };
        for field in fields(statement) {
            let statements = side.entry((file.clone(), field.into())).or_default();
            statements.insert(statement.trim().into());
        }
    }
    let keys: BTreeSet<_> = removed.keys().chain(added.keys()).cloned().collect();
    let differs = |key: &(String, String)| removed.get(key) != added.get(key);
    keys.into_iter().filter(differs).collect()
}

/// The fields that a line of C sets.
fn fields(line: &str) -> Vec<&str> {
    let by_call = SETTERS.iter().any(|setter| line.contains(setter)) && !line.contains("_read(");
    let mut fields = Vec::new();
    for (position, _) in line.match_indices(ARROW) {
        let rest = &line[position + ARROW.len()..];
        let end = rest.find(|char: char| !char.is_ascii_alphanumeric() && char != '_');
        let (name, rest) = rest.split_at(end.unwrap_or(rest.len()));
        let rest = rest.trim_start();
        let assigned = rest
            .strip_prefix(['+', '-', '|', '&', '^', '*', '/'])
            .unwrap_or(rest);
        let assigned = assigned.starts_with('=') && !assigned.starts_with("==");
        let counted = rest.starts_with("++") || rest.starts_with("--");
        // The first argument is what is set.
        let first = by_call && !line[..position].contains(',');
        if !name.is_empty() && (assigned || counted || first) {
            fields.push(name);
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(diff: &str) -> Vec<String> {
        let fields = set_otherwise(&format!("--- a/x/y.c\n+++ b/x/y.c\n{diff}"));
        fields
            .into_iter()
            .map(|(file, name)| {
                assert_eq!(file, "x/y.c");
                name
            })
            .collect()
    }

    #[test]
    fn what_sets_a_field() {
        for line in [
            "p->field = 1;",
            "p->q->field |= 1;",
            "p->field++;",
            "atomic_set(&p->field, 1);",
            "WRITE_ONCE(p->field, p->other);",
        ] {
            assert_eq!(names(&format!("+\t{line}\n")), ["field"], "{line}");
            assert_eq!(names(&format!("-\t{line}\n")), ["field"], "{line}");
        }
    }

    #[test]
    fn what_does_not() {
        for line in [
            "if (p->field == 1)",
            "x = p->field;",
            "atomic_read(&p->field);",
            "local.field = 1;",
            "f(p->field);",
        ] {
            assert!(names(&format!("+\t{line}\n")).is_empty(), "{line}");
        }
    }

    #[test]
    fn a_line_that_moves_changes_nothing() {
        assert!(names("-\tp->field = 1;\n \tf();\n+\tp->field = 1;\n").is_empty());
        assert_eq!(names("-\tp->field = 1;\n+\tp->field = 2;\n"), ["field"]);
    }
}
