// SPDX-License-Identifier: GPL-2.0

//! A patch module to be changed, and a kernel that it fits.

#![allow(
    dead_code,
    reason = "each of the programs with tests uses a part of it"
)]

use std::collections::{BTreeMap, HashSet};

use klp_check::{Exports, Kernel, Signatures, Symbols};

use crate::file::{Module, GLOBAL, SHF_ALLOC, SHT_PROGBITS, SHT_RELA};

const NONE: u32 = 0;
const ABS64: u32 = 1;
const PC32: u32 = 2;
const OBJECT: u8 = 1;
const FUNC: u8 = 2;
const SHF_WRITE: u64 = 1;
const SHF_EXEC: u64 = 4;
const SHF_RELA_LIVEPATCH: u64 = 0x0010_0000;
const SHN_LIVEPATCH: u16 = 0xff20;

/// The sizes of the entries in some kernel.
const FUNC_SIZE: usize = 152;
const OBJECT_SIZE: usize = 168;

/// How a patch is declared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Declared {
    Static,
    Twice,
    External,
    Kpatch,
    Nothing,
}

#[derive(Clone, Debug)]
pub struct Func {
    pub name: Option<&'static str>,
    pub position: u64,
    pub replaced: bool,
    /// Where it was in the kernel that the patch was made for, which kpatch's list tells.
    pub made_for: u64,
}

#[derive(Clone, Debug)]
pub struct Object {
    pub name: Option<&'static str>,
    pub funcs: Option<Vec<Func>>,
}

pub fn func(name: &'static str, position: u64) -> Func {
    Func {
        name: Some(name),
        position,
        replaced: true,
        made_for: 0,
    }
}

pub fn object(name: Option<&'static str>, funcs: Vec<Func>) -> Object {
    Object {
        name,
        funcs: Some(funcs),
    }
}

#[derive(Clone, Debug)]
pub struct Sample {
    pub declared: Declared,
    pub objects: Vec<Object>,
    /// The kinds of callbacks in kpatch's lists, and their objects.
    pub callbacks: Vec<(&'static str, &'static str)>,
    pub replace: bool,
    pub states: Vec<(u64, u32)>,
    pub info: String,
    pub machine: u16,
    pub text_name: &'static str,
    pub text_flags: u64,
    pub undefined: Vec<&'static str>,
    pub weak: bool,
    pub versions: Vec<(u32, &'static str)>,
    /// Whether the checksums are in the table for long names.
    pub long_names: bool,
    /// Objects of sections, and names of symbols.
    pub livepatch: Vec<(&'static str, &'static str)>,
    pub livepatch_marked: bool,
    pub livepatch_section: u16,
    /// What livepatch relocations change.
    pub livepatch_place: u64,
    /// What is appended in front of the mark of a signature; no mark if it is empty.
    pub signature: Vec<u8>,
    /// Whether what objtool has made its livepatch relocations of is there.
    pub left_behind: bool,
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            declared: Declared::Static,
            objects: vec![
                object(None, vec![func("do_nap", 0)]),
                object(Some("driver"), vec![func("probe", 0)]),
            ],
            callbacks: vec![],
            replace: false,
            states: vec![],
            info: "license=GPL\0livepatch=Y\0vermagic=7.3.4 SMP mod_unload \0".into(),
            machine: 62,
            text_name: ".text",
            text_flags: SHF_ALLOC | SHF_EXEC,
            undefined: vec!["printk"],
            weak: false,
            versions: vec![],
            long_names: false,
            livepatch: vec![("vmlinux", ".klp.sym.vmlinux.do_nap,0")],
            livepatch_marked: true,
            livepatch_section: SHN_LIVEPATCH,
            livepatch_place: 32,
            signature: vec![],
            left_behind: false,
        }
    }
}

/// The relocations of a section that is being made: place, symbol, addend.
type Pointers = Vec<(u64, u32, u32, i64)>;

/// Strings, one after the other.
struct Names(Vec<u8>);

