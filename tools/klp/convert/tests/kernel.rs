// SPDX-License-Identifier: GPL-2.0

//! What becomes of symbols when it is known which ones the kernel and the modules have.

mod module;

use std::collections::HashSet;

use klp_convert::{
    convert, Converted, Exports, Known, Outcome, Problem, Request, SymbolMap, Symbols, Unexported,
};
use module::*;

const LOCAL: u8 = 0x00;
const WEAK: u8 = 0x20;
const OBJECT: u8 = 1;
const FUNCTION: u8 = 2;
const FILE: u8 = 4;
const ABSOLUTE: u16 = 0xfff1;

/// A patch with a function that uses `hidden`, and data that refers to `other`.
fn patch() -> Vec<u8> {
    patch_with(GLOBAL)
}

/// The same, `hidden` having another binding.
fn patch_with(binding: u8) -> Vec<u8> {
    let mut module = Module::new();
    module.section(".data", SHT_PROGBITS, SHF_ALLOC | 1, &[0; 32]);
    module.symbol_at("show", LOCAL | FUNCTION, 2, 16, 32);
    module.symbol_at("objs", LOCAL | OBJECT, 3, 0, 16);
    let printk = module.symbol("printk", GLOBAL, 0);
    let hidden = module.symbol("hidden", binding, 0);
    let other = module.symbol("other", GLOBAL, 0);
    let uses = |symbol: u32, places: &[u64]| -> Vec<Rela> {
        places.iter().map(|at| (*at, symbol, 4, -4)).collect()
    };
    let code = [uses(printk, &[0]), uses(hidden, &[24, 60])].concat();
    module.relas(".text", &code);
    module.relas(".data", &uses(other, &[8]));
    module.build()
}

/// A vmlinux with two static functions `hidden`, the first by address being that of the second
/// file, and one variable `other`.
fn vmlinux() -> Module {
    let mut module = Module::new();
    module.symbol_at("cmdline.c", LOCAL | FILE, ABSOLUTE, 0, 0);
    module.symbol_at("hidden", LOCAL | FUNCTION, 2, 0x2000, 16);
    module.symbol_at("version.c", LOCAL | FILE, ABSOLUTE, 0, 0);
    module.symbol_at("hidden", LOCAL | FUNCTION, 2, 0x1000, 16);
    module.symbol_at("other", LOCAL | OBJECT, 2, 0x1500, 8);
    module.symbol_at("printk", GLOBAL | FUNCTION, 2, 0x3000, 16);
    module
}

/// What the compiler says of a file in `directory` that has a function and a variable.
fn unit(directory: &str, file: &str, function: u64, variable: u64) -> Vec<u8> {
    let mut body = vec![4, 0, 0, 0, 0, 0, 8];
    body.push(1);
    body.extend(file.bytes().chain([0]));
    body.extend(directory.bytes().chain([0]));
    body.push(2);
    body.extend(function.to_le_bytes());
    body.extend(16u64.to_le_bytes());
    body.push(3);
    body.extend([9, 0x03]);
    body.extend(variable.to_le_bytes());
    body.push(0);
    let mut unit = (body.len() as u32).to_le_bytes().to_vec();
    unit.extend(body);
    unit
}

/// How the entries of [`unit`] are laid out.
const ABBREVIATIONS: &[u8] = &[
    // Compile unit: name, directory.
    1, 0x11, 1, 0x03, 0x08, 0x1b, 0x08, 0, 0, //
    // Subprogram: start, length.
    2, 0x2e, 0, 0x11, 0x01, 0x12, 0x07, 0, 0, //
    // Variable: where.
    3, 0x34, 0, 0x02, 0x18, 0, 0, //
    0,
];

/// [`vmlinux`] with debugging information.
fn vmlinux_with_dwarf() -> Vec<u8> {
    vmlinux_with_dwarf_of_hidden(0x2000)
}

