// SPDX-License-Identifier: GPL-2.0

//! What modules may use of the kernel and of each other.

use std::collections::{BTreeMap, HashMap};

use klp_convert::module_symvers;

use crate::kernel::Symbols;

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
    /// Adds those of a Module.symvers.
    ///
    /// # Errors
    ///
    /// The number of a line and what is wrong with it.
    pub fn add(&mut self, text: &str) -> Result<(), String> {
        for line in module_symvers(text.as_bytes())? {
            let digits = line.checksum.strip_prefix("0x").unwrap_or(line.checksum);
            let checksum = u32::from_str_radix(digits, 16)
                .map_err(|_| format!("{}: '{}' is no checksum", line.number, line.checksum))?;
            self.0.insert(
                line.name.into(),
                Export {
                    object: line.object,
                    checksum: Some(checksum).filter(|checksum| *checksum != 0),
                    gpl_only: line.kind == "EXPORT_SYMBOL_GPL",
                    namespace: Some(line.namespace)
                        .filter(|namespace| !namespace.is_empty())
                        .map(Into::into),
                },
            );
        }
        Ok(())
    }

    /// Adds those of the running kernel and its modules, or of a kernel's image, that are not known
    /// yet, by the entries of their tables of exports. That tells no checksums and name spaces.
    pub fn add_tables(&mut self, objects: &BTreeMap<String, Symbols>) {
        for (object, symbols) in objects {
            let names = symbols.names();
            for name in names.filter_map(|name| name.strip_prefix("__ksymtab_")) {
                self.0.entry(name.into()).or_insert_with(|| Export {
                    object: object.clone(),
                    checksum: None,
                    // The core's own are known to be so, and every patch uses one.
                    gpl_only: name.starts_with("klp_"),
                    namespace: None,
                });
            }
        }
    }

    /// Whether there are any of the kernel itself; else most symbols would seem not to be exported.
    pub fn has_kernel(&self) -> bool {
        self.0.values().any(|export| export.object == "vmlinux")
    }

    /// The export of a symbol, if there is one.
    pub(crate) fn get(&self, name: &str) -> Option<&Export> {
        self.0.get(name)
    }
}
