// SPDX-License-Identifier: GPL-2.0

use crate::pure::names::{section_object, SymbolName};

fn parse(text: &str) -> Option<(String, String, usize)> {
    let name = SymbolName::parse(text.as_bytes())?;
    let string = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Some((string(name.object), string(name.name), name.position))
}

fn found(object: &str, name: &str, position: usize) -> Option<(String, String, usize)> {
    Some((object.into(), name.into(), position))
}

#[test]
fn sections() {
    assert_eq!(
        section_object(b".klp.rela.vmlinux..text"),
        Some(&b"vmlinux"[..])
    );
    assert_eq!(
        section_object(b".klp.rela.btrfs.text.unlikely"),
        Some(&b"btrfs"[..])
    );
    // Nothing behind the object is asked for.
    assert_eq!(section_object(b".klp.rela.ext4"), Some(&b"ext4"[..]));
}

#[test]
fn malformed_sections() {
    for name in [
        "",
        ".rela.text",
        ".klp.rela.",
        ".klp.rela..text",
        "klp.rela.a.b",
        ".klp.rel.a.b",
    ] {
        assert_eq!(section_object(name.as_bytes()), None, "{name}");
    }
}

#[test]
fn a_long_object_is_cut_in_a_section_and_malformed_in_a_symbol() {
    let long = "m".repeat(56);
    let section = format!(".klp.rela.{long}.text");
    assert_eq!(
        section_object(section.as_bytes()),
        Some(&long.as_bytes()[..55])
    );
    assert_eq!(parse(&format!(".klp.sym.{long}.f,0")), None);
    let fits = "m".repeat(55);
    assert_eq!(parse(&format!(".klp.sym.{fits}.f,0")), found(&fits, "f", 0));
}

#[test]
fn symbols() {
    assert_eq!(
        parse(".klp.sym.vmlinux.printk,0"),
        found("vmlinux", "printk", 0)
    );
    assert_eq!(
        parse(".klp.sym.ext4.f.isra.0,12"),
        found("ext4", "f.isra.0", 12)
    );
}

#[test]
fn malformed_symbols() {
    for name in [
        "",
        "printk",
        ".klp.sym.",
        ".klp.sym.vmlinux",
        ".klp.sym.vmlinux.",
        ".klp.sym.vmlinux.,0",
        ".klp.sym..printk,0",
        ".klp.sym.vmlinux.printk",
        ".klp.sym.vmlinux.printk,",
        ".klp.sym.vmlinux.printk,x",
        ".klp.sym.vmlinux.printk,-1",
    ] {
        assert_eq!(parse(name), None, "{name}");
    }
}

#[test]
fn a_long_symbol_is_malformed() {
    let fits = "f".repeat(511);
    assert_eq!(parse(&format!(".klp.sym.m.{fits},1")), found("m", &fits, 1));
    assert_eq!(parse(&format!(".klp.sym.m.{fits}f,1")), None);
}

#[test]
fn positions_are_read_as_sscanf_does() {
    assert_eq!(parse(".klp.sym.m.f, \t7"), found("m", "f", 7));
    assert_eq!(parse(".klp.sym.m.f,7x"), found("m", "f", 7));
    assert_eq!(parse(".klp.sym.m.f,007"), found("m", "f", 7));
    for large in [
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999999",
    ] {
        let name = format!(".klp.sym.m.f,{large}");
        assert_eq!(parse(&name), found("m", "f", usize::MAX));
    }
    assert_eq!(parse(".klp.sym.m.f,1,2"), found("m", "f", 1));
}
