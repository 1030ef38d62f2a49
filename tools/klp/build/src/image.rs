// SPDX-License-Identifier: GPL-2.0

//! The kernel that is to be patched, as it lies in memory, and its symbols.
//!
//! A distribution's kernel comes without a symbol table, but what `/proc/kallsyms` shows is in it.
//! `scripts/kallsyms.c` in the kernel's source writes these tables, one after the other:
//!
//! | table | contents |
//! | --- | --- |
//! | `kallsyms_num_syms` | the number of symbols |
//! | `kallsyms_names` | for each, a length and the tokens that its type and name consist of |
//! | `kallsyms_markers` | where every 256th name begins |
//! | `kallsyms_token_table` | 256 tokens, each with a NUL at its end |
//! | `kallsyms_token_index` | where each token begins |
//! | `kallsyms_offsets` | for each symbol, where it is, seen from this very place |
//!
//! Nothing points to them in a stripped kernel. The table of tokens is found by the digits, which
//! are tokens of their own, and confirmed by its index; the others follow from there.

use std::{collections::HashMap, path::Path, process::Command};

use object::{
    elf::{self, FileHeader64},
    endian::LittleEndian as LE,
    read::elf::{ElfFile64, FileHeader, SectionHeader},
    Object,
};

use crate::boot;

/// The tokens of the ten digits: every kernel has each of them as a token.
const DIGITS: &[u8] = b"0\x001\x002\x003\x004\x005\x006\x007\x008\x009\0";

/// How many symbols there are between two markers.
const MARKED: usize = 256;

/// How far before the markers the names can begin, beyond the last marker: 256 of the longest.
const LONGEST: usize = MARKED * (2 + LONGEST_NAME);

/// The longest type and name: `KSYM_NAME_LEN` counts a NUL instead of the type.
const LONGEST_NAME: usize = 512;

/// More symbols than this are in no kernel; Debian's have 210,000.
const MOST: usize = 1 << 21;

/// Longer than this are the names of no kernel's symbols together; Debian's have 5 MiB.
const MOST_TEXT: usize = 1 << 27;

/// A symbol of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Symbol {
    /// Where it was linked to.
    pub(crate) address: u64,
    /// Its type as `nm` shows it.
    pub(crate) kind: u8,
}

impl Symbol {
    /// Whether other files of the kernel's source can refer to it.
    pub(crate) fn is_global(self) -> bool {
        self.kind.is_ascii_uppercase()
    }
}

/// A section of the kernel in memory.
struct Section {
    name: String,
    address: u64,
    size: u64,
    /// Where it is in the file, if there.
    offset: Option<usize>,
}

/// The kernel in memory.
pub struct Image {
    data: Vec<u8>,
    sections: Vec<Section>,
    build_id: Option<Vec<u8>>,
    symbols: HashMap<String, Vec<Symbol>>,
}

impl Image {
    /// Reads the file that a kernel is booted from, or its `vmlinux`. `program` makes the command of a
    /// program that unpacks it.
    ///
    /// # Errors
    ///
    /// It is none, or damaged, or has no table of symbols.
    pub fn read(path: &Path, program: &dyn Fn(&str) -> Command) -> Result<Self, String> {
        Self::parse(boot::unpacked(path, program)?)
    }