/// [`vmlinux`] with debugging information, in which one of the functions is at `address`.
fn vmlinux_with_dwarf_of_hidden(address: u64) -> Vec<u8> {
    let mut module = vmlinux();
    let units = [
        unit("/build/linux", "fs/proc/cmdline.c", address, 0x9000),
        unit("/build/linux", "fs/proc/version.c", 0x1000, 0x1500),
    ];
    module.section(".debug_info", SHT_PROGBITS, 0, &units.concat());
    module.section(".debug_abbrev", SHT_PROGBITS, 0, ABBREVIATIONS);
    module.build()
}

fn read_vmlinux(file: &[u8], from: &[&str]) -> SymbolMap {
    let mut map = SymbolMap::read_object("vmlinux", file).unwrap();
    let names = HashSet::from(["hidden".into()]);
    let from: Vec<_> = from.iter().map(|from| (*from).into()).collect();
    map.read_sources(&names, &from, file).unwrap();
    map
}

fn exports(lines: &str) -> Exports {
    let mut exports = Exports::default();
    exports.add(lines.as_bytes()).unwrap();
    exports
}

const PRINTK: &str = "0x00000000\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n";

fn unexported(symbols: &[&str]) -> Request {
    let mut list = Symbols::default();
    for symbol in symbols {
        list.add_unexported(&symbol.parse::<Unexported>().unwrap())
            .unwrap();
    }
    Request {
        symbols: list,
        ..Request::default()
    }
}

fn automatic(targets: &[&str]) -> Request {
    Request {
        automatic: true,
        targets: targets.iter().map(|target| (*target).into()).collect(),
        ..Request::default()
    }
}

fn known(maps: Vec<SymbolMap>) -> Known {
    let mut known = Known::default();
    for (number, map) in maps.into_iter().enumerate() {
        known.add_map(format!("file {}", number + 1), map);
    }
    known
}

fn map(lines: &str) -> SymbolMap {
    SymbolMap::parse(lines.as_bytes()).unwrap()
}

/// The converted symbols, with `=N` if there are several.
fn converted(file: &[u8], request: &Request, known: &Known) -> Vec<String> {
    match convert(file, request, known) {
        Ok(Outcome::Converted { symbols, .. }) => {
            symbols.iter().map(Converted::to_string).collect()
        }
        Ok(Outcome::NothingToDo) => vec![],
        Err(problems) => panic!("{problems:?}"),
    }
}

fn problems(file: &[u8], request: &Request, known: &Known) -> Vec<String> {
    let problems = convert(file, request, known).unwrap_err();
    problems.iter().map(Problem::to_string).collect()
}

#[test]
fn positions_are_in_the_order_of_the_addresses() {
    for map in [
        read_vmlinux(&vmlinux().build(), &[]),
        map("2000 t hidden\n1000 t hidden\n"),
    ] {
        let lines = problems(&patch(), &unexported(&["hidden"]), &known(vec![map]));
        let (first, second) = (
            lines[0].find("0000000000001000"),
            lines[0].find("0000000000002000"),
        );
        assert!(first.unwrap() < second.unwrap(), "{}", lines[0]);
    }
}

#[test]
fn a_problem_says_where_what_and_how() {
    let known = known(vec![read_vmlinux(&vmlinux_with_dwarf(), &[])]);
    assert_eq!(
        problems(&patch(), &unexported(&["hidden"]), &known),
        [
            "the kernel has 2 symbols hidden: say which with --position vmlinux:hidden=N
    used by  show+0x8 (.text+0x18)
             .text+0x3c
    found    vmlinux 1. 0000000000001000 function /build/linux/fs/proc/version.c
             vmlinux 2. 0000000000002000 function /build/linux/fs/proc/cmdline.c
    write    --from /build/linux/fs/proc/version.c for number 1
             --from /build/linux/fs/proc/cmdline.c for number 2"
        ]
    );
}

#[test]
fn many_uses_are_counted() {
    let mut module = Module::new();
    let hidden = module.symbol("hidden", GLOBAL, 0);
    let relas: Vec<_> = (0..7).map(|at| (at * 8, hidden, 4, -4)).collect();
    module.relas(".text", &relas);
    let lines = problems(
        &module.build(),
        &unexported(&["hidden"]),
        &known(vec![map("0 T x\n")]),
    );
    assert!(
        lines[0].contains(".text+0x18\n             and in 3 more places"),
        "{}",
        lines[0]
    );
}

