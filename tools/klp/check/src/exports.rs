// SPDX-License-Identifier: GPL-2.0

//! What modules may use of the kernel and of each other.

use std::collections::HashMap;

use klp_convert::object_name;

/// A symbol that an object exports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Export {
    /// `vmlinux` or a module.
    pub(crate) object: String,
    /// The checksum of its type; [`None`] if the kernel has none.
    pub(crate) checksum: Option<u32>,
    /// Whether only modules with a licence that is compatible with the GPL may use it.
    pub(crate) gpl_only: bool,
    /// The name space that its users must import.
    pub(crate) namespace: Option<String>,
}

/// The exported symbols, by their names.
#[derive(Clone, Debug, Default)]
pub struct Exports(HashMap<String, Export>);

impl Exports {
    /// Adds those of a Module.symvers: lines of checksum, symbol, object, kind of export and name
    /// space, separated by tabs.
    ///
    /// # Errors
    ///
    /// The number of a line and what is wrong with it.
    pub fn add(&mut self, text: &str) -> Result<(), String> {
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim().is_empty() {
                continue;
            }
            let fields: Vec<_> = line.split('\t').collect();
            let [checksum, name, object, kind, rest @ ..] = &fields[..] else {
                return Err(format!(
                    "{number}: expected checksum, symbol, object and kind of export"
                ));
            };
            let digits = checksum.strip_prefix("0x").unwrap_or(checksum);
            let checksum = u32::from_str_radix(digits, 16)
                .map_err(|_| format!("{number}: '{checksum}' is no checksum"))?;
            let namespace = rest.first().filter(|namespace| !namespace.is_empty());
            self.0.insert(
                (*name).into(),
                Export {
                    object: object_name(object),
                    checksum: Some(checksum).filter(|checksum| *checksum != 0),
                    gpl_only: *kind == "EXPORT_SYMBOL_GPL",
                    namespace: namespace.map(|namespace| (*namespace).into()),
                },
            );
        }
        Ok(())
    }

    /// The export of a symbol, if there is one.
    pub(crate) fn get(&self, name: &str) -> Option<&Export> {
        self.0.get(name)
    }
}
