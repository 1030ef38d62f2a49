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

/// The exported symbols.
#[derive(Clone, Debug, Default)]
pub struct Exports {
    by_name: HashMap<String, Export>,
    /// Whether a Module.symvers was added.
    listed: bool,
    /// Whether the tables of all modules that are loaded were added.
    live: bool,
}

impl Exports {
    /// Adds those of a Module.symvers.
    ///
    /// # Errors
    ///
    /// The number of a line and what is wrong with it.
    pub fn add(&mut self, text: &str) -> Result<(), String> {
        self.listed = true;
        for line in module_symvers(text.as_bytes())? {
            let digits = line.checksum.strip_prefix("0x").unwrap_or(line.checksum);
            let checksum = u32::from_str_radix(digits, 16)
                .map_err(|_| format!("{}: '{}' is no checksum", line.number, line.checksum))?;
            self.by_name.insert(
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

    /// Adds those of a kernel's image or, if it is `live`, of the running kernel and its modules, that
    /// are not known yet, by the entries of their tables of exports. That tells no checksums, licences
    /// and name spaces.
    pub fn add_tables(&mut self, objects: &BTreeMap<String, Symbols>, live: bool) {
        self.live |= live;
        for (object, symbols) in objects {
            let names = symbols.names();
            for name in names.filter_map(|name| name.strip_prefix("__ksymtab_")) {
                self.by_name.entry(name.into()).or_insert_with(|| Export {
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
        self.by_name
            .values()
            .any(|export| export.object == "vmlinux")
    }

    /// The export of a symbol, if there is one.
    pub(crate) fn get(&self, name: &str) -> Option<&Export> {
        self.by_name.get(name)
    }

    /// Whether what is not among them is exported by nobody.
    pub(crate) fn are_complete(&self) -> bool {
        self.listed || self.live
    }

    /// Whether more than their names is known.
    pub(crate) fn are_described(&self) -> bool {
        self.listed
    }
}