/// Only DWARF knows directories; the name alone can be told by the symbol table.
#[test]
fn source_files_choose() {
    let (plain, dwarf) = (vmlinux().build(), vmlinux_with_dwarf());
    for (file, from, expected) in [
        (&plain, "cmdline.c", Ok(2)),
        (&plain, "version.c", Ok(1)),
        (
            &plain,
            "fs/proc/cmdline.c",
            Err("only names of source files are known"),
        ),
        (
            &plain,
            "fs/proc/other.c",
            Err("none of them is from fs/proc/other.c"),
        ),
        (&dwarf, "fs/proc/cmdline.c", Ok(2)),
        (&dwarf, "fs/proc/version.c", Ok(1)),
        (&dwarf, "/build/linux/fs/proc/version.c", Ok(1)),
        (&dwarf, "cmdline.c", Ok(2)),
        (&dwarf, "proc/cmdline.c", Ok(2)),
        (
            &dwarf,
            "drivers/cmdline.c",
            Err("none of them is from drivers/cmdline.c"),
        ),
        (
            &dwarf,
            "oc/cmdline.c",
            Err("none of them is from oc/cmdline.c"),
        ),
    ] {
        let request = Request {
            from: vec![from.into()],
            ..unexported(&["hidden"])
        };
        let known = known(vec![read_vmlinux(file, &[from])]);
        match expected {
            Ok(position) => assert_eq!(
                converted(&patch(), &request, &known),
                [format!("vmlinux:hidden={position}")],
                "{from}"
            ),
            Err(reason) => {
                let lines = problems(&patch(), &request, &known);
                assert!(lines[0].contains(reason), "{from}: {}", lines[0]);
                assert!(
                    lines[0].contains("--position vmlinux:hidden=N"),
                    "{}",
                    lines[0]
                );
            }
        }
    }
}

#[test]
fn source_files_that_do_not_choose() {
    let request = Request {
        from: vec!["cmdline.c".into(), "version.c".into()],
        ..unexported(&["hidden"])
    };
    let table = || read_vmlinux(&vmlinux().build(), &[]);
    let lines = problems(&patch(), &request, &known(vec![table()]));
    assert!(
        lines[0].contains("several of them are from cmdline.c, version.c"),
        "{}",
        lines[0]
    );

    // Neither if a position is given too: that counts.
    let request = Request {
        from: vec!["cmdline.c".into()],
        ..unexported(&["hidden=1"])
    };
    assert_eq!(
        converted(&patch(), &request, &known(vec![table()])),
        ["vmlinux:hidden=1"]
    );

    // Nothing is known of files.
    let request = Request {
        from: vec!["cmdline.c".into()],
        ..unexported(&["hidden"])
    };
    let list = map("1000 t hidden\n2000 t hidden\n");
    let lines = problems(&patch(), &request, &known(vec![list]));
    assert!(
        lines[0].contains("no source files are known"),
        "{}",
        lines[0]
    );

    // A symbol of all files may be from any.
    let mut module = vmlinux();
    module.symbol_at("hidden", GLOBAL | FUNCTION, 2, 0x4000, 16);
    let lines = problems(
        &patch(),
        &request,
        &known(vec![read_vmlinux(&module.build(), &[])]),
    );
    assert!(
        lines[0].contains("not for all of them is the source file known"),
        "{}",
        lines[0]
    );

    // And if there is only one, no file needs to be known.
    let list = map("1000 t hidden\n");
    assert_eq!(
        converted(&patch(), &request, &known(vec![list])),
        ["vmlinux:hidden"]
    );
}

