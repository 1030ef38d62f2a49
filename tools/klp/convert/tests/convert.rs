// SPDX-License-Identifier: GPL-2.0

//! Converts small modules that are made here.

mod module;

use klp_convert::{Known, Outcome, Position, Request, SymbolMap, Symbols};
use module::*;

const SHF_KLP: u64 = 0x0010_0000;
const WEAK: u8 = 0x20;

fn bytes_to_relas(data: &[u8]) -> Vec<Rela> {
    let word = |at: usize| u64::from_le_bytes(data[at..at + 8].try_into().unwrap());
    (0..data.len())
        .step_by(24)
        .map(|at| {
            let info = word(at + 8);
            (
                word(at),
                (info >> 32) as u32,
                info as u32,
                word(at + 16) as i64,
            )
        })
        .collect()
}

fn section<'a>(sections: &'a [Section], name: &str) -> &'a Section {
    sections
        .iter()
        .find(|section| section.name == name)
        .unwrap_or_else(|| panic!("no section {name}"))
}

fn symbols(lines: &str) -> Symbols {
    let mut symbols = Symbols::default();
    symbols.add(lines.as_bytes()).unwrap();
    symbols
}

/// Where the contents of a section are.
fn offset(file: &[u8], index: usize) -> usize {
    let word = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().unwrap()) as usize;
    word(word(40) + index * 64 + 24)
}

/// A list with symbols of vmlinux.
fn of_vmlinux(names: &[&str]) -> Symbols {
    let line = |name| format!("0x00000000\t{name}\tvmlinux\tEXPORT_SYMBOL_GPL\t\n");
    symbols(&names.iter().map(line).collect::<String>())
}

/// Converts the symbols of a list; the error is the line that says what is wrong.
fn convert(file: &[u8], symbols: &Symbols, map: Option<&SymbolMap>) -> Result<Outcome, String> {
    let request = Request {
        symbols: symbols.clone(),
        ..Request::default()
    };
    let mut known = Known::default();
    if let Some(map) = map {
        known.add_map("the map", map.clone());
    }
    klp_convert::convert(file, &request, &known)
        .map_err(|problems| problems[0].message().to_owned())
}

fn map(lines: &str) -> SymbolMap {
    SymbolMap::parse(lines.as_bytes()).unwrap()
}

fn converted(file: &[u8], symbols: &Symbols, map: Option<&SymbolMap>) -> (Vec<u8>, usize, usize) {
    match convert(file, symbols, map).unwrap() {
        Outcome::Converted {
            file,
            relocations,
            symbols,
        } => (file, relocations, symbols.len()),
        Outcome::NothingToDo => panic!("nothing converted"),
    }
}

