// SPDX-License-Identifier: GPL-2.0

//! Which symbols are converted, and where they are.

use std::{collections::HashMap, str::FromStr};

/// The kernel reads at most so many characters of an object's name.
const OBJECT_LENGTH: usize = 55;
/// And of a symbol's.
const SYMBOL_LENGTH: usize = 511;

/// A symbol to be converted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// `vmlinux` or the name of a module.
    pub(crate) object: String,
    /// Which of several symbols of the name, if the user says so.
    position: Option<usize>,
}

impl Wanted {
    /// What to write behind the symbol's name: 0 if there is only one of the name.
    pub(crate) fn position(&self, name: &str, map: Option<&SymbolMap>) -> Result<usize, String> {
        let count = match map {
            Some(map) if self.object == "vmlinux" => map.count(name),
            _ => return Ok(self.position.unwrap_or(0)),
        };
        match (count, self.position) {
            (0, _) => Err(format!("the kernel has no symbol {name}")),
            (_, Some(position)) if position > count => Err(format!(
                "the kernel has {count} symbols {name}, and number {position} is asked for"
            )),
            (1, _) => Ok(0),
            (_, Some(position)) => Ok(position),
            (_, None) => Err(format!(
                "the kernel has {count} symbols {name}: say which with --position vmlinux:{name}=N"
            )),
        }
    }
}

/// The position of a symbol as the user gives it: `OBJECT:NAME=N`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    object: String,
    name: String,
    position: usize,
}

impl FromStr for Position {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (object, rest) = text.split_once(':')?;
            let (name, position) = rest.split_once('=')?;
            let position = position.parse().ok().filter(|position| *position > 0)?;
            (!object.is_empty() && !name.is_empty()).then(|| Self {
                object: object_name(object),
                name: name.into(),
                position,
            })
        };
        parse().ok_or_else(|| "expected OBJECT:NAME=N with N from 1".into())
    }
}

/// The symbols to be converted, by name.
#[derive(Debug, Default)]
pub struct Symbols(HashMap<String, Wanted>);

impl Symbols {
    /// Adds the symbols of a file in the format of Module.symvers: lines of checksum, symbol, object, kind of export and
    /// perhaps name space, separated by tabs.
    ///
    /// # Errors
    ///
    /// The number of a line and what is wrong with it.
    pub fn add(&mut self, file: &[u8]) -> Result<(), String> {
        for (number, line) in lines(file)? {
            let fields: Vec<_> = line.split('\t').collect();
            let ([checksum, name, object, _] | [checksum, name, object, _, _]) = fields[..] else {
                return Err(format!(
                    "{number}: expected checksum, symbol, object, kind of export and name space"
                ));
            };
            let digits = checksum.strip_prefix("0x").unwrap_or(checksum);
            if u32::from_str_radix(digits, 16).is_err() {
                return Err(format!("{number}: '{checksum}' is no checksum"));
            }
            let object = object_name(object);
            if !is_expressible(name, SYMBOL_LENGTH, ',') {
                return Err(format!(
                    "{number}: no livepatch relocation can refer to a symbol '{}'",
                    name.escape_default()
                ));
            }
            if !is_expressible(&object, OBJECT_LENGTH, '.') {
                return Err(format!(
                    "{number}: no livepatch relocation can refer to an object '{}'",
                    object.escape_default()
                ));
            }
            let wanted = Wanted {
                object,
                position: None,
            };
            match self.0.insert(name.into(), wanted.clone()) {
                Some(other) if other != wanted => {
                    return Err(format!("{number}: {name} is in {} too", other.object))
                }
                _ => (),
            }
        }
        Ok(())
    }

    /// Sets which of several symbols of a name is meant.
    ///
    /// # Errors
    ///
    /// A symbol that is not in the list, or is given twice.
    pub fn set_positions(&mut self, positions: &[Position]) -> Result<(), String> {
        for position in positions {
            let name = format!("{}:{}", position.object, position.name);
            match self.0.get_mut(&position.name) {
                Some(wanted) if wanted.object == position.object => {
                    if wanted.position.replace(position.position).is_some() {
                        return Err(format!("two positions for {name}"));
                    }
                }
                _ => {
                    return Err(format!(
                        "a position for {name}, which is not in the list of symbols"
                    ))
                }
            }
        }
        Ok(())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Wanted> {
        self.0.get(name)
    }
}

/// How many symbols of each name the kernel has.
#[derive(Debug, Default)]
pub struct SymbolMap(HashMap<String, usize>);

impl SymbolMap {
    /// Reads lines of address, type and name, as in System.map and /proc/kallsyms. Symbols of modules are left out.
    ///
    /// # Errors
    ///
    /// The number of a line and what is wrong with it.
    pub fn parse(file: &[u8]) -> Result<Self, String> {
        let mut map = Self::default();
        for (number, line) in lines(file)? {
            let mut fields = line.split_ascii_whitespace();
            let (Some(address), Some(kind), Some(name)) =
                (fields.next(), fields.next(), fields.next())
            else {
                return Err(format!("{number}: expected address, type and name"));
            };
            if u64::from_str_radix(address, 16).is_err() {
                return Err(format!("{number}: '{address}' is no address"));
            }
            if kind.len() != 1 {
                return Err(format!("{number}: '{kind}' is no type"));
            }
            match (fields.next(), fields.next()) {
                (None, _) => *map.0.entry(name.into()).or_default() += 1,
                (Some(module), None) if module.starts_with('[') && module.ends_with(']') => (),
                _ => {
                    return Err(format!(
                        "{number}: expected nothing or a module after the name"
                    ))
                }
            }
        }
        Ok(map)
    }

    pub(crate) fn count(&self, name: &str) -> usize {
        self.0.get(name).copied().unwrap_or(0)
    }
}

/// The name of an object as the kernel has it, from that of a module or its file.
fn object_name(path: &str) -> String {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    name.strip_suffix(".ko").unwrap_or(name).replace('-', "_")
}

/// Whether the kernel's parser, `.klp.sym.%55[^.].%511[^,],%lu`, reads `name` as a whole.
fn is_expressible(name: &str, length: usize, end: char) -> bool {
    let ends = |char: char| char == end || char.is_whitespace() || char.is_control();
    !name.is_empty() && name.len() <= length && !name.contains(ends)
}

/// The lines of a file that are not empty, with their numbers.
fn lines(file: &[u8]) -> Result<impl Iterator<Item = (usize, &str)>, String> {
    let text = std::str::from_utf8(file).map_err(|_| "1: not a text file")?;
    let numbered = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line));
    Ok(numbered.filter(|(_, line)| !line.trim().is_empty()))
}