#[test]
fn variables_have_source_files_too() {
    let mut module = vmlinux();
    module.symbol_at("net.c", LOCAL | FILE, ABSOLUTE, 0, 0);
    module.symbol_at("hidden", LOCAL | OBJECT, 2, 0x9000, 8);
    let units = [
        unit("", "fs/proc/cmdline.c", 0x2000, 0x7000),
        unit("", "net/net.c", 0x8000, 0x9000),
    ];
    module.section(".debug_info", SHT_PROGBITS, 0, &units.concat());
    module.section(".debug_abbrev", SHT_PROGBITS, 0, ABBREVIATIONS);
    let request = Request {
        from: vec!["net/net.c".into()],
        ..unexported(&["hidden"])
    };
    let known = known(vec![read_vmlinux(&module.build(), &["net/net.c"])]);
    assert_eq!(converted(&patch(), &request, &known), ["vmlinux:hidden=3"]);
}

#[test]
fn files_of_different_kernels() {
    let maps = vec![
        read_vmlinux(&vmlinux().build(), &[]),
        map("1000 t hidden\n"),
    ];
    let lines = problems(&patch(), &unexported(&["hidden=1"]), &known(maps));
    assert!(
        lines[0].starts_with(
            "file 1 has 2 symbols hidden of vmlinux, but file 2 has 1: \
             they are not of the same kernel"
        ),
        "{}",
        lines[0]
    );
}

/// A target with several static functions of one name.
fn target() -> Module {
    let mut module = Module::new();
    module.symbol_at("a.c", LOCAL | FILE, ABSOLUTE, 0, 0);
    module.symbol_at("hidden", LOCAL | FUNCTION, 2, 32, 16);
    module.symbol_at("b.c", LOCAL | FILE, ABSOLUTE, 0, 0);
    module.symbol_at("hidden", LOCAL | FUNCTION, 2, 0, 16);
    module
}

fn read_target(module: &Module) -> SymbolMap {
    SymbolMap::read_object("target", module.build().as_slice()).unwrap()
}

#[test]
fn symbols_of_modules_are_in_the_order_of_the_symbol_table() {
    let maps = || known(vec![read_target(&target())]);
    for (from, position) in [("a.c", 1), ("b.c", 2)] {
        let request = Request {
            from: vec![from.into()],
            ..unexported(&["target:hidden"])
        };
        assert_eq!(
            converted(&patch(), &request, &maps()),
            [format!("target:hidden={position}")]
        );
    }
    let lines = problems(&patch(), &unexported(&["target:hidden"]), &maps());
    assert!(
        lines[0].starts_with(
            "module target has 2 symbols hidden: say which with --position target:hidden=N"
        ),
        "{}",
        lines[0]
    );
    let lines = problems(&patch(), &unexported(&["target:hidden=3"]), &maps());
    assert!(lines[0].contains("number 3 is asked for"), "{}", lines[0]);
}

/// Their positions are not the same before and after the target was initialised.
#[test]
fn symbols_that_go_after_the_initialisation() {
    let mut module = target();
    module.section(".init.text", SHT_PROGBITS, SHF_ALLOC | 4, &[0; 32]);
    module.symbol_at("hidden", LOCAL | FUNCTION, 3, 0, 16);
    let known = known(vec![read_target(&module)]);
    let lines = problems(&patch(), &unexported(&["target:hidden=2"]), &known);
    assert!(lines[0].contains("their positions change"), "{}", lines[0]);

    // The only one would be freed memory.
    let mut module = Module::new();
    module.section(".init.text", SHT_PROGBITS, SHF_ALLOC | 4, &[0; 32]);
    module.symbol_at("hidden", LOCAL | FUNCTION, 3, 0, 16);
    let file = module.build();
    for object in ["target", "vmlinux"] {
        let known = self::known(vec![
            SymbolMap::read_object(object, file.as_slice()).unwrap()
        ]);
        let request = unexported(&[&format!("{object}:hidden")]);
        let lines = problems(&patch(), &request, &known);
        assert!(
            lines[0].contains("is gone when it has been initialised"),
            "{}",
            lines[0]
        );
    }
}

/// Positions in vmlinux count those too: kallsyms keeps them.
#[test]
fn symbols_of_the_boot_count() {
    let mut module = vmlinux();
    module.section(".init.text", SHT_PROGBITS, SHF_ALLOC | 4, &[0; 32]);
    module.symbol_at("hidden", LOCAL | FUNCTION, 3, 0x100, 16);
    let known = known(vec![read_vmlinux(&module.build(), &[])]);
    assert_eq!(
        converted(&patch(), &unexported(&["hidden=3"]), &known),
        ["vmlinux:hidden=3"]
    );
    let lines = problems(&patch(), &unexported(&["hidden=1"]), &known);
    assert!(
        lines[0].contains("is gone when it has been initialised"),
        "{}",
        lines[0]
    );
}