#[test]
fn moves_relocations_and_renames_symbols() {
    let before = example().build();
    let (after, relocations, count) = converted(&before, &of_vmlinux(&["hidden", "other"]), None);
    assert_eq!((relocations, count), (4, 2));
    let (old, old_symbols) = read(&before);
    let (new, new_symbols) = read(&after);

    assert_eq!(
        bytes_to_relas(&section(&new, ".rela.text").data),
        [(0, 1, 4, -4), (16, 4, 2, 0)]
    );
    assert_eq!(section(&new, ".rela.data").data, []);
    let text = section(&new, ".klp.rela.vmlinux..text");
    assert_eq!(
        bytes_to_relas(&text.data),
        [(8, 2, 4, -4), (24, 3, 4, -4), (32, 2, 11, 7)]
    );
    assert_eq!(
        (text.kind, text.flags),
        (SHT_RELA, SHF_KLP | SHF_ALLOC | SHF_INFO_LINK)
    );
    assert_eq!(new[text.link as usize].name, ".symtab");
    assert_eq!(new[text.info as usize].name, ".text");
    assert_eq!(
        bytes_to_relas(&section(&new, ".klp.rela.vmlinux..data").data),
        [(0, 3, 1, 5)]
    );

    assert_eq!(new_symbols[2], (".klp.sym.vmlinux.hidden,0".into(), 0xff20));
    assert_eq!(new_symbols[3], (".klp.sym.vmlinux.other,0".into(), 0xff20));
    assert_eq!(new_symbols[1], old_symbols[1]);
    assert_eq!(new_symbols[4], old_symbols[4]);

    // Everything else is where and what it was.
    for (index, (old, new)) in old.iter().zip(&new).enumerate() {
        let changed = [
            ".rela.text",
            ".rela.data",
            ".symtab",
            ".strtab",
            ".shstrtab",
        ]
        .contains(&old.name.as_str());
        assert!(changed || old == new, "section {index}");
        assert_eq!(old.name, new.name);
    }
    assert_eq!(new.len(), old.len() + 2);
    // What shrank, too, and nothing of what moved away is left there.
    for (name, rest) in [(".rela.text", 72), (".rela.data", 24)] {
        let at = old.iter().position(|section| section.name == name);
        let start = offset(&before, at.unwrap());
        assert_eq!(offset(&after, at.unwrap()), start, "{name}");
        let end = start + section(&new, name).data.len();
        assert!(after[end..end + rest].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn relocations_of_what_is_not_loaded_stay() {
    let (after, ..) = converted(&example().build(), &of_vmlinux(&["hidden"]), None);
    let (sections, _) = read(&after);
    assert_eq!(
        bytes_to_relas(&section(&sections, ".rela.debug_info").data),
        [(0, 2, 1, 0)]
    );
}

#[test]
fn second_time_there_is_nothing_to_do() {
    let list = of_vmlinux(&["hidden", "other"]);
    let (after, ..) = converted(&example().build(), &list, None);
    assert_eq!(convert(&after, &list, None), Ok(Outcome::NothingToDo));
}

#[test]
fn symbols_that_are_not_used_do_not_matter() {
    let list = of_vmlinux(&["not_referred_to"]);
    assert_eq!(
        convert(&example().build(), &list, None),
        Ok(Outcome::NothingToDo)
    );
}

/// Else the loader would refuse the module, as it does not know the symbol.
#[test]
fn symbols_without_loaded_relocations_are_marked() {
    let mut module = Module::new();
    module.section(".debug_info", SHT_PROGBITS, 0, &[0; 32]);
    let hidden = module.symbol("hidden", GLOBAL, 0);
    module.relas(".debug_info", &[(0, hidden, 1, 0)]);
    let (after, relocations, count) = converted(&module.build(), &of_vmlinux(&["hidden"]), None);
    assert_eq!((relocations, count), (0, 1));
    let (sections, symbols) = read(&after);
    assert_eq!(symbols[1], (".klp.sym.vmlinux.hidden,0".into(), 0xff20));
    assert_eq!(
        bytes_to_relas(&section(&sections, ".rela.debug_info").data),
        [(0, 1, 1, 0)]
    );
    assert!(!sections
        .iter()
        .any(|section| section.name.starts_with(".klp")));
}

/// A module may bring livepatch relocations of its own; they are no longer ours to move.
#[test]
fn earlier_livepatch_relocations_stay() {
    let (first, ..) = converted(&example().build(), &of_vmlinux(&["hidden"]), None);
    let (second, relocations, count) = converted(&first, &of_vmlinux(&["other"]), None);
    assert_eq!((relocations, count), (2, 1));
    let (sections, symbols) = read(&second);
    let klp: Vec<_> = sections
        .iter()
        .filter(|section| section.name == ".klp.rela.vmlinux..text")
        .map(|section| bytes_to_relas(&section.data))
        .collect();
    assert_eq!(
        klp,
        [vec![(8, 2, 4, -4), (32, 2, 11, 7)], vec![(24, 3, 4, -4)]]
    );
    assert_eq!(symbols[2].0, ".klp.sym.vmlinux.hidden,0");
    assert_eq!(symbols[3].0, ".klp.sym.vmlinux.other,0");
}

/// Compilers make such files.
#[test]
fn one_table_for_all_names() {
    let mut file = example().build();
    let table = u64::from_le_bytes(file[40..48].try_into().unwrap()) as usize;
    let (sections, _) = read(&file);
    let index = |name: &str| {
        sections
            .iter()
            .position(|section| section.name == name)
            .unwrap()
    };
    let (strtab, shstrtab) = (index(".strtab"), index(".shstrtab"));
    // Both tables in one, behind the rest; names of symbols move.
    let moved = sections[shstrtab].data.len() as u32;
    let start = file.len() as u64;
    file.extend(&sections[shstrtab].data);
    file.extend(&sections[strtab].data);
    let size = file.len() as u64 - start;
    let at = table + shstrtab * 64;
    file[at + 24..at + 32].copy_from_slice(&start.to_le_bytes());
    file[at + 32..at + 40].copy_from_slice(&size.to_le_bytes());
    let symtab = table + index(".symtab") * 64;
    file[symtab + 40..symtab + 44].copy_from_slice(&(shstrtab as u32).to_le_bytes());
    let symbols = u64::from_le_bytes(file[symtab + 24..symtab + 32].try_into().unwrap()) as usize;
    for entry in 1..=4 {
        let at = symbols + entry * 24;
        let name = u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
        file[at..at + 4].copy_from_slice(&(name + moved).to_le_bytes());
    }

    let (after, ..) = converted(&file, &of_vmlinux(&["hidden"]), None);
    let (sections, symbols) = read(&after);
    assert_eq!(symbols[2].0, ".klp.sym.vmlinux.hidden,0");
    assert_eq!(section(&sections, ".klp.rela.vmlinux..text").data.len(), 48);
}

#[test]
fn symbols_of_several_objects() {
    let list = symbols("0\thidden\tvmlinux\tx\n0\tother\tdrivers/net/some-driver.ko\tx\tNS\n");
    let (after, ..) = converted(&example().build(), &list, None);
    let (sections, symbols) = read(&after);
    assert_eq!(
        bytes_to_relas(&section(&sections, ".klp.rela.vmlinux..text").data).len(),
        2
    );
    assert_eq!(
        bytes_to_relas(&section(&sections, ".klp.rela.some_driver..text").data).len(),
        1
    );
    assert_eq!(
        bytes_to_relas(&section(&sections, ".klp.rela.some_driver..data").data).len(),
        1
    );
    assert_eq!(symbols[3].0, ".klp.sym.some_driver.other,0");
}

#[test]
fn positions_are_checked_against_the_kernel() {
    let file = example().build();
    let kernel = map(
        "ffffffff81000000 T printk\nffffffff81000010 t hidden\nffffffff81000020 t hidden\n\
		0000000000000000 A other\nffffffffc0000000 t other\t[some_module]\n",
    );
    let mut list = of_vmlinux(&["hidden", "other"]);
    let error = convert(&file, &list, Some(&kernel)).unwrap_err();
    assert!(
        error.contains("2 symbols hidden") && error.contains("--position vmlinux:hidden=N"),
        "{error}"
    );

    list.set_positions(&["vmlinux:hidden=2".parse().unwrap()])
        .unwrap();
    let (after, ..) = converted(&file, &list, Some(&kernel));
    assert_eq!(read(&after).1[2].0, ".klp.sym.vmlinux.hidden,2");
    assert_eq!(read(&after).1[3].0, ".klp.sym.vmlinux.other,0");

    let mut list = of_vmlinux(&["hidden", "other"]);
    list.set_positions(&["vmlinux:hidden=3".parse().unwrap()])
        .unwrap();
    let error = convert(&file, &list, Some(&kernel)).unwrap_err();
    assert!(error.contains("number 3 is asked for"), "{error}");

    // Also if a position is given that is right, but not needed.
    let mut list = of_vmlinux(&["other"]);
    list.set_positions(&["vmlinux:other=1".parse().unwrap()])
        .unwrap();
    let (after, ..) = converted(&file, &list, Some(&kernel));
    assert_eq!(read(&after).1[3].0, ".klp.sym.vmlinux.other,0");

    let error = convert(&file, &of_vmlinux(&["other"]), Some(&map("0 T x\n"))).unwrap_err();
    assert_eq!(error, "the kernel has no symbol other");
}

#[test]
fn position_without_a_map() {
    let mut list = of_vmlinux(&["hidden"]);
    list.set_positions(&["vmlinux:hidden=7".parse().unwrap()])
        .unwrap();
    let (after, ..) = converted(&example().build(), &list, None);
    assert_eq!(read(&after).1[2].0, ".klp.sym.vmlinux.hidden,7");
}

#[test]
fn positions_and_maps_of_modules() {
    let mut list = symbols("0\thidden\tsome-module\tx\n");
    list.set_positions(&["some-module:hidden=2".parse().unwrap()])
        .unwrap();
    let kernel = map("0 T x\n");
    let (after, ..) = converted(&example().build(), &list, Some(&kernel));
    assert_eq!(read(&after).1[2].0, ".klp.sym.some_module.hidden,2");
}

#[test]
fn longest_names() {
    let (name, object) = ("n".repeat(511), "o".repeat(55));
    let mut module = Module::new();
    let symbol = module.symbol(&name, GLOBAL, 0);
    module.relas(".text", &[(0, symbol, 4, -4)]);
    let list = symbols(&format!("0\t{name}\t{object}\tx\n"));
    let (after, ..) = converted(&module.build(), &list, None);
    assert_eq!(read(&after).1[1].0, format!(".klp.sym.{object}.{name},0"));
}

#[test]
fn weak_symbol_that_the_kernel_lacks_stays() {
    let mut module = Module::new();
    let weak = module.symbol("maybe", WEAK, 0);
    module.relas(".text", &[(0, weak, 4, -4)]);
    let list = of_vmlinux(&["maybe"]);
    assert_eq!(
        convert(&module.build(), &list, Some(&map("0 T x\n"))),
        Ok(Outcome::NothingToDo)
    );
    converted(&module.build(), &list, Some(&map("0 T maybe\n")));
}

fn refused(file: &[u8], expected: &str) {
    let error = convert(file, &of_vmlinux(&["hidden"]), None).unwrap_err();
    assert!(
        error.contains(expected),
        "'{error}' should contain '{expected}'"
    );
}

#[test]
fn wrong_files() {
    let good = example().build();
    let with = |at: usize, byte: u8| {
        let mut file = good.clone();
        file[at] = byte;
        file
    };
    refused(b"", "not an ELF file");
    refused(b"#!/bin/sh\n", "not an ELF file");
    refused(&good[..40], "cut off");
    refused(&good[..good.len() - 1], "cut off");
    refused(&with(4, 1), "64-bit little-endian");
    refused(&with(5, 2), "64-bit little-endian");
    refused(&with(16, 2), "not a relocatable object");
    refused(&with(58, 63), "section headers");

    let mut signed = good.clone();
    signed.extend(b"signature~Module signature appended~\n");
    refused(&signed, "signed");

    let mut module = example();
    module.sections[0].data = b"license=GPL\0livepatch=N\0".to_vec();
    refused(&module.build(), "MODULE_INFO(livepatch, \"Y\")");
    module.sections[0].name = ".other".into();
    refused(&module.build(), "MODULE_INFO(livepatch, \"Y\")");
}

#[test]
fn too_many_sections() {
    let good = example().build();
    let with = |at: usize, value: u16| {
        let mut file = good.clone();
        file[at..at + 2].copy_from_slice(&value.to_le_bytes());
        file
    };
    refused(&with(60, 0), "too many sections");
    refused(&with(60, 0xff00), "too many sections");
    refused(&with(62, 0xffff), "too many sections");

    let mut module = example();
    module.section(".symtab_shndx", 18, 0, &[0; 4]);
    refused(&module.build(), "too many sections");
    let mut module = example();
    module.symbol("far", GLOBAL, 0xffff);
    refused(&module.build(), "too many sections");

    // No place for the two that the conversion adds, though the file itself is good.
    let mut module = example();
    while module.sections.len() + 4 < 0xfeff {
        module.section(".x", SHT_PROGBITS, SHF_ALLOC, &[]);
    }
    refused(&module.build(), "too many sections");
}

#[test]
fn sections_that_are_cut_off_or_overlap() {
    let good = example().build();
    let (sections, _) = read(&good);
    let table = u64::from_le_bytes(good[40..48].try_into().unwrap()) as usize;
    // Any section, not only those that are changed.
    for index in 1..sections.len() {
        let mut file = good.clone();
        let at = table + index * 64 + 32;
        file[at..at + 8].copy_from_slice(&(good.len() as u64).to_le_bytes());
        refused(&file, "cut off");
        file[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        refused(&file, "cut off");
    }

    // Many sections of relocations, all in the same place.
    let mut module = example();
    for _ in 0..100 {
        module.relas(".text", &[]);
    }
    module.section(".zeros", SHT_PROGBITS, 0, &[0; 4800]);
    let mut file = module.build();
    let table = u64::from_le_bytes(file[40..48].try_into().unwrap()) as usize;
    let (sections, _) = read(&file);
    let zeros =
        table + (sections.iter().position(|section| section.name == ".zeros")).unwrap() * 64;
    for (index, section) in sections.iter().enumerate() {
        if section.kind == SHT_RELA {
            let at = table + index * 64;
            file.copy_within(zeros + 24..zeros + 40, at + 24);
        }
    }
    refused(&file, "overlap");
}

#[test]
fn wrong_tables() {
    let mut module = example();
    let index = module.section(".rel.text", SHT_REL, 0, &[0; 16]);
    module.sections[index - 1].info = 2;
    refused(&module.build(), "without addends");

    let good = example().build();
    let (sections, _) = read(&good);
    let table = u64::from_le_bytes(good[40..48].try_into().unwrap()) as usize;
    let field = |name: &str, offset: usize, value: u8| {
        let index = sections
            .iter()
            .position(|section| section.name == name)
            .unwrap();
        let mut file = good.clone();
        file[table + index * 64 + offset] = value;
        file
    };
    refused(&field(".rela.text", 40, 0), "refer to no symbol table");
    refused(&field(".rela.text", 44, 99), "section that does not exist");
    refused(&field(".rela.text", 32, 119), "middle of an entry");
    refused(&field(".symtab", 32, 119), "middle of an entry");
    refused(&field(".symtab", 40, 1), "string table is missing");
    refused(&field(".symtab", 40, 99), "string table is missing");
    refused(&field(".shstrtab", 4, 1), "string table is missing");
    refused(&field(".strtab", 32, 3), "a name is cut off");
}

#[test]
fn no_or_two_symbol_tables() {
    let mut module = example();
    module.section(".symtab2", SHT_SYMTAB, 0, &[0; 24]);
    refused(&module.build(), "more than one symbol table");

    let mut file = example().build();
    let table = u64::from_le_bytes(file[40..48].try_into().unwrap()) as usize;
    let count = usize::from(u16::from_le_bytes(file[60..62].try_into().unwrap()));
    for at in (0..count).map(|index| table + index * 64 + 4) {
        if file[at] == SHT_SYMTAB as u8 {
            file[at] = SHT_PROGBITS as u8;
        }
    }
    refused(&file, "no symbol table");
}

#[test]
fn relocation_against_a_symbol_that_does_not_exist() {
    let mut module = example();
    module.relas(".data", &[(0, 99, 1, 0)]);
    refused(&module.build(), "symbol that does not exist");
}

#[test]
fn wrong_lists() {
    let error = |line: &str| Symbols::default().add(line.as_bytes()).unwrap_err();
    assert!(error("0\ta\tvmlinux\tx\n\nmalformed\n").starts_with("3: expected"));
    assert!(error("0\ta,b\tvmlinux\tx").contains("'a,b'"));
    assert!(
        error(&format!("0\t{}\tvmlinux\tx", "x".repeat(512))).contains("no livepatch relocation")
    );
    assert!(error(&format!("0\ta\t{}\tx", "x".repeat(56))).contains("no livepatch relocation"));
    assert!(error("0\ta\tsome.module\tx").contains("'some.module'"));
    assert!(error("0\ta\t\tx").contains("''"));
    assert!(error("0\t\tvmlinux\tx").contains("''"));
    assert!(error("0\ta\0b\tvmlinux\tx").contains("'a\\u{0}b'"));
    assert!(error("0\ta\tsome module\tx").contains("'some module'"));
    assert!(error("crc\ta\tvmlinux\tx").starts_with("1: 'crc'"));
    assert!(error("0\ta\tvmlinux\tx\tNS\tmore").starts_with("1: expected"));
    assert!(error("0\ta\tone\tx\n0\ta\ttwo\tx").contains("2: a is in one too"));
    assert!(Symbols::default()
        .add(&[0xff, 0xfe])
        .unwrap_err()
        .contains("not a text file"));
    assert!(SymbolMap::parse(b"0 T a\n0 T\n")
        .unwrap_err()
        .starts_with("2: expected"));
    assert!(SymbolMap::parse(b"zero T a\n")
        .unwrap_err()
        .contains("'zero'"));
    for line in ["0 TT a", "0 T a b", "0 T a [b] c"] {
        let error = SymbolMap::parse(line.as_bytes()).unwrap_err();
        assert!(error.starts_with("1: "), "{line}: {error}");
    }
}

#[test]
fn wrong_positions() {
    for text in [
        "", "a", "a:b", "a:b=", "a:b=0", "a:b=-1", "a:b=x", ":b=1", "a:=1",
    ] {
        assert!(text.parse::<Position>().is_err(), "{text}");
    }
    let set = |texts: &[&str]| {
        let positions: Vec<Position> = texts.iter().map(|text| text.parse().unwrap()).collect();
        of_vmlinux(&["hidden"]).set_positions(&positions)
    };
    assert!(set(&["vmlinux:hidden=1", "vmlinux:hidden=2"])
        .unwrap_err()
        .contains("two positions"));
    assert!(set(&["vmlinux:other=1"])
        .unwrap_err()
        .contains("not in the list"));
    assert!(set(&["some_module:hidden=1"])
        .unwrap_err()
        .contains("not in the list"));
}

/// Whatever the file, there is an answer.
#[test]
fn damaged_files_do_no_harm() {
    let good = example().build();
    let list = of_vmlinux(&["hidden", "other"]);
    for length in 0..good.len() {
        assert!(
            convert(&good[..length], &list, None).is_err(),
            "{length} bytes"
        );
    }
    for at in 0..good.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff, good[at] ^ 1] {
            let mut file = good.clone();
            file[at] = value;
            if let Ok(Outcome::Converted { file, .. }) = convert(&file, &list, None) {
                // Neither does what comes out.
                let _ = convert(&file, &of_vmlinux(&["printk"]), None);
            }
        }
    }
}

/// A module with a section that refers to a symbol.
fn with_section(name: &str) -> Vec<u8> {
    let mut module = Module::new();
    module.section(name, SHT_PROGBITS, SHF_ALLOC, &[0; 32]);
    let hidden = module.symbol("hidden", GLOBAL, 0);
    module.relas(name, &[(8, hidden, 1, 0)]);
    module.build()
}

/// A list with a symbol of a module.
fn of_module() -> Symbols {
    symbols("0x00000000\thidden\tother-driver\tEXPORT_SYMBOL_GPL\t\n")
}

#[test]
fn refuses_what_cannot_be_relocated_late() {
    for (name, reason) in [
        (
            ".init_array",
            "is freed when the module has been initialised",
        ),
        (
            ".init.text",
            "is freed when the module has been initialised",
        ),
        (
            ".init.data",
            "is freed when the module has been initialised",
        ),
        (".data..percpu", "is copied for each CPU"),
        ("__ex_table", "is sorted"),
        (".orc_unwind_ip", "is sorted"),
        ("__param", "is read for the parameters"),
        (".ctors", "lists functions that are called"),
        ("_ftrace_events", "is registered"),
        ("_ftrace_eval_map", "is registered"),
        ("_kprobe_blacklist", "is registered"),
        ("_error_injection_whitelist", "is registered"),
        ("___srcu_struct_ptrs", "is registered"),
        ("__jump_table", "patches code"),
        (".static_call_sites", "patches code"),
        (".altinstructions", "patches code"),
        (".altinstr_replacement", "patches code"),
        (".altinstr_aux", "patches code"),
        (".retpoline_sites", "patches code"),
        (".return_sites", "patches code"),
        (".call_sites", "patches code"),
        (".cfi_sites", "patches code"),
        (".ibt_endbr_seal", "patches code"),
        ("__mcount_loc", "is read by ftrace"),
        ("__patchable_function_entries", "is read by ftrace"),
        (
            ".gnu.linkonce.this_module",
            "is read when this module is initialised",
        ),
    ] {
        let error = convert(&with_section(name), &of_module(), None).unwrap_err();
        let start =
            format!("section {name} refers to .klp.sym.other_driver.hidden,0, but {name} {reason}");
        assert!(error.starts_with(&start), "{name}: {error}");
        assert!(error.ends_with("use the symbol in code that runs when other_driver is there"));
        // Symbols of vmlinux are there before any of this happens.
        converted(&with_section(name), &of_vmlinux(&["hidden"]), None);
    }
}

#[test]
fn relocates_code_and_data_late() {
    for name in [
        ".text",
        ".text.unlikely",
        ".data",
        ".rodata",
        ".exit.text",
        "__bug_table",
    ] {
        let mut module = Module::new();
        if name != ".text" {
            module.section(name, SHT_PROGBITS, SHF_ALLOC, &[0; 32]);
        }
        let hidden = module.symbol("hidden", GLOBAL, 0);
        module.relas(name, &[(8, hidden, 1, 0)]);
        let (after, relocations, _) = converted(&module.build(), &of_module(), None);
        assert_eq!(relocations, 1);
        let (sections, _) = read(&after);
        section(&sections, &format!(".klp.rela.other_driver.{name}"));
    }
}
