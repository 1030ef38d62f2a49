// SPDX-License-Identifier: GPL-2.0

//! Which symbols modules may use.

use std::collections::HashMap;

use crate::symbols::{lines, object_name};

/// A line of a Module.symvers.
#[derive(Debug)]
pub struct ExportLine<'a> {
    /// Its number, from 1.
    pub number: usize,
    /// The checksum of the symbol's type, in hexadecimal digits.
    pub checksum: &'a str,
    /// The symbol.
    pub name: &'a str,
    /// `vmlinux`, or the name of the module that exports it.
    pub object: String,
    /// The kind of export, such as `EXPORT_SYMBOL_GPL`.
    pub kind: &'a str,
    /// The name space that its users must import; empty for none.
    pub namespace: &'a str,
}

/// Reads a Module.symvers: lines of checksum, symbol, object, kind of export and name space,
/// separated by tabs.
///
/// # Errors
///
/// The number of a line and what is wrong with it.
pub fn module_symvers(file: &[u8]) -> Result<Vec<ExportLine<'_>>, String> {
    let mut exports = vec![];
    for (number, line) in lines(file)? {
        let mut fields = line.split('\t');
        let (Some(checksum), Some(name), Some(object), Some(kind)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(format!(
                "{number}: expected checksum, symbol, object and kind of export"
            ));
        };
        exports.push(ExportLine {
            number,
            checksum,
            name,
            object: object_name(object),
            kind,
            namespace: fields.next().unwrap_or_default(),
        });
    }
    Ok(exports)
}

/// The exported symbols, and the objects that export them.
#[derive(Debug, Default)]
pub struct Exports(HashMap<String, String>);

impl Exports {
    /// Adds those of a Module.symvers.
    ///
    /// # Errors
    ///
    /// The number of a line and what is wrong with it.
    pub fn add(&mut self, file: &[u8]) -> Result<(), String> {
        for export in module_symvers(file)? {
            self.0.insert(export.name.into(), export.object);
        }
        Ok(())
    }

    /// The object that exports a symbol.
    pub(crate) fn object(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}