/// DWARF may lack the place of one symbol, but not of all that are from its file.
#[test]
fn neighbours_tell_the_source_file() {
    let with = |units: &[&[u8]]| {
        let mut module = vmlinux();
        module.symbol_at("net.c", LOCAL | FILE, ABSOLUTE, 0, 0);
        module.symbol_at("hidden", LOCAL | OBJECT, 2, 0x6000, 8);
        module.symbol_at("neighbour", LOCAL | FUNCTION, 2, 0x8000, 16);
        module.symbol_at("another", LOCAL | FUNCTION, 2, 0x8010, 16);
        module.section(".debug_info", SHT_PROGBITS, 0, &units.concat());
        module.section(".debug_abbrev", SHT_PROGBITS, 0, ABBREVIATIONS);
        known(vec![read_vmlinux(&module.build(), &[])])
    };
    let request = Request {
        from: vec!["net/net.c".into()],
        ..unexported(&["hidden"])
    };
    let one = unit("", "net/net.c", 0x8000, 0x9000);
    assert_eq!(
        converted(&patch(), &request, &with(&[&one])),
        ["vmlinux:hidden=3"]
    );
    // Unless they do not agree.
    let other = unit("", "other/net.c", 0x8010, 0x9010);
    let lines = problems(&patch(), &request, &with(&[&one, &other]));
    assert!(
        lines[0].contains("only names of source files are known"),
        "{}",
        lines[0]
    );
}

#[test]
fn automatically() {
    let mut known = known(vec![map("0 T printk\n8 t hidden\n10 d other\n")]);
    known.set_exports(exports(PRINTK));
    assert_eq!(
        converted(&patch(), &automatic(&[]), &known),
        ["vmlinux:hidden", "vmlinux:other"]
    );
}

#[test]
fn automatically_with_targets() {
    let list = || map("0 T printk\n10 d other\n20 t hidden\t[target]\n");
    let mut all = known(vec![list()]);
    all.set_exports(exports(PRINTK));
    assert_eq!(
        converted(&patch(), &automatic(&["target", "target"]), &all),
        ["target:hidden", "vmlinux:other"]
    );

    // Other modules are not patched, though they have it.
    let lines = problems(&patch(), &automatic(&[]), &all);
    assert_eq!(lines.len(), 1);
    assert!(
        lines[0].starts_with("hidden is undefined, and no Module.symvers exports it")
            && lines[0].contains("found    target 1. 0000000000000020 function\n")
            && lines[0].contains("write    --unexported target:hidden"),
        "{}",
        lines[0]
    );

    // What the target exports is converted, what another module exports is not.
    let hidden = |object: &str| format!("{PRINTK}0\thidden\tdrivers/{object}\tEXPORT_SYMBOL\t\n");
    all.set_exports(exports(&hidden("target")));
    assert_eq!(
        converted(&patch(), &automatic(&["target"]), &all),
        ["target:hidden", "vmlinux:other"]
    );
    all.set_exports(exports(&hidden("another")));
    assert_eq!(
        converted(&patch(), &automatic(&["target"]), &all),
        ["vmlinux:other"]
    );
}

#[test]
fn nothing_is_guessed() {
    let lines = "0 T printk\n8 t hidden\n10 d other\n20 t hidden\t[target]\n";
    let mut known = known(vec![map(lines)]);
    known.set_exports(exports(PRINTK));
    let problem = &problems(&patch(), &automatic(&["target"]), &known)[0];
    assert!(
        problem.starts_with("several objects have a symbol hidden")
            && problem.contains("--unexported vmlinux:hidden or --unexported target:hidden"),
        "{problem}"
    );
    // If the user says it, it is clear.
    let request = Request {
        automatic: true,
        targets: vec!["target".into()],
        ..unexported(&["target:hidden"])
    };
    assert_eq!(
        converted(&patch(), &request, &known),
        ["target:hidden", "vmlinux:other"]
    );
}

