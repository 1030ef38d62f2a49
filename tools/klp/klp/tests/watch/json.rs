// SPDX-License-Identifier: GPL-2.0

//! What commands print with --json has the form that json.md documents.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{klp, output, stalled, stalled_on_rust_core, Tree};

/// The examples in json.md by their command.
fn documented() -> BTreeMap<String, Value> {
    let text = include_str!("../../../json.md");
    let examples = text.split("```json\n").skip(1).map(|rest| {
        let example = serde_json::from_str::<Value>(rest.split("```").next().unwrap()).unwrap();
        assert_eq!(example["schema"], "klp/1");
        let command = example["command"].as_str().unwrap().to_string();
        assert!(
            text.contains(&format!("\n## `klp {command}`\n")),
            "{command}"
        );
        (command, example)
    });
    examples.collect()
}

/// Notes the type of everything in a document: `path: type`.
fn types(value: &Value, path: &str, found: &mut BTreeMap<String, &'static str>) {
    let kind = match value {
        // Says nothing about the type.
        Value::Null => return,
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(elements) => {
            for element in elements {
                types(element, &format!("{path}[]"), found);
            }
            "array"
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                types(field, &format!("{path}.{name}"), found);
            }
            "object"
        }
    };
    assert_eq!(*found.entry(path.into()).or_insert(kind), kind, "{path}");
}

/// Compares a document with the example of its command: the same fields of the same types.
pub(super) fn compare(text: &str) {
    let document = serde_json::from_str::<Value>(text).unwrap();
    let command = document["command"].as_str().unwrap();
    let documented = documented();
    let (mut actual, mut expected) = (BTreeMap::new(), BTreeMap::new());
    types(&document, command, &mut actual);
    types(&documented[command], command, &mut expected);
    assert_eq!(actual, expected);
    assert_eq!(document["schema"], "klp/1");
}

#[test]
fn status() {
    let tree = stalled_on_rust_core();
    tree.patch_file(
        "sleeper_fix",
        "blockers",
        "202\tuser\tsleeping in sleeper_wait\tcat\n",
    );
    tree.module("old", "OEK", 1);
    tree.file("proc/sys/kernel/random/boot_id", "second\n");
    tree.file("var/lib/klp/7.3.4-test/fix.ko", "");
    tree.file(
        "var/lib/klp/.boot/7.3.4-test/fix",
        "first 1 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n",
    );
    compare(&output(&tree, &["status", "-v", "--json"]));

    let text = output(&Tree::new(), &["--json", "status", "-v"]);
    assert_eq!(
        serde_json::from_str::<Value>(&text).unwrap(),
        serde_json::json!({
            "schema": "klp/1",
            "command": "status",
            "core": { "name": "built-in" },
            "kernel": "7.3.4-test",
            "patches": [],
            "leftovers": [],
            "skipped_at_boot": [],
        })
    );
}

#[test]
fn blockers() {
    let text = output(&stalled_on_rust_core(), &["status", "-v", "--json"]);
    let document = serde_json::from_str::<Value>(&text).unwrap();
    let blockers = document["blockers"].as_array().unwrap();
    let of = |pointer: &str| {
        let values = blockers
            .iter()
            .map(|blocker| blocker.pointer(pointer).unwrap().clone());
        values.collect::<Vec<_>>()
    };
    assert_eq!(of("/tid"), [0, 12, 202]);
    assert_eq!(of("/kthread"), [true, true, false]);
    assert_eq!(
        of("/reason/kind"),
        ["running", "unreliable-stack", "sleeping-in"]
    );
    assert_eq!(of("/outlook/kind"), ["idle", "waits-for-work", "signalled"]);
    assert_eq!(blockers[0]["stack"], Value::Null);
}

#[test]
fn wait() {
    let run = klp(&stalled(), &["wait", "--timeout", "0", "--json"]);
    assert_eq!((run.status, run.message.as_str()), (Some(1), ""));
    compare(&run.output);
    let text = output(&Tree::new(), &["wait", "--json"]);
    let document = serde_json::from_str::<Value>(&text).unwrap();
    assert_eq!(document["complete"], true);
    assert_eq!(document["patch"], Value::Null);
}

#[test]
fn changes() {
    compare(&output(&stalled(), &["reverse", "--json"]));
    compare(&output(&stalled(), &["force", "--yes", "--json"]));
}

#[test]
fn list() {
    let tree = stalled();
    for place in ["var/lib", "usr/lib"] {
        tree.file(&format!("{place}/klp/7.3.4-test/fix.ko"), "");
    }
    compare(&output(&tree, &["list", "--json"]));
}

#[test]
fn version() {
    compare(&output(&stalled(), &["version", "--json"]));
}

#[test]
fn doctor() {
    let tree = stalled();
    tree.file("proc/sys/kernel/ftrace_enabled", "0\n");
    let run = klp(&tree, &["doctor", "--json"]);
    assert_eq!((run.status, run.message.as_str()), (Some(1), ""));
    compare(&run.output);
}