    /// Reads a kernel's `vmlinux`, with or without a symbol table.
    ///
    /// # Errors
    ///
    /// It is none, or has no table of symbols.
    pub fn parse(data: Vec<u8>) -> Result<Self, String> {
        let error = |error: object::Error| error.to_string();
        let header = FileHeader64::<LE>::parse(&*data).map_err(error)?;
        let table = header.sections(LE, &*data).map_err(error)?;
        let mut sections = Vec::new();
        for section in table.iter() {
            if section.sh_flags(LE) & u64::from(elf::SHF_ALLOC) == 0 {
                continue;
            }
            let offset = match section.sh_type(LE) {
                elf::SHT_NOBITS => None,
                _ => usize::try_from(section.sh_offset(LE)).ok(),
            };
            let name = table.section_name(LE, section).map_err(error)?;
            sections.push(Section {
                name: String::from_utf8_lossy(name).into_owned(),
                address: section.sh_addr(LE),
                size: section.sh_size(LE),
                offset,
            });
        }
        let (_, rodata) = table
            .section_by_name(LE, b".rodata")
            .ok_or("no section .rodata")?;
        let contents = rodata.data(LE, &*data).map_err(error)?;
        let symbols = kallsyms(contents, rodata.sh_addr(LE))
            .ok_or("no table of symbols: was the kernel built without KALLSYMS?")?;
        let file = ElfFile64::<LE>::parse(&*data).map_err(error)?;
        let build_id = file.build_id().map_err(error)?.map(Into::into);
        Ok(Self {
            data,
            sections,
            build_id,
            symbols,
        })
    }

    /// A kernel of these sections, which have their numbers as names, and symbols, for tests.
    #[cfg(test)]
    pub(crate) fn of(sections: &[(u64, &[u8])], symbols: &[(u64, u8, &str)]) -> Self {
        let mut image = Self {
            data: Vec::new(),
            sections: Vec::new(),
            build_id: None,
            symbols: HashMap::new(),
        };
        for (number, (address, contents)) in sections.iter().enumerate() {
            image.sections.push(Section {
                name: number.to_string(),
                address: *address,
                size: contents.len() as u64,
                offset: Some(image.data.len()),
            });
            image.data.extend(*contents);
        }
        for (address, kind, name) in symbols {
            let same = image.symbols.entry((*name).into()).or_default();
            same.push(Symbol {
                address: *address,
                kind: *kind,
            });
        }
        image
    }

    /// The same with another name of a section, for tests.
    #[cfg(test)]
    pub(crate) fn with_name(mut self, section: usize, name: &str) -> Self {
        self.sections[section].name = name.into();
        self
    }

    /// The same with this build ID, for tests.
    #[cfg(test)]
    pub(crate) fn with_build_id(mut self, id: &[u8]) -> Self {
        self.build_id = Some(id.into());
        self
    }

    /// The symbols of a name, by ascending address: livepatch counts them in this order, from 1.
    pub(crate) fn symbols(&self, name: &str) -> &[Symbol] {
        self.symbols.get(name).map_or(&[], Vec::as_slice)
    }

    /// All symbols, as a `System.map` has them.
    pub fn system_map(&self) -> String {
        let symbols = self.symbols.iter();
        let mut lines: Vec<_> = symbols
            .flat_map(|(name, all)| {
                all.iter()
                    .map(move |symbol| (symbol.address, symbol.kind, name))
            })
            .collect();
        lines.sort_unstable();
        let lines = lines.iter();
        lines
            .map(|(address, kind, name)| format!("{address:016x} {} {name}\n", char::from(*kind)))
            .collect()
    }

    /// What is in memory at an address before anything runs.
    pub(crate) fn bytes(&self, address: u64, size: usize) -> Option<&[u8]> {
        let (section, distance) = self.sections.iter().find_map(|section| {
            let distance = address.checked_sub(section.address)?;
            let end = distance.checked_add(size as u64)?;
            (end <= section.size).then_some((section, distance))
        })?;
        let start = section
            .offset?
            .checked_add(usize::try_from(distance).ok()?)?;
        self.data.get(start..start.checked_add(size)?)
    }

    /// The addresses at which ftrace can intercept calls, of eight bytes each.
    pub fn call_sites(&self) -> Option<&[u8]> {
        let place = |name| match self.symbols(name) {
            [only] => Some(only.address),
            _ => None,
        };
        let (start, end) = (place("__start_mcount_loc")?, place("__stop_mcount_loc")?);
        self.bytes(start, usize::try_from(end.checked_sub(start)?).ok()?)
    }

