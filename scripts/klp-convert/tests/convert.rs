// SPDX-License-Identifier: GPL-2.0

//! Converts small modules that are made here.

use klp_convert::{convert, Outcome, Position, SymbolMap, Symbols};

const SHT_PROGBITS: u32 = 1;
const SHT_SYMTAB: u32 = 2;
const SHT_STRTAB: u32 = 3;
const SHT_RELA: u32 = 4;
const SHF_ALLOC: u64 = 2;
const SHF_INFO_LINK: u64 = 0x40;
const SHF_KLP: u64 = 0x0010_0000;
const GLOBAL: u8 = 0x10;
const WEAK: u8 = 0x20;

/// A section, with its name spelled out.
#[derive(Clone, Debug, PartialEq)]
struct Section {
    name: String,
    kind: u32,
    flags: u64,
    link: u32,
    info: u32,
    data: Vec<u8>,
}

/// A relocation: where, against which symbol, of which type, with which addend.
type Rela = (u64, u32, u32, i64);

/// A module to be made. Sections: 0 null, then `sections`, then symbol table, symbols' names, sections' names.
#[derive(Clone, Default)]
struct Module {
    sections: Vec<Section>,
    /// Name, binding, section.
    symbols: Vec<(String, u8, u16)>,
}

fn relas_to_bytes(relas: &[Rela]) -> Vec<u8> {
    let mut data = vec![];
    for (offset, symbol, kind, addend) in relas {
        data.extend(offset.to_le_bytes());
        data.extend((u64::from(*symbol) << 32 | u64::from(*kind)).to_le_bytes());
        data.extend(addend.to_le_bytes());
    }
    data
}

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

impl Module {
    /// A module marked as a livepatch, with code.
    fn new() -> Self {
        let mut this = Self::default();
        this.section(
            ".modinfo",
            SHT_PROGBITS,
            SHF_ALLOC,
            b"license=GPL\0livepatch=Y\0",
        );
        this.section(".text", SHT_PROGBITS, SHF_ALLOC | 4, &[0x90; 64]);
        this
    }

    fn section(&mut self, name: &str, kind: u32, flags: u64, data: &[u8]) -> usize {
        self.sections.push(Section {
            name: name.into(),
            kind,
            flags,
            link: 0,
            info: 0,
            data: data.into(),
        });
        self.sections.len()
    }

    /// Relocations of the section called `target`.
    fn relas(&mut self, target: &str, relas: &[Rela]) {
        let info = self
            .sections
            .iter()
            .position(|section| section.name == target)
            .unwrap()
            + 1;
        let index = self.section(
            &format!(".rela{target}"),
            SHT_RELA,
            SHF_INFO_LINK,
            &relas_to_bytes(relas),
        );
        self.sections[index - 1].info = info as u32;
    }

    /// A symbol; returns its index.
    fn symbol(&mut self, name: &str, binding: u8, section: u16) -> u32 {
        self.symbols.push((name.into(), binding, section));
        self.symbols.len() as u32
    }

    fn build(&self) -> Vec<u8> {
        let symtab = self.sections.len() as u32 + 1;
        let (mut table, mut strings) = (vec![0; 24], vec![0]);
        for (name, binding, section) in &self.symbols {
            table.extend((strings.len() as u32).to_le_bytes());
            table.extend([*binding, 0]);
            table.extend(section.to_le_bytes());
            table.extend([0; 16]);
            strings.extend(name.bytes().chain([0]));
        }
        let mut all = self.sections.clone();
        for section in all.iter_mut().filter(|section| section.kind == SHT_RELA) {
            section.link = symtab;
        }
        let mut push = |name: &str, kind, link, data: &[u8]| {
            all.push(Section {
                name: name.into(),
                kind,
                flags: 0,
                link,
                info: 1,
                data: data.into(),
            })
        };
        push(".symtab", SHT_SYMTAB, symtab + 1, &table);
        push(".strtab", SHT_STRTAB, 0, &strings);
        push(".shstrtab", SHT_STRTAB, 0, &[]);
        let mut names = vec![0];
        let mut offsets = vec![];
        for section in &all {
            offsets.push(names.len() as u32);
            names.extend(section.name.bytes().chain([0]));
        }
        all.last_mut().unwrap().data = names;

        let mut file = vec![0; 64];
        let mut headers = vec![0; 64];
        for (section, name) in all.iter().zip(offsets) {
            file.resize(file.len().next_multiple_of(8), 0);
            headers.extend(name.to_le_bytes());
            headers.extend(section.kind.to_le_bytes());
            headers.extend(section.flags.to_le_bytes());
            headers.extend(0u64.to_le_bytes());
            headers.extend((file.len() as u64).to_le_bytes());
            headers.extend((section.data.len() as u64).to_le_bytes());
            headers.extend(section.link.to_le_bytes());
            headers.extend(section.info.to_le_bytes());
            headers.extend(8u64.to_le_bytes());
            headers.extend(if section.kind == SHT_RELA { 24u64 } else { 0 }.to_le_bytes());
            file.extend(&section.data);
        }
        file.resize(file.len().next_multiple_of(8), 0);
        let at = file.len() as u64;
        file[..20].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x01\0\x3e\0");
        file[40..48].copy_from_slice(&at.to_le_bytes());
        file[52..54].copy_from_slice(&64u16.to_le_bytes());
        file[58..60].copy_from_slice(&64u16.to_le_bytes());
        file[60..62].copy_from_slice(&(all.len() as u16 + 1).to_le_bytes());
        file[62..64].copy_from_slice(&(all.len() as u16).to_le_bytes());
        file.extend(headers);
        file
    }
}

