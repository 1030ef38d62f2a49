// SPDX-License-Identifier: GPL-2.0

//! Where an object that was compiled anew is in the kernel, and whether it is the same.
//!
//! The linker lays each section of an object down in one piece, so the address of one symbol gives
//! those of all others in the section. Where a symbol's name is unique in the kernel, its section is
//! found; all other symbols of the section must then be where they should be, and the code must be
//! the same, byte by byte, but for the addresses in it. These addresses lead to the other sections.
//!
//! So it is seen that source, configuration and compiler are those of the kernel, and which one of
//! several symbols of a name is meant, without a symbol table of the kernel that says from which
//! file each symbol is.

use std::collections::{BTreeSet, HashMap};

use object::elf;

use crate::{
    elf::{File, Relocation, Section, Symbol, UNDEFINED},
    image::Image,
};

/// Where an object's sections are.
#[derive(Debug, Default)]
pub(crate) struct Location {
    /// The addresses of its functions and variables, by name.
    pub(crate) addresses: HashMap<String, u64>,
}

/// Finds an object in the kernel. `objtool` has to have worked on it as on the kernel.
///
/// # Errors
///
/// The object is not in the kernel as it is here; the message says what differs.
pub(crate) fn locate(object: &File<'_>, image: &Image) -> Result<Location, String> {
    let mut search = Search {
        object,
        image,
        bases: HashMap::new(),
        checked: BTreeSet::new(),
    };
    for index in 0..object.sections.len() {
        if let Some(base) = search.by_symbols(index)? {
            search.bases.insert(index, base);
        }
    }
    while let Some(index) = search.unchecked() {
        search.checked.insert(index);
        search.follow(index)?;
    }
    let mut location = Location::default();
    for symbol in object.definitions() {
        if let Some(base) = search.bases.get(&symbol.section) {
            let address = base.wrapping_add(symbol.value);
            let known = image.symbols(symbol.name);
            // Another file's definition can have taken the place of a weak one.
            if !symbol.weak || known.iter().any(|known| known.address == address) {
                location.addresses.insert(symbol.name.into(), address);
            }
        }
    }
    Ok(location)
}

/// Compares the functions of a module that was compiled anew with those of the kernel's module: code
/// and, of functions of one name, order.
///
/// # Errors
///
/// What differs.
pub(crate) fn same_functions(object: &File<'_>, module: &File<'_>) -> Result<(), String> {
    let mut theirs: HashMap<&str, Vec<&Symbol<'_>>> = HashMap::new();
    for symbol in module.definitions().filter(|symbol| symbol.is_function()) {
        theirs.entry(symbol.name).or_default().push(symbol);
    }
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for symbol in object.definitions().filter(|symbol| symbol.is_function()) {
        let number = seen.entry(symbol.name).or_default();
        let same = theirs.get(symbol.name).and_then(|all| all.get(*number));
        *number += 1;
        let Some(same) = same else {
            return Err(format!("it has no function {}", symbol.name));
        };
        if fixed_code(object, symbol) != fixed_code(module, same) {
            return Err(format!("the code of {} differs", symbol.name));
        }
    }
    Ok(())
}

/// The code of a function, with zeros in the places of addresses.
fn fixed_code(file: &File<'_>, symbol: &Symbol<'_>) -> Option<Vec<u8>> {
    let section = file.sections.get(symbol.section)?;
    let start = usize::try_from(symbol.value).ok()?;
    let end = start.checked_add(usize::try_from(symbol.size).ok()?)?;
    let mut code = section.data.get(start..end)?.to_vec();
    for relocation in &section.relocations {
        let Some(place) = (relocation.offset as usize).checked_sub(start) else {
            continue;
        };
        for byte in code.iter_mut().skip(place).take(width(relocation)) {
            *byte = 0;
        }
    }
    Some(code)
}

struct Search<'a> {
    object: &'a File<'a>,
    image: &'a Image,
    /// Where sections are, by their indices.
    bases: HashMap<usize, u64>,
    /// Sections of code that were compared.
    checked: BTreeSet<usize>,
}