    /// What the kernel of this release demands in a module's `vermagic`: the release and words, with
    /// a space behind each.
    pub fn vermagic(&self, release: &str) -> Option<String> {
        let (_, constants) = self.section(".rodata")?;
        let begin = format!("{release} ");
        let size = begin.len();
        let places = constants.windows(size).enumerate();
        let mut places = places.filter(|(_, window)| *window == begin.as_bytes());
        places.find_map(|(place, _)| {
            let text = constants.get(place..)?.iter();
            let end = text.take(size + LONGEST_NAME).position(|byte| *byte == 0)?;
            let text = &constants[place..place + end];
            let (last, words) = text.get(size - 1..)?.split_last()?;
            let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_ ".contains(byte);
            (*last == b' ' && words.iter().all(plain))
                .then(|| String::from_utf8_lossy(text).into_owned())
        })
    }

    /// Where the section of this name is in memory, and its contents.
    pub fn section(&self, name: &str) -> Option<(u64, &[u8])> {
        let section = self.sections.iter().find(|section| section.name == name)?;
        let size = usize::try_from(section.size).ok()?;
        Some((section.address, self.bytes(section.address, size)?))
    }

    /// What the linker has made of the contents, to tell builds apart.
    pub fn build_id(&self) -> Option<&[u8]> {
        self.build_id.as_deref()
    }

    /// Whether what is at an address is gone when the kernel has started.
    pub(crate) fn is_init(&self, address: u64) -> bool {
        let limit = |name| self.symbols(name).first().map(|symbol| symbol.address);
        let is_between = |begin, end| match (limit(begin), limit(end)) {
            (Some(begin), Some(end)) => (begin..end).contains(&address),
            _ => false,
        };
        // The addresses of variables of each CPU stay meaningful: only their initial values go.
        is_between("__init_begin", "__init_end") && !is_between("__per_cpu_start", "__per_cpu_end")
    }
}

/// Reads the symbols out of the kernel's constants, which lie at `address`.
fn kallsyms(data: &[u8], address: u64) -> Option<HashMap<String, Vec<Symbol>>> {
    let (tokens, table, after) = find_tokens(data)?;
    let (names, count) = find_names(data, table)?;
    let offsets = after.next_multiple_of(4);

    let mut symbols: HashMap<String, Vec<Symbol>> = HashMap::new();
    let mut position = names;
    let mut size = 0;
    for index in 0..count {
        let (start, length) = entry(data, position)?;
        position = start + length;
        let text = data.get(start..position)?.iter();
        let text = text.flat_map(|token| tokens[usize::from(*token)]);
        // A damaged table can make very long names of a few bytes.
        let text: Vec<u8> = text.take(LONGEST_NAME + 1).copied().collect();
        if text.len() > LONGEST_NAME {
            return None;
        }
        size += text.len();
        let (kind, name) = text.split_first()?;
        let is_kind = kind.is_ascii_alphabetic() || *kind == b'?';
        let is_name = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
        if size > MOST_TEXT || !is_kind || !is_name {
            return None;
        }
        let place = offsets + index * 4;
        let offset = i32::from_le_bytes(data.get(place..place + 4)?.try_into().ok()?);
        let symbol = Symbol {
            address: address
                .wrapping_add(place as u64)
                .wrapping_add_signed(offset.into()),
            kind: *kind,
        };
        let name = String::from_utf8_lossy(name).into_owned();
        symbols.entry(name).or_default().push(symbol);
    }
    for same in symbols.values_mut() {
        same.sort_by_key(|symbol| symbol.address);
    }
    Some(symbols)
}

/// The tokens, where their table begins, and where its index ends.
fn find_tokens(data: &[u8]) -> Option<(Vec<&[u8]>, usize, usize)> {
    let mut digits = data
        .windows(DIGITS.len())
        .enumerate()
        .filter(|(_, window)| *window == DIGITS);
    digits.find_map(|(digits, _)| tokens_at(data, digits))
}

