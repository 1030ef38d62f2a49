// SPDX-License-Identifier: GPL-2.0

//! Which functions a module of klp-build replaces.

#[path = "../../convert/tests/module/mod.rs"]
#[allow(dead_code)]
mod file;

use file::{Module as File, SHF_ALLOC, SHT_PROGBITS};

const ABS64: u32 = 1;
const LOCAL: u8 = 0;

const STRINGS: &[u8] = b"\0do_nap\0vfs_read\0driver\0probe\0";
const DO_NAP: i64 = 1;
const VFS_READ: i64 = 8;
const DRIVER: i64 = 17;
const PROBE: i64 = 24;

/// A module with what every module has.
fn module() -> File {
    let mut file = File::new();
    let mut this_module = vec![0; 24];
    this_module.extend(b"fix\0");
    file.section(
        ".gnu.linkonce.this_module",
        SHT_PROGBITS,
        SHF_ALLOC,
        &this_module,
    );
    file
}

/// A list entry of an object with this many functions.
fn object(count: u32) -> Vec<u8> {
    let mut object = vec![0; 64];
    object[56..60].copy_from_slice(&count.to_le_bytes());
    object
}

/// A patch of two functions of the kernel, and one of a module; `count` is how many the latter has.
fn patch(count: u32) -> File {
    let mut file = module();
    let objects = [object(2), object(count)].concat();
    file.section(".init.klp_objects", SHT_PROGBITS, SHF_ALLOC, &objects);
    let funcs = file.section(".init.klp_funcs", SHT_PROGBITS, SHF_ALLOC, &[0; 72]);
    let strings = file.section(".rodata.klp.str1.1", SHT_PROGBITS, SHF_ALLOC, STRINGS);
    let funcs = file.symbol("", LOCAL, funcs as u16);
    let strings = file.symbol("", LOCAL, strings as u16);
    file.relas(
        ".init.klp_objects",
        &[
            (8, funcs, ABS64, 0),
            (64, strings, ABS64, DRIVER),
            (72, funcs, ABS64, 48),
        ],
    );
    file.relas(
        ".init.klp_funcs",
        &[
            (0, strings, ABS64, DO_NAP),
            (24, strings, ABS64, VFS_READ),
            (48, strings, ABS64, PROBE),
        ],
    );
    file
}

fn parse(file: &File) -> Result<klp_module::Module, String> {
    klp_module::Module::parse(&file.build())
}

#[test]
fn functions_with_their_objects() {
    let module = parse(&patch(1)).unwrap();
    let expected = [
        ("vmlinux", "do_nap"),
        ("vmlinux", "vfs_read"),
        ("driver", "probe"),
    ];
    assert_eq!(
        module.replaced_functions().unwrap(),
        expected.map(|(object, func)| (object.into(), func.into()))
    );
}

#[test]
fn other_modules_do_not_tell() {
    assert_eq!(parse(&module()).unwrap().replaced_functions(), None);
}

#[test]
fn damaged_lists() {
    // More functions than there are, up to where the offset overflows.
    for count in [2, 1000, u32::MAX] {
        let error = parse(&patch(count)).unwrap_err();
        assert_eq!(
            error, "the functions of driver are not in the file",
            "{count}"
        );
    }
    let mut file = patch(1);
    file.sections
        .retain(|section| section.name != ".rela.init.klp_objects");
    assert_eq!(parse(&file).unwrap_err(), "vmlinux has no functions");
    // A name that does not end.
    let mut file = patch(1);
    let strings = file
        .sections
        .iter_mut()
        .find(|section| section.data == STRINGS)
        .unwrap();
    strings.data.truncate(STRINGS.len() - 1);
    assert_eq!(
        parse(&file).unwrap_err(),
        "the functions of driver are not in the file"
    );
}

#[test]
fn signature() {
    let mut file = module().build();
    assert!(!klp_module::Module::parse(&file).unwrap().is_signed());
    file.extend(b"~Module signature appended~\n");
    assert!(klp_module::Module::parse(&file).unwrap().is_signed());
}