/// Reads a file back: its sections, and its symbols as name and section.
fn read(file: &[u8]) -> (Vec<Section>, Vec<(String, u16)>) {
    let word = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().unwrap());
    let half = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    let short = |at: usize| u16::from_le_bytes(file[at..at + 2].try_into().unwrap());
    let string = |table: &[u8], at: u32| {
        let rest = &table[at as usize..];
        let end = rest.iter().position(|byte| *byte == 0).unwrap();
        String::from_utf8(rest[..end].into()).unwrap()
    };
    let table = word(40) as usize;
    let count = usize::from(short(60));
    let data = |index: usize| {
        let at = table + index * 64;
        let start = word(at + 24) as usize;
        file[start..start + word(at + 32) as usize].to_vec()
    };
    let names = data(usize::from(short(62)));
    let sections: Vec<_> = (0..count)
        .map(|index| {
            let at = table + index * 64;
            Section {
                name: string(&names, half(at)),
                kind: half(at + 4),
                flags: word(at + 8),
                link: half(at + 40),
                info: half(at + 44),
                data: data(index),
            }
        })
        .collect();
    let symtab = sections
        .iter()
        .find(|section| section.kind == SHT_SYMTAB)
        .unwrap();
    let strings = &sections[symtab.link as usize].data;
    let symbols = symtab.data.chunks(24);
    let symbols = symbols
        .map(|symbol| {
            let name = u32::from_le_bytes(symbol[..4].try_into().unwrap());
            let section = u16::from_le_bytes(symbol[6..8].try_into().unwrap());
            (string(strings, name), section)
        })
        .collect();
    (sections, symbols)
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

/// A list with symbols of vmlinux.
fn of_vmlinux(names: &[&str]) -> Symbols {
    let line = |name| format!("0x00000000\t{name}\tvmlinux\tEXPORT_SYMBOL_GPL\t\n");
    symbols(&names.iter().map(line).collect::<String>())
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
        } => (file, relocations, symbols),
        Outcome::NothingToDo => panic!("nothing converted"),
    }
}

/// Two listed symbols, one that is not, one that is defined in the module; relocations of code and data.
fn example() -> Module {
    let mut module = Module::new();
    module.section(".data", SHT_PROGBITS, SHF_ALLOC | 1, &[0; 32]);
    module.section(".debug_info", SHT_PROGBITS, 0, &[0; 32]);
    let exported = module.symbol("printk", GLOBAL, 0);
    let hidden = module.symbol("hidden", GLOBAL, 0);
    let other = module.symbol("other", GLOBAL, 0);
    let own = module.symbol("own", GLOBAL, 2);
    module.relas(
        ".text",
        &[
            (0, exported, 4, -4),
            (8, hidden, 4, -4),
            (16, own, 2, 0),
            (24, other, 4, -4),
            (32, hidden, 11, 7),
        ],
    );
    module.relas(".data", &[(0, other, 1, 5)]);
    module.relas(".debug_info", &[(0, hidden, 1, 0)]);
    module
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
        "«{error}» should contain «{expected}»"
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
    module.sections.remove(0);
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
    assert!(error("0\ta,b\tvmlinux\tx").contains("«a,b»"));
    assert!(
        error(&format!("0\t{}\tvmlinux\tx", "x".repeat(512))).contains("no livepatch relocation")
    );
    assert!(error(&format!("0\ta\t{}\tx", "x".repeat(56))).contains("no livepatch relocation"));
    assert!(error("0\ta\tsome.module\tx").contains("«some.module»"));
    assert!(error("0\ta\t\tx").contains("«»"));
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
        .contains("«zero»"));
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
            let _ = convert(&file, &list, None);
        }
    }
}
