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
    pub(crate) position: Option<usize>,
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

/// A symbol that the user asks for: `NAME` of vmlinux, or `OBJECT:NAME`, perhaps with `=N`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unexported {
    name: String,
    wanted: Wanted,
}

impl FromStr for Unexported {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (symbol, position) = match text.split_once('=') {
            Some((symbol, position)) => {
                let position = position.parse().ok().filter(|position| *position > 0);
                (
                    symbol,
                    Some(position.ok_or("expected [OBJECT:]NAME[=N] with N from 1")?),
                )
            }
            None => (text, None),
        };
        let (object, name) = symbol.split_once(':').unwrap_or(("vmlinux", symbol));
        let object = object_name(object);
        check_expressible(&object, name)?;
        Ok(Self {
            name: name.into(),
            wanted: Wanted { object, position },
        })
    }
}

/// The symbols to be converted, by name.
#[derive(Clone, Debug, Default)]
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
            check_expressible(&object, name).map_err(|error| format!("{number}: {error}"))?;
            let wanted = Wanted {
                object,
                position: None,
            };
            self.insert(name, wanted)
                .map_err(|error| format!("{number}: {error}"))?;
        }
        Ok(())
    }

    /// Adds a symbol that the user asks for.
    ///
    /// # Errors
    ///
    /// The same name with another object or position is in the list.
    pub fn add_unexported(&mut self, symbol: &Unexported) -> Result<(), String> {
        self.insert(&symbol.name, symbol.wanted.clone())
    }

    fn insert(&mut self, name: &str, wanted: Wanted) -> Result<(), String> {
        match self.0.get(name) {
            Some(other) if other.object != wanted.object => {
                Err(format!("{name} is in {} too", other.object))
            }
            Some(Wanted {
                position: Some(one),
                ..
            }) if wanted.position.is_some_and(|other| other != *one) => {
                Err(format!("two positions for {}:{name}", wanted.object))
            }
            Some(Wanted {
                position: Some(_), ..
            }) => Ok(()),
            _ => {
                self.0.insert(name.into(), wanted);
                Ok(())
            }
        }
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

/// The name of an object as the kernel has it, from that of a module or its file.
pub fn object_name(path: &str) -> String {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    name.strip_suffix(".ko").unwrap_or(name).replace('-', "_")
}

/// Whether the kernel's parser, `.klp.sym.%55[^.].%511[^,],%lu`, reads `name` as a whole.
fn is_expressible(name: &str, length: usize, end: char) -> bool {
    let ends = |char: char| char == end || char.is_whitespace() || char.is_control();
    !name.is_empty() && name.len() <= length && !name.contains(ends)
}

fn check_expressible(object: &str, name: &str) -> Result<(), String> {
    let cannot = |what, name: &str| {
        let name = name.escape_default();
        Err(format!(
            "no livepatch relocation can refer to {what} '{name}'"
        ))
    };
    if !is_expressible(name, SYMBOL_LENGTH, ',') {
        cannot("a symbol", name)
    } else if !is_expressible(object, OBJECT_LENGTH, '.') {
        cannot("an object", object)
    } else {
        Ok(())
    }
}

/// The lines of a file that are not empty, with their numbers.
pub(crate) fn lines(file: &[u8]) -> Result<impl Iterator<Item = (usize, &str)>, String> {
    let text = std::str::from_utf8(file).map_err(|_| "1: not a text file")?;
    let numbered = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line));
    Ok(numbered.filter(|(_, line)| !line.trim().is_empty()))
}
