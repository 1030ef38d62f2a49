// SPDX-License-Identifier: GPL-2.0

//! Which symbols modules may use.

use std::collections::HashMap;

use crate::symbols::{lines, object_name};

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
        for (number, line) in lines(file)? {
            let mut fields = line.split('\t').skip(1);
            let (Some(name), Some(object), Some(_)) = (fields.next(), fields.next(), fields.next())
            else {
                return Err(format!(
                    "{number}: expected checksum, symbol, object and kind of export"
                ));
            };
            self.0.insert(name.into(), object_name(object));
        }
        Ok(())
    }

    /// The object that exports a symbol.
    pub(crate) fn object(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}
