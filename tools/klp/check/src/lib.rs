// SPDX-License-Identifier: GPL-2.0

//! Tells whether a live patch fits a kernel, before it is loaded.
//!
//! [`Patch::parse`] reads the module of a patch, whoever built it; a [`Kernel`] is filled with what
//! is known of a kernel; [`check`] goes through the [rules](Rule) and reports what does not fit,
//! and what could not be told. Nothing here looks at the machine: what is to be known is given.
//!
//! Files may come from anywhere. Whatever is in them, nothing but an error or a finding comes of
//! it.

mod declaration;
mod exports;
mod file;
mod inlined;
mod kernel;
mod live;
mod report;
mod rules;
mod types;

use std::collections::HashSet;

use klp_module::Module;

pub use declaration::{Declaration, Func, Layout, Object, Replacement, Shape, State};
pub use exports::Exports;
pub use inlined::Inlined;
pub use kernel::{Kernel, Signatures, Symbols};
pub use live::{Hold, Holder, Installed, Live, Sitting};
pub use report::{Finding, Level, Report, Rule, Subject, Verdict};
pub use types::Types;

use file::File;

/// The module of a patch.
#[derive(Debug)]
pub struct Patch<'data> {
    data: &'data [u8],
    module: Module,
    file: File<'data>,
    declaration: Result<Declaration, String>,
}

impl<'data> Patch<'data> {
    /// Reads a module. `layout` is that of the kernel that it is for, if it is known.
    ///
    /// # Errors
    ///
    /// What is wrong with the file, in words.
    pub fn parse(data: &'data [u8], layout: Option<Layout>) -> Result<Self, String> {
        let module = Module::parse(data)?;
        let file = File::parse(data)?;
        let declaration = declaration::read(&file, layout);
        Ok(Self {
            data,
            module,
            file,
            declaration,
        })
    }

    /// What the module says about itself.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// What the patch declares to the core.
    ///
    /// # Errors
    ///
    /// Why the file does not tell.
    pub fn declaration(&self) -> Result<&Declaration, &str> {
        self.declaration.as_ref().map_err(String::as_str)
    }

    /// The functions that are replaced in an object.
    pub fn functions(&self, object: &str) -> HashSet<&str> {
        let objects = self.declaration.iter();
        let objects = objects.flat_map(|declaration| &declaration.objects);
        objects
            .filter(|declared| declared.name() == object)
            .flat_map(|declared| declared.funcs.iter().flatten())
            .filter_map(|func| func.name.as_deref())
            .collect()
    }

    /// The objects whose symbols a check needs: those that are patched, and those that livepatch
    /// relocations refer to.
    pub fn objects(&self) -> Vec<String> {
        let declared = self.declaration.iter().flat_map(|declaration| {
            declaration
                .objects
                .iter()
                .map(|object| object.name().to_owned())
        });
        let mut objects: Vec<_> = declared
            .chain(rules::referred_objects(&self.file))
            .collect();
        objects.sort();
        objects.dedup();
        objects
    }
}

/// Goes through all rules.
pub fn check(patch: &Patch<'_>, kernel: &Kernel) -> Report {
    let mut report = Report::default();
    rules::check_quickly(patch, kernel, &mut report);
    rules::check_types(patch, kernel, &mut report);
    report
}

/// Goes through the rules that the kernel goes through when it loads a patch, and those that take
/// no time.
pub fn check_quickly(patch: &Patch<'_>, kernel: &Kernel) -> Report {
    let mut report = Report::default();
    rules::check_quickly(patch, kernel, &mut report);
    report
}