impl Search<'_> {
    /// Where a section is, if its symbols tell.
    fn by_symbols(&self, index: usize) -> Result<Option<u64>, String> {
        let section = &self.object.sections[index];
        if !section.is_allocated() || section.is_merged() || section.name.starts_with(".discard") {
            return Ok(None);
        }
        let mut bases: Option<BTreeSet<u64>> = None;
        for symbol in self.object.definitions() {
            if symbol.section != index || symbol.size == 0 || symbol.weak {
                continue;
            }
            let found = self.image.symbols(symbol.name);
            // objtool makes these for the padding before functions, one for all of an address.
            if found.is_empty() && symbol.name.starts_with("__pfx_") {
                continue;
            }
            if found.is_empty() {
                // Some variables are left out of the kernel's symbols, but no function is.
                if symbol.is_function() {
                    return Err(format!("the kernel has no function {}", symbol.name));
                }
                continue;
            }
            let possible: BTreeSet<_> = found
                .iter()
                .filter(|known| known.is_global() != symbol.local)
                .map(|known| known.address.wrapping_sub(symbol.value))
                .collect();
            let both = match bases {
                Some(bases) => &bases & &possible,
                None => possible,
            };
            if both.is_empty() {
                return Err(format!(
                    "{} is elsewhere in the kernel, seen from what comes before it",
                    symbol.name
                ));
            }
            bases = Some(both);
        }
        let mut bases = bases.unwrap_or_default();
        if section.is_code() && bases.len() > 1 {
            bases.retain(|base| self.difference(section, *base).is_none());
            if bases.is_empty() {
                return Err(format!("none of several is like {}", section.name));
            }
        }
        match bases.len() {
            1 => Ok(bases.pop_first()),
            _ => Ok(None),
        }
    }

    /// A section of code that is found, but not compared.
    fn unchecked(&self) -> Option<usize> {
        let mut found = self.bases.keys().copied();
        found.find(|index| self.object.sections[*index].is_code() && !self.checked.contains(index))
    }

    /// The offset of the first byte that differs in the kernel, apart from addresses.
    fn difference(&self, section: &Section<'_>, base: u64) -> Option<usize> {
        let Some(there) = self.image.bytes(base, section.data.len()) else {
            return Some(0);
        };
        let mut variable = vec![false; section.data.len()];
        for relocation in &section.relocations {
            let start = relocation.offset as usize;
            for byte in variable.iter_mut().skip(start).take(width(relocation)) {
                *byte = true;
            }
        }
        let pairs = section.data.iter().zip(there).zip(variable);
        let mut pairs = pairs.enumerate();
        let (offset, _) =
            pairs.find(|(_, ((here, there), variable))| !variable && here != there)?;
        Some(offset)
    }

    /// Compares a section of code, and finds the sections that it refers to.
    fn follow(&mut self, index: usize) -> Result<(), String> {
        let section = &self.object.sections[index];
        let base = self.bases[&index];
        if let Some(offset) = self.difference(section, base) {
            return Err(format!(
                "the code of the kernel differs at {}",
                self.place(index, offset as u64)
            ));
        }
        for relocation in &section.relocations {
            let Some(target) = self.target(base, relocation) else {
                continue;
            };
            let symbol = &self.object.symbols[relocation.symbol];
            if symbol.section == UNDEFINED {
                let known = self.image.symbols(symbol.name);
                if !known.is_empty() && !known.iter().any(|known| known.address == target) {
                    return Err(format!(
                        "{} does not refer to {} in the kernel",
                        self.place(index, relocation.offset),
                        symbol.name
                    ));
                }
                continue;
            }
            if symbol.weak || self.object.sections[symbol.section].is_merged() {
                continue;
            }
            let found = target.wrapping_sub(symbol.value);
            let known = *self.bases.entry(symbol.section).or_insert(found);
            if known != found {
                return Err(format!(
                    "{} refers to something else in the kernel",
                    self.place(index, relocation.offset)
                ));
            }
        }
        Ok(())
    }

    /// The address of the symbol that a relocation in the section at `base` refers to, as it
    /// is in the kernel.
    fn target(&self, base: u64, relocation: &Relocation) -> Option<u64> {
        let place = base.wrapping_add(relocation.offset);
        let word = |size| self.image.bytes(place, size);
        let short = || Some(i64::from(i32::from_le_bytes(word(4)?.try_into().ok()?)));
        let value = match relocation.kind {
            elf::R_X86_64_PC32 | elf::R_X86_64_PLT32 => place.wrapping_add_signed(short()?),
            elf::R_X86_64_32S => short()? as u64,
            elf::R_X86_64_64 => u64::from_le_bytes(word(8)?.try_into().ok()?),
            _ => return None,
        };
        Some(value.wrapping_add_signed(relocation.addend.wrapping_neg()))
    }

    /// A place in a section, for people.
    fn place(&self, index: usize, offset: u64) -> String {
        let mut symbols = self.object.definitions();
        match symbols.find(|symbol| {
            symbol.section == index && (symbol.value..symbol.value + symbol.size).contains(&offset)
        }) {
            Some(symbol) => format!("{}+{:#x}", symbol.name, offset - symbol.value),
            None => format!("{}+{offset:#x}", self.object.sections[index].name),
        }
    }
}