impl Names {
    /// Adds a string; returns where it is.
    fn add(&mut self, name: &str) -> i64 {
        let at = self.0.len() as i64;
        self.0.extend(name.bytes().chain([0]));
        at
    }
}

impl Sample {
    pub fn funcs(&mut self, object: usize) -> &mut Vec<Func> {
        self.objects[object].funcs.as_mut().unwrap()
    }

    pub fn build(&self) -> Vec<u8> {
        let mut module = Module::default();
        module.section(".modinfo", SHT_PROGBITS, SHF_ALLOC, self.info.as_bytes());
        let mut this_module = vec![0; 1280];
        this_module[24..27].copy_from_slice(b"fix");
        let this = module.section(
            ".gnu.linkonce.this_module",
            SHT_PROGBITS,
            SHF_ALLOC | SHF_WRITE,
            &this_module,
        );
        let this = module.symbol("__this_module", GLOBAL | OBJECT, this as u16);
        let text = module.section(self.text_name, SHT_PROGBITS, self.text_flags, &[0x90; 256]);
        let text_symbol = module.symbol("", 3, text as u16);
        module.symbol_at("replacement", FUNC, text as u16, 0, 16);
        let mut names = Names(vec![0]);
        // Sections are numbered from 1 in the order in which they are made.
        let strings = text + 1;
        let lists = text + 2;
        let strings_symbol = module.symbol("", 3, strings as u16);
        let lists_symbol = module.symbol("", 3, lists as u16);

        let mut data: Vec<u8> = vec![];
        let mut pointers: Pointers = vec![];
        let mut more: Vec<(String, Vec<u8>, Pointers)> = vec![];
        let place_func = |names: &mut Names,
                          data: &mut [u8],
                          pointers: &mut Pointers,
                          at: usize,
                          func: &Func| {
            if let Some(name) = func.name {
                pointers.push((at as u64, strings_symbol, ABS64, names.add(name)));
            }
            if func.replaced {
                pointers.push((at as u64 + 8, text_symbol, ABS64, 0));
            }
            data[at + 16..at + 24].copy_from_slice(&func.position.to_le_bytes());
        };
        match self.declared {
            Declared::Static | Declared::Twice => {
                let mut starts = vec![];
                for object in &self.objects {
                    let Some(funcs) = &object.funcs else {
                        starts.push(None);
                        continue;
                    };
                    let start = data.len();
                    let size = (funcs.len() + 1) * FUNC_SIZE;
                    data.resize(start + size, 0);
                    for (number, func) in funcs.iter().enumerate() {
                        let at = start + number * FUNC_SIZE;
                        place_func(&mut names, &mut data, &mut pointers, at, func);
                    }
                    module.symbol_at("funcs", OBJECT, lists as u16, start as u64, size as u64);
                    starts.push(Some(start));
                }
                let objects = data.len();
                let size = (self.objects.len() + 1) * OBJECT_SIZE;
                data.resize(objects + size, 0);
                module.symbol_at("objs", OBJECT, lists as u16, objects as u64, size as u64);
                for (number, (object, start)) in self.objects.iter().zip(starts).enumerate() {
                    let at = (objects + number * OBJECT_SIZE) as u64;
                    if let Some(name) = object.name {
                        pointers.push((at, strings_symbol, ABS64, names.add(name)));
                    }
                    if let Some(start) = start {
                        pointers.push((at + 8, lists_symbol, ABS64, start as i64));
                    }
                }
                let states = data.len();
                for (id, version) in &self.states {
                    data.extend(id.to_le_bytes());
                    data.extend(u64::from(*version).to_le_bytes());
                    data.extend([0; 8]);
                }
                data.extend([0; 24]);
                for _ in 0..if self.declared == Declared::Twice {
                    2
                } else {
                    1
                } {
                    let patch = data.len();
                    data.resize(patch + 256, 0);
                    data[patch + 24] = self.replace.into();
                    pointers.push((patch as u64, this, ABS64, 0));
                    pointers.push((patch as u64 + 8, lists_symbol, ABS64, objects as i64));
                    if !self.states.is_empty() {
                        pointers.push((patch as u64 + 16, lists_symbol, ABS64, states as i64));
                    }
                }
            }
            Declared::External => {
                let (mut objects, mut places) = (vec![], vec![]);
                for object in &self.objects {
                    let start = data.len();
                    let funcs = object.funcs.as_deref().unwrap_or_default();
                    data.resize(start + funcs.len() * 24, 0);
                    for (number, func) in funcs.iter().enumerate() {
                        let at = start + number * 24;
                        place_func(&mut names, &mut data, &mut pointers, at, func);
                    }
                    let at = objects.len();
                    objects.resize(at + 64, 0);
                    objects[at + 56..at + 60].copy_from_slice(&(funcs.len() as u32).to_le_bytes());
                    if let Some(name) = object.name {
                        places.push((at as u64, strings_symbol, ABS64, names.add(name)));
                    }
                    places.push((at as u64 + 8, lists_symbol, ABS64, start as i64));
                }
                more.push((".init.klp_objects".into(), objects, places));
            }
            Declared::Kpatch => {
                for object in &self.objects {
                    for func in object.funcs.iter().flatten() {
                        let at = data.len();
                        data.resize(at + 56, 0);
                        pointers.push((at as u64, text_symbol, ABS64, 0));
                        data[at + 16..at + 24].copy_from_slice(&func.made_for.to_le_bytes());
                        data[at + 32..at + 40].copy_from_slice(&func.position.to_le_bytes());
                        let name = names.add(func.name.unwrap());
                        pointers.push((at as u64 + 40, strings_symbol, ABS64, name));
                        let object = names.add(object.name.unwrap_or("vmlinux"));
                        pointers.push((at as u64 + 48, strings_symbol, ABS64, object));
                    }
                }
                let mut kinds: BTreeMap<_, Vec<_>> = BTreeMap::new();
                for (kind, object) in &self.callbacks {
                    kinds.entry(kind).or_default().push(names.add(object));
                }
                for (kind, objects) in kinds {
                    // The linker script puts eight bytes behind the last one.
                    let size = objects.len() * 16 + 8;
                    let numbered = (0..).zip(objects);
                    let places = numbered.flat_map(|(number, object)| {
                        let callback = (number * 16, text_symbol, ABS64, 16);
                        [callback, (number * 16 + 8, strings_symbol, ABS64, object)]
                    });
                    let section = format!(".kpatch.callbacks.{kind}");
                    more.push((section, vec![0; size], places.collect()));
                }
            }
            Declared::Nothing => (),
        }
        module.section(".rodata.str1.1", SHT_PROGBITS, SHF_ALLOC, &names.0);
        let name = match self.declared {
            Declared::External => ".init.klp_funcs",
            Declared::Kpatch => ".kpatch.funcs",
            _ => ".data",
        };
        module.section(name, SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, &data);
        module.relas(name, &pointers);
        for (name, data, pointers) in more {
            module.section(&name, SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, &data);
            module.relas(&name, &pointers);
        }
        let binding = if self.weak { 0x20 } else { GLOBAL };
        for name in &self.undefined {
            module.symbol(name, binding, 0);
        }
        if self.long_names {
            let sums = self.versions.iter();
            let sums: Vec<u8> = sums.flat_map(|(sum, _)| sum.to_le_bytes()).collect();
            let mut names = Names(vec![]);
            for (_, name) in &self.versions {
                names.add(name);
            }
            module.section("__version_ext_crcs", SHT_PROGBITS, SHF_ALLOC, &sums);
            module.section("__version_ext_names", SHT_PROGBITS, SHF_ALLOC, &names.0);
        } else if !self.versions.is_empty() {
            let mut table = vec![];
            for (checksum, name) in &self.versions {
                table.extend(u64::from(*checksum).to_le_bytes());
                table.extend(name.as_bytes());
                table.resize(table.len().next_multiple_of(64), 0);
            }
            module.section("__versions", SHT_PROGBITS, SHF_ALLOC, &table);
        }
        for (object, name) in &self.livepatch {
            let symbol = module.symbol(name, GLOBAL, self.livepatch_section);
            let dot = if object.is_empty() { "" } else { "." };
            let section = format!(".klp.rela.{object}{dot}{}", self.text_name);
            let data = crate::file::relas_to_bytes(&[(self.livepatch_place, symbol, PC32, -4)]);
            let mark = if self.livepatch_marked {
                SHF_RELA_LIVEPATCH
            } else {
                0
            };
            let index = module.section(&section, SHT_RELA, SHF_ALLOC | mark, &data);
            module.sections[index - 1].info = text as u32;
        }
        if self.left_behind {
            let stand_in = module.symbol(".klp.tombstone.do_nap", 0x20, SHN_LIVEPATCH);
            module.relas(self.text_name, &[(32, stand_in, NONE, -4)]);
            let list = "__klp_relocs.vmlinux";
            let there = module.symbol(".klp.sym.vmlinux.do_nap,0", 0x20, SHN_LIVEPATCH);
            module.section(list, SHT_PROGBITS, SHF_ALLOC, &[0; 24]);
            module.relas(list, &[(8, there, ABS64, -4)]);
        }
        let mut data = module.build();
        data[18..20].copy_from_slice(&self.machine.to_le_bytes());
        if !self.signature.is_empty() {
            data.extend(&self.signature);
            data.extend(b"~Module signature appended~\n");
        }
        data
    }
}