#[test]
fn all_problems_at_once() {
    let mut known = known(vec![map("0 T printk\n8 t hidden\n10 t hidden\n")]);
    known.set_exports(exports(PRINTK));
    let lines = problems(&patch(), &automatic(&[]), &known);
    assert_eq!(lines.len(), 2);
    assert!(
        lines[0].starts_with("the kernel has 2 symbols hidden"),
        "{}",
        lines[0]
    );
    assert!(
        lines[1].starts_with("other is undefined")
            && lines[1].contains("found    nowhere")
            && lines[1].contains("used by  objs+0x8 (.data+0x8)\n"),
        "{}",
        lines[1]
    );
}

/// Else insmod would be the first to say so.
#[test]
fn what_is_forgotten_is_said() {
    let mut known = known(vec![map("0 T printk\n8 t hidden\n10 d other\n")]);
    known.set_exports(exports(PRINTK));
    let lines = problems(&patch(), &unexported(&["hidden"]), &known);
    assert_eq!(lines.len(), 1);
    assert!(
        lines[0].starts_with("other is undefined, and no Module.symvers exports it")
            && lines[0].contains("write    --unexported other"),
        "{}",
        lines[0]
    );
    // Without knowledge of the kernel's symbols too.
    let mut known = Known::default();
    known.set_exports(exports(PRINTK));
    let lines = problems(&patch(), &unexported(&["hidden"]), &known);
    assert!(
        lines[0].contains("write    --unexported [OBJECT:]other"),
        "{}",
        lines[0]
    );
}

#[test]
fn weak_symbols_can_be_missing() {
    let mut none = known(vec![map("0 T printk\n10 d other\n")]);
    none.set_exports(exports(PRINTK));
    assert_eq!(
        converted(&patch_with(WEAK), &automatic(&[]), &none),
        ["vmlinux:other"]
    );
    assert_eq!(
        converted(&patch_with(WEAK), &unexported(&["hidden", "other"]), &none),
        ["vmlinux:other"]
    );
    assert_eq!(
        converted(&patch_with(WEAK), &unexported(&["other"]), &none),
        ["vmlinux:other"]
    );
    let mut there = known(vec![map("0 T printk\n8 t hidden\n10 d other\n")]);
    there.set_exports(exports(PRINTK));
    assert_eq!(
        converted(&patch_with(WEAK), &automatic(&[]), &there),
        ["vmlinux:hidden", "vmlinux:other"]
    );
}

/// The kernel's loader passes over it, and so do we.
#[test]
fn global_offset_table() {
    let mut module = Module::new();
    module.symbol("_GLOBAL_OFFSET_TABLE_", GLOBAL, 0);
    let mut known = known(vec![map("0 T printk\n")]);
    known.set_exports(exports(PRINTK));
    for request in [automatic(&[]), unexported(&[])] {
        assert_eq!(
            convert(&module.build(), &request, &known),
            Ok(Outcome::NothingToDo)
        );
    }
}

#[test]
fn requests() {
    for text in ["a", "a=1", "m:a", "some-module:a=2", "dir/some-module.ko:a"] {
        assert!(text.parse::<Unexported>().is_ok(), "{text}");
    }
    for (text, reason) in [
        ("", "a symbol ''"),
        ("m:", "a symbol ''"),
        (":a", "an object ''"),
        ("a=", "expected"),
        ("a=0", "expected"),
        ("a=x", "expected"),
        ("a,b", "a symbol 'a,b'"),
        ("a.b:c", "an object 'a.b'"),
    ] {
        let error = text.parse::<Unexported>().unwrap_err();
        assert!(error.contains(reason), "{text}: {error}");
    }
    let mut list = Symbols::default();
    let mut add = |text: &str| list.add_unexported(&text.parse().unwrap());
    assert_eq!(add("a"), Ok(()));
    assert_eq!(add("vmlinux:a=2"), Ok(()));
    assert_eq!(add("a"), Ok(()));
    assert_eq!(add("a=3"), Err("two positions for vmlinux:a".into()));
    assert_eq!(add("m:a"), Err("a is in vmlinux too".into()));
}