/// How many bytes a relocation fills in.
fn width(relocation: &Relocation) -> usize {
    match relocation.kind {
        elf::R_X86_64_NONE => 0,
        elf::R_X86_64_64 | elf::R_X86_64_PC64 => 8,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: u64 = 0xffff_ffff_8100_0000;
    const DATA: u64 = 0xffff_ffff_8200_0000;

    fn section(name: &'static str, code: bool, data: &'static [u8]) -> Section<'static> {
        let executable = if code { elf::SHF_EXECINSTR } else { 0 };
        Section {
            name,
            flags: u64::from(elf::SHF_ALLOC | executable),
            entry_size: 0,
            data,
            relocations: Vec::new(),
        }
    }

    fn symbol(name: &'static str, kind: u8, section: usize, value: u64) -> Symbol<'static> {
        Symbol {
            name,
            kind,
            local: section != UNDEFINED,
            weak: false,
            section,
            value,
            size: 8,
        }
    }

    /// Two functions, of which the second refers to a variable and to a function elsewhere.
    fn object() -> File<'static> {
        let mut code = section(".text", true, b"AAAAAAAABB____CC____DDDD");
        let relocation = |offset, symbol| Relocation {
            offset,
            kind: elf::R_X86_64_PC32,
            symbol,
            addend: -4,
        };
        code.relocations = vec![relocation(10, 3), relocation(16, 4)];
        let mut same = symbol("same", elf::STT_FUNC, 1, 8);
        same.size = 16;
        File {
            sections: vec![
                section("", false, b""),
                code,
                section(".data", false, b"12345678"),
            ],
            symbols: vec![
                symbol("", elf::STT_NOTYPE, UNDEFINED, 0),
                symbol("first", elf::STT_FUNC, 1, 0),
                same,
                symbol("variable", elf::STT_OBJECT, 2, 0),
                symbol("elsewhere", elf::STT_NOTYPE, UNDEFINED, 0),
            ],
        }
    }

    /// The kernel with this object at an offset in its code, changed as asked for.
    fn image(change: impl Fn(&mut Vec<u8>)) -> Image {
        let mut code = vec![0x90; 256];
        let place = 64;
        code[place..place + 24].copy_from_slice(b"AAAAAAAABB____CC____DDDD");
        let mut put = |offset: usize, target: u64| {
            let next = CODE + (place + offset + 4) as u64;
            let distance = target.wrapping_sub(next) as u32;
            code[place + offset..place + offset + 4].copy_from_slice(&distance.to_le_bytes());
        };
        put(10, DATA + 32);
        put(16, CODE);
        change(&mut code);
        let symbols = [
            (CODE, b'T', "elsewhere"),
            (CODE + 16, b't', "same"),
            (CODE + 64, b't', "first"),
            (CODE + 72, b't', "same"),
            (DATA, b'd', "variable"),
            (DATA + 32, b'd', "variable"),
        ];
        Image::of(&[(CODE, &code), (DATA, &[0; 64])], &symbols)
    }

    #[test]
    fn namesakes_are_told_apart() {
        let location = locate(&object(), &image(|_| ())).unwrap();
        assert_eq!(location.addresses["first"], CODE + 64);
        assert_eq!(location.addresses["same"], CODE + 72);
        assert_eq!(location.addresses["variable"], DATA + 32);
    }

    #[test]
    fn other_code() {
        let error = |change: fn(&mut Vec<u8>)| locate(&object(), &image(change)).unwrap_err();
        assert_eq!(
            error(|code| code[64 + 15] = b'X'),
            "the code of the kernel differs at same+0x7"
        );
        assert_eq!(
            error(|code| code[64 + 16] ^= 1),
            "same+0x8 does not refer to elsewhere in the kernel"
        );
    }

    #[test]
    fn other_symbols() {
        let mut other = object();
        other.symbols[1].name = "none";
        assert_eq!(
            locate(&other, &image(|_| ())).unwrap_err(),
            "the kernel has no function none"
        );
        let mut other = object();
        other.symbols[2].value = 12;
        assert_eq!(
            locate(&other, &image(|_| ())).unwrap_err(),
            "same is elsewhere in the kernel, seen from what comes before it"
        );
    }

    #[test]
    fn weak_definitions_give_way() {
        let mut object = object();
        object.symbols[2].weak = true;
        object.symbols[2].value = 12;
        let location = locate(&object, &image(|_| ())).unwrap();
        assert!(!location.addresses.contains_key("same"));
        assert_eq!(location.addresses["variable"], DATA + 32);
    }

    #[test]
    fn functions_of_modules() {
        assert!(same_functions(&object(), &object()).is_ok());
        let mut other = object();
        other.sections[1].data = b"AAAAAAAABB....CC....DDDD";
        assert!(same_functions(&object(), &other).is_ok());
        other.sections[1].data = b"AAAAAAAxBB____CC____DDDD";
        let error = same_functions(&object(), &other).unwrap_err();
        assert_eq!(error, "the code of first differs");
        other.symbols.remove(1);
        let error = same_functions(&object(), &other).unwrap_err();
        assert_eq!(error, "it has no function first");
    }
}