/// A signature as the kernel wants its form: an empty PKCS#7 message, and how long it is.
pub const SIGNATURE: [u8; 14] = [0x30, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 2];

/// The symbols of a kernel and a module of it.
pub const KALLSYMS: &str = "\
ffffffff81000000 T _stext
ffffffff81000010 t do_nap
ffffffff81000010 T alias
ffffffff81000040 t twin
ffffffff81000080 t hidden
ffffffff81000090 t twin
ffffffff810000a0 t copied
ffffffff810000b0 t copied.part.0
ffffffff810000c0 t copied.cold
ffffffff810000d0 t gone.constprop.0
ffffffff810000e0 T __x64_sys_read
ffffffff81000100 T __noinstr_text_start
ffffffff81000100 T quiet
ffffffff81000110 T __noinstr_text_end
ffffffff82000000 D jiffies
ffffffff83000000 T _sinittext
ffffffff83000010 t start_up
ffffffff83000020 T _einittext
ffffffffc0000000 t probe	[driver]
ffffffffc0000020 t remove	[driver]
ffffffffc0000040 t stranger	[bpf]
";

/// Where ftrace can intercept calls there.
pub const SITES: &str = "\
ffffffff81000014 do_nap
ffffffff81000044 twin
ffffffff81000094 twin
ffffffff810000a4 copied
ffffffff810000b4 copied.part.0
ffffffff83000014 start_up
ffffffffc0000004 probe [driver]
";

/// What the kernel and the module export.
pub const SYMVERS: &str = "\
0x0000abcd\tprintk\tvmlinux\tEXPORT_SYMBOL_GPL\t
0x00000001\tspaced\tvmlinux\tEXPORT_SYMBOL\tSPACE
0x00000002\tfor_kvm\tvmlinux\tEXPORT_SYMBOL_GPL\tmodule:kvm,kvm-*
0x00000003\tdriver_call\tdrivers/driver\tEXPORT_SYMBOL\t
0x00000005\tmodule_layout\tvmlinux\tEXPORT_SYMBOL\t
";

/// The kernel that the sample fits.
pub fn kernel() -> Kernel {
    let mut symbols = Symbols::parse("kallsyms", KALLSYMS).unwrap();
    Symbols::set_sites(&mut symbols, SITES);
    let mut exports = Exports::default();
    exports.add(SYMVERS).unwrap();
    Kernel {
        release: Some("7.3.4".into()),
        vermagic: Some("7.3.4 SMP mod_unload ".into()),
        symbols,
        exports: Some(exports),
        loaded: Some(HashSet::from(["driver".into()])),
        modules: Some(HashSet::from(["driver".into()])),
        signatures: Signatures::Optional,
        ..Kernel::default()
    }
}
