// SPDX-License-Identifier: GPL-2.0

//! Where a module uses a symbol.

use std::collections::HashMap;

use crate::elf::{Defined, Elf};

/// More than so many places are not listed, only counted.
const LISTED: usize = 4;

/// The places in a module that are relocated, by the symbols that they refer to.
pub(crate) struct Uses {
    /// Sections and offsets, by the index of the symbol.
    places: HashMap<usize, Vec<(usize, u64)>>,
    /// The names of these sections, and the functions and data in them by their starts.
    sections: HashMap<usize, (String, Vec<Defined>)>,
}

impl Uses {
    pub(crate) fn new(elf: &Elf<'_>) -> Result<Self, String> {
        let mut this = Self {
            places: HashMap::new(),
            sections: HashMap::new(),
        };
        for section in elf.relocation_sections()? {
            for rela in &section.relas {
                let places = this.places.entry(rela.symbol()).or_default();
                places.push((section.target, rela.offset()));
            }
            let mut symbols = elf.defined_symbols(section.target)?;
            symbols.sort_by_key(|symbol| symbol.start);
            let name = elf.section_name(section.target)?;
            this.sections.insert(section.target, (name, symbols));
        }
        Ok(this)
    }

    /// The places where the symbol with this index is used, for people: `show+0x8 (.text+0x18)`.
    pub(crate) fn of(&self, symbol: usize) -> Vec<String> {
        let Some(places) = self.places.get(&symbol) else {
            return vec!["only in debugging information, or nowhere".into()];
        };
        let listed = places.iter().take(LISTED);
        let mut lines: Vec<_> = listed
            .map(|(section, at)| self.place(*section, *at))
            .collect();
        if places.len() > LISTED {
            lines.push(format!("and in {} more places", places.len() - LISTED));
        }
        lines
    }

    fn place(&self, section: usize, offset: u64) -> String {
        let (name, symbols) = &self.sections[&section];
        let plain = format!("{name}+{offset:#x}");
        let before = symbols.partition_point(|symbol| symbol.start <= offset);
        let around = symbols[..before].last();
        match around.filter(|symbol| offset - symbol.start < symbol.size) {
            Some(symbol) => format!("{}+{:#x} ({plain})", symbol.name, offset - symbol.start),
            None => plain,
        }
    }
}