#[test]
fn lists_of_exported_symbols() {
    let error = |text: &[u8]| Exports::default().add(text).unwrap_err();
    assert!(error(b"0\ta\tvmlinux\tEXPORT_SYMBOL\t\n0\ta\n").starts_with("2: expected"));
    assert!(error(b"\xff").contains("not a text file"));
}

#[test]
fn code_without_a_file_is_no_object() {
    let map = map("0 T _stext\n8 t a\t[bpf]\n10 t b\t[__builtin__ftrace]\n18 t c\t[module]\n");
    assert!(map.is_of_kernel() && map.knows("vmlinux") && map.knows("module"));
    assert!(!map.knows("bpf") && !map.knows("__builtin__ftrace"));
    // What Debian installs as System.map.
    let stub = b"ffffffffffffffff B The real System.map is in the linux-image-7.3.4-dbg package\n";
    assert!(SymbolMap::parse(stub).is_err());
    assert!(!self::map("0 T other\n").is_of_kernel());
}

#[test]
fn files_without_symbols() {
    let error = |file: &[u8]| SymbolMap::read_object("vmlinux", file).unwrap_err();
    assert!(error(&Module::new().build()).contains("stripped"));
    assert!(!error(b"").is_empty());
    assert!(!error(b"#!/bin/sh\n").is_empty());
}

#[test]
fn compressed_debugging_information() {
    let mut module = vmlinux();
    module.section(".debug_info", SHT_PROGBITS, 0x800, &[0; 32]);
    let file = module.build();
    let mut map = SymbolMap::read_object("vmlinux", file.as_slice()).unwrap();
    let names = HashSet::from(["hidden".into()]);
    let error = map.read_sources(&names, &[], file.as_slice()).unwrap_err();
    assert!(
        error.contains("objcopy --decompress-debug-sections"),
        "{error}"
    );
}

/// Whatever the files, there is an answer.
#[test]
fn damaged_files_do_no_harm() {
    let try_vmlinux = |file: &[u8]| {
        let Ok(mut map) = SymbolMap::read_object("vmlinux", file) else {
            return;
        };
        let from = ["cmdline.c".to_owned()];
        let _ = map.read_sources(&HashSet::from(["hidden".into()]), &from, file);
        let request = Request {
            from: from.into(),
            ..unexported(&["hidden"])
        };
        let _ = convert(&patch(), &request, &known(vec![map]));
    };
    let good = vmlinux_with_dwarf();
    for length in 0..good.len() {
        try_vmlinux(&good[..length]);
    }
    for at in 0..good.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff, good[at] ^ 1] {
            let mut file = good.clone();
            file[at] = value;
            try_vmlinux(&file);
        }
    }
    // The function ends beyond all addresses.
    try_vmlinux(&vmlinux_with_dwarf_of_hidden(u64::MAX));

    // Modules that have a problem or two.
    let patch = patch();
    for at in 0..patch.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff, patch[at] ^ 1] {
            let mut file = patch.clone();
            file[at] = value;
            let mut known = known(vec![map("0 t hidden\n8 t hidden\n")]);
            known.set_exports(exports(PRINTK));
            for problem in convert(&file, &automatic(&[]), &known)
                .err()
                .into_iter()
                .flatten()
            {
                assert!(!problem.to_string().is_empty());
            }
        }
    }

    // Lists.
    let list = b"0 T a\n8 t b\t[module]\n";
    let symvers = b"0\ta\tvmlinux\tEXPORT_SYMBOL\t\n";
    for at in 0..list.len().max(symvers.len()) {
        for value in [0, b'\t', b'\n', b' ', b'[', 0xff] {
            let damaged = |file: &[u8]| {
                let mut file = file.to_vec();
                if let Some(byte) = file.get_mut(at) {
                    *byte = value;
                }
                file
            };
            let _ = SymbolMap::parse(&damaged(list));
            let _ = Exports::default().add(&damaged(symvers));
        }
    }
}