/// The same, if the table has its digits there.
fn tokens_at(data: &[u8], digits: usize) -> Option<(Vec<&[u8]>, usize, usize)> {
    // The token of a digit is the one of its character code.
    let mut table = digits;
    for _ in 0..b'0' {
        let before = data.get(..table.checked_sub(1)?)?;
        let nul = before.iter().rposition(|byte| *byte == 0);
        table = nul.map_or(0, |nul| nul + 1);
    }
    let mut tokens = Vec::new();
    let mut position = table;
    let mut offsets = Vec::new();
    for _ in 0..256 {
        let length = data.get(position..)?.iter().position(|byte| *byte == 0)?;
        tokens.push(&data[position..position + length]);
        offsets.extend(u16::try_from(position - table).ok()?.to_le_bytes());
        position += length + 1;
    }
    let index = position.next_multiple_of(4);
    let end = index + offsets.len();
    (data.get(index..end)? == offsets).then_some((tokens, table, end))
}

/// Where the names begin, and how many there are, by the markers, which end at `end`.
fn find_names(data: &[u8], end: usize) -> Option<(usize, usize)> {
    let word = |at: usize| -> Option<usize> {
        let bytes = data.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    // Backwards, they descend to 0. Between them and the table may be padding.
    let mut markers = end.checked_sub(end % 4 + 4)?;
    let last = word(markers)?;
    let mut next = last;
    let mut count = 1;
    while next != 0 {
        markers = markers.checked_sub(4)?;
        let marker = word(markers)?;
        if marker >= next {
            return None;
        }
        next = marker;
        count += 1;
    }
    let latest = markers.checked_sub(last)?;
    let earliest = latest.saturating_sub(LONGEST);
    (earliest..=latest)
        .rev()
        .filter(|start| start % 4 == 0)
        .find_map(|start| {
            let symbols = word(start.checked_sub(4)?)?;
            if symbols > MOST || symbols.div_ceil(MARKED) != count {
                return None;
            }
            // The names behind the last marker end where the markers begin.
            let mut position = start + last;
            for _ in (count - 1) * MARKED..symbols {
                let (name, length) = entry(data, position)?;
                position = name + length;
            }
            (position.next_multiple_of(4) == markers).then_some((start, symbols))
        })
}

/// Where the tokens of a name begin, and how many there are.
fn entry(data: &[u8], position: usize) -> Option<(usize, usize)> {
    let low = usize::from(*data.get(position)?);
    if low & 0x80 == 0 {
        return Some((position + 1, low));
    }
    let high = usize::from(*data.get(position + 1)?);
    Some((position + 2, low & 0x7f | high << 7))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{constants, BASE};

    #[test]
    fn symbols_of_a_stripped_kernel() {
        let long = format!("t{}", "x".repeat(LONGEST_NAME - 1));
        let mut list = vec![
            (BASE - 0x200, "Tstart"),
            (BASE - 0x80, "tsame"),
            (BASE - 0x100, "tsame"),
            (BASE - 0x40, long.as_str()),
        ];
        list.extend((0..600).map(|number| (BASE + number, "dmany")));
        // Other constants look like the digits' tokens.
        let decoy = [b"\0", DIGITS, b"\0"].concat();
        let data = constants(BASE, &list, &decoy);
        let symbols = kallsyms(&data, BASE).unwrap();
        assert_eq!(symbols.len(), 4);
        assert!(symbols["start"][0].is_global());
        let same: Vec<_> = symbols["same"]
            .iter()
            .map(|symbol| symbol.address)
            .collect();
        assert_eq!(same, [BASE - 0x100, BASE - 0x80]);
        assert!(!symbols["same"][0].is_global());
        assert_eq!(symbols[&long[1..]][0].address, BASE - 0x40);
        assert_eq!(symbols["many"].len(), 600);
    }

    #[test]
    fn list_of_symbols() {
        let symbols = [
            (BASE + 16, b't', "b"),
            (BASE, b'T', "a"),
            (BASE + 8, b'd', "b"),
        ];
        assert_eq!(
            Image::of(&[], &symbols).system_map(),
            "ffffffff82200000 T a\nffffffff82200008 d b\nffffffff82200010 t b\n"
        );
    }

    #[test]
    fn what_is_gone_when_the_kernel_has_started() {
        let symbols = [
            (BASE, b'T', "__init_begin"),
            (BASE + 16, b'D', "__per_cpu_start"),
            (BASE + 32, b'D', "__per_cpu_end"),
            (BASE + 48, b'T', "__init_end"),
        ];
        let image = Image::of(&[], &symbols);
        let gone = [0, 15, 16, 31, 32, 47, 48].map(|offset| image.is_init(BASE + offset));
        assert_eq!(gone, [true, true, false, false, true, true, false]);
    }

    #[test]
    fn no_symbols() {
        assert!(kallsyms(b"", BASE).is_none());
        assert!(kallsyms(DIGITS, BASE).is_none());
        let mut data = constants(BASE, &[(BASE, "Tstart")], b"");
        data[0] = 7;
        assert!(kallsyms(&data, BASE).is_none());
    }

    #[test]
    fn names_that_are_too_long() {
        let long = format!("t{}", "x".repeat(LONGEST_NAME));
        assert!(kallsyms(&constants(BASE, &[(BASE, &long)], b""), BASE).is_none());
    }

    #[test]
    fn names_that_no_symbol_has() {
        for name in ["t", "tx y", "tx\ny", " x", "\x07x"] {
            let data = constants(BASE, &[(BASE, name)], b"");
            assert!(kallsyms(&data, BASE).is_none(), "{name:?}");
        }
        assert!(kallsyms(&constants(BASE, &[(BASE, "?x")], b""), BASE).is_some());
    }

    #[test]
    fn constants_at_the_end_of_memory() {
        let end = u64::MAX - 0xff;
        let symbols = kallsyms(&constants(end, &[(end, "tx")], b""), end);
        assert_eq!(symbols.unwrap()["x"][0].address, end);
    }

    #[test]
    fn what_modules_must_say() {
        let vermagic = |constants: &[u8]| {
            let image = Image::of(&[(BASE, constants)], &[]);
            image.with_name(0, ".rodata").vermagic("7.3.4")
        };
        let banner = b"Linux version 7.3.4 (us@here) #1 \0 7.3.4\x007.3.4 SMP";
        assert_eq!(vermagic(banner), None);
        let whole = [&banner[..], b"\0\x007.3.4 SMP mod_unload \0x "].concat();
        assert_eq!(vermagic(&whole).unwrap(), "7.3.4 SMP mod_unload ");
        assert_eq!(vermagic(b"7.3.4 \0").unwrap(), "7.3.4 ");
        assert_eq!(vermagic(b""), None);
        assert_eq!(vermagic(b"7.3.4 SMP "), None);
        let long = format!("7.3.4 {} \0", "x".repeat(LONGEST_NAME));
        assert_eq!(vermagic(long.as_bytes()), None);
    }

    #[test]
    fn bytes_of_sections() {
        let image = Image::of(&[(BASE, b"1234"), (u64::MAX - 3, b"5678")], &[]);
        assert_eq!(image.bytes(BASE + 1, 3), Some(&b"234"[..]));
        assert_eq!(image.bytes(u64::MAX, 1), Some(&b"8"[..]));
        for (address, size) in [(BASE - 1, 1), (BASE, 5), (BASE + 5, 0), (u64::MAX, 2)] {
            assert_eq!(image.bytes(address, size), None, "{address:x} {size}");
        }
        assert_eq!(image.bytes(BASE, usize::MAX), None);
    }

    #[test]
    fn places_of_calls() {
        let list = [1_u64, 2].map(u64::to_le_bytes).concat();
        let symbols = |start, end| {
            [
                (start, b'D', "__start_mcount_loc"),
                (end, b'D', "__stop_mcount_loc"),
            ]
        };
        let sites = |start, end| {
            let image = Image::of(&[(BASE, &list)], &symbols(start, end));
            image.call_sites().map(<[u8]>::to_vec)
        };
        assert_eq!(sites(BASE, BASE + 16), Some(list.clone()));
        assert_eq!(sites(BASE, BASE + 17), None);
        assert_eq!(sites(BASE + 8, BASE), None);
        assert_eq!(Image::of(&[(BASE, &list)], &[]).call_sites(), None);
    }
}
