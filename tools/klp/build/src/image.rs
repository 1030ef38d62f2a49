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

use std::collections::HashMap;

use object::{
    elf::{self, FileHeader64},
    endian::LittleEndian as LE,
    read::elf::{FileHeader, SectionHeader},
};

/// The tokens of the ten digits: every kernel has each of them as a token.
const DIGITS: &[u8] = b"0\x001\x002\x003\x004\x005\x006\x007\x008\x009\0";

/// How many symbols there are between two markers.
const MARKED: usize = 256;

/// How far before the markers the names can begin, beyond the last marker: 256 of the longest names.
const LONGEST: usize = MARKED * 514;

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

/// The kernel in memory.
pub(crate) struct Image {
    data: Vec<u8>,
    /// The sections: address, size, and where in the file, if there.
    sections: Vec<(u64, u64, Option<usize>)>,
    symbols: HashMap<String, Vec<Symbol>>,
}

impl Image {
    /// Reads a kernel's `vmlinux`, with or without a symbol table.
    ///
    /// # Errors
    ///
    /// It is none, or has no table of symbols.
    pub(crate) fn parse(data: Vec<u8>) -> Result<Self, String> {
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
            sections.push((section.sh_addr(LE), section.sh_size(LE), offset));
        }
        let (_, rodata) = table
            .section_by_name(LE, b".rodata")
            .ok_or("no section .rodata")?;
        let contents = rodata.data(LE, &*data).map_err(error)?;
        let symbols = kallsyms(contents, rodata.sh_addr(LE))
            .ok_or("no table of symbols: was the kernel built without KALLSYMS?")?;
        Ok(Self {
            data,
            sections,
            symbols,
        })
    }

    /// A kernel of these sections and symbols, for tests.
    #[cfg(test)]
    pub(crate) fn of(sections: &[(u64, &[u8])], symbols: &[(u64, u8, &str)]) -> Self {
        let mut image = Self {
            data: Vec::new(),
            sections: Vec::new(),
            symbols: HashMap::new(),
        };
        for (address, contents) in sections {
            let (size, offset) = (contents.len() as u64, image.data.len());
            image.sections.push((*address, size, Some(offset)));
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

    /// The symbols of a name, by ascending address: livepatch counts them in this order, from 1.
    pub(crate) fn symbols(&self, name: &str) -> &[Symbol] {
        self.symbols.get(name).map_or(&[], Vec::as_slice)
    }

    /// What is in memory at an address before anything runs.
    pub(crate) fn bytes(&self, address: u64, size: usize) -> Option<&[u8]> {
        let (start, _, offset) = self.sections.iter().find(|(start, length, _)| {
            address >= *start && address.checked_add(size as u64) <= start.checked_add(*length)
        })?;
        let offset = (*offset)? + usize::try_from(address - start).ok()?;
        self.data.get(offset..offset + size)
    }

    /// Whether what is at an address is gone when the kernel has started.
    pub(crate) fn is_init(&self, address: u64) -> bool {
        let limit = |name| self.symbols(name).first().map(|symbol| symbol.address);
        match (limit("__init_begin"), limit("__init_end")) {
            (Some(begin), Some(end)) => (begin..end).contains(&address),
            _ => false,
        }
    }
}

/// Reads the symbols out of the kernel's constants, which lie at `address`.
fn kallsyms(data: &[u8], address: u64) -> Option<HashMap<String, Vec<Symbol>>> {
    let (tokens, table, after) = find_tokens(data)?;
    let (names, count) = find_names(data, table)?;
    let offsets = after.next_multiple_of(4);

    let mut symbols: HashMap<String, Vec<Symbol>> = HashMap::new();
    let mut position = names;
    for index in 0..count {
        let (start, length) = entry(data, position)?;
        position = start + length;
        let text: Vec<u8> = data
            .get(start..position)?
            .iter()
            .flat_map(|token| tokens[usize::from(*token)])
            .copied()
            .collect();
        let (kind, name) = text.split_first()?;
        let place = offsets + index * 4;
        let offset = i32::from_le_bytes(data.get(place..place + 4)?.try_into().ok()?);
        let symbol = Symbol {
            address: (address + place as u64).wrapping_add_signed(offset.into()),
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
            if symbols.div_ceil(MARKED) != count {
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

    /// A section of constants with a table of symbols in it, as `scripts/kallsyms.c` writes it:
    /// address, type and name of each.
    fn section(base: u64, symbols: &[(u64, &str)], padding: &[u8]) -> Vec<u8> {
        let mut data = padding.to_vec();
        let align = |data: &mut Vec<u8>| data.resize(data.len().next_multiple_of(4), 0);
        align(&mut data);
        data.extend((symbols.len() as u32).to_le_bytes());
        let (names, mut markers) = (data.len(), Vec::new());
        for (index, (_, name)) in symbols.iter().enumerate() {
            if index % MARKED == 0 {
                markers.extend(((data.len() - names) as u32).to_le_bytes());
            }
            match name.len() {
                length @ 0..0x80 => data.push(length as u8),
                length => data.extend([length as u8 & 0x7f | 0x80, (length >> 7) as u8]),
            }
            data.extend(name.bytes());
        }
        align(&mut data);
        data.extend(markers);
        // Each character is a token, and some are unused.
        let (table, mut index) = (data.len(), Vec::new());
        for character in 0..=255_u8 {
            index.extend(((data.len() - table) as u16).to_le_bytes());
            if character.is_ascii_graphic() {
                data.push(character);
            }
            data.push(0);
        }
        align(&mut data);
        data.extend(index);
        for (address, _) in symbols {
            let place = base + data.len() as u64;
            data.extend((address.wrapping_sub(place) as u32).to_le_bytes());
        }
        data
    }

    const BASE: u64 = 0xffff_ffff_8220_0000;

    #[test]
    fn symbols_of_a_stripped_kernel() {
        let long = format!("t{}", "x".repeat(300));
        let mut list = vec![
            (BASE - 0x200, "Tstart"),
            (BASE - 0x80, "tsame"),
            (BASE - 0x100, "tsame"),
            (BASE - 0x40, long.as_str()),
        ];
        list.extend((0..600).map(|number| (BASE + number, "dmany")));
        // Other constants look like the digits' tokens.
        let decoy = [b"\0", DIGITS, b"\0"].concat();
        let data = section(BASE, &list, &decoy);
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
    fn no_symbols() {
        assert!(kallsyms(b"", BASE).is_none());
        assert!(kallsyms(DIGITS, BASE).is_none());
        let mut data = section(BASE, &[(BASE, "Tstart")], b"");
        data[0] = 7;
        assert!(kallsyms(&data, BASE).is_none());
    }
}
