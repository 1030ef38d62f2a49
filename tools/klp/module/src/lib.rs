// SPDX-License-Identifier: GPL-2.0

//! Reads what a kernel module's file says about itself: its name, its `.modinfo`, whether it is a
//! live patch, and for which kernel it was built.
//!
//! The file may come from anywhere. Nothing is believed that was not checked, and nothing but an
//! [`Error`] comes of a damaged one.

mod funcs;

use std::{io, path::PathBuf};

use object::{
    elf::{FileHeader64, EM_AARCH64, EM_LOONGARCH, EM_PPC64, EM_S390, EM_X86_64, SHT_NOBITS},
    read::elf::{FileHeader, SectionHeader},
    Endianness,
};

/// A module's file cannot be used. The text is one line, for the user.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file is no kernel module for a 64-bit machine, or damaged.
    #[error("{}: not a kernel module: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// A processor architecture whose kernels have live patching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// 64-bit Arm, little endian.
    Arm64,
    /// LoongArch.
    LoongArch64,
    /// 64-bit POWER, little endian.
    Ppc64le,
    /// IBM Z.
    S390x,
    /// 64-bit x86.
    X86_64,
}

/// What a module's file says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    name: String,
    architecture: Option<Architecture>,
    info: Vec<(String, String)>,
    checksum: Option<String>,
    signed: bool,
    replaced: Option<Vec<(String, String)>>,
    build_id_note: Option<Vec<u8>>,
}

/// The name of the Rust core.
const CORE: &str = "livepatch";

/// What follows a signature at the end of a module's file.
const SIGNED: &[u8] = b"~Module signature appended~\n";

impl Module {
    /// Reads the module in `data`.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words.
    pub fn parse(data: &[u8]) -> Result<Self, String> {
        let damaged = |error: object::Error| error.to_string();
        let header = FileHeader64::<Endianness>::parse(data).map_err(damaged)?;
        let endian = header.endian().map_err(damaged)?;
        let sections = header.sections(endian, data).map_err(damaged)?;
        let section = |name: &str| -> Result<Option<&[u8]>, String> {
            match sections.section_by_name(endian, name.as_bytes()) {
                Some((_, section)) if section.sh_type(endian) != SHT_NOBITS => {
                    section.data(endian, data).map(Some).map_err(damaged)
                }
                _ => Ok(None),
            }
        };

        let this_module =
            section(".gnu.linkonce.this_module")?.ok_or("no section .gnu.linkonce.this_module")?;
        let info = section(".modinfo")?.ok_or("no section .modinfo")?;
        Ok(Self {
            name: name_in(this_module).ok_or("no name in .gnu.linkonce.this_module")?,
            architecture: architecture(header.e_machine(endian), endian),
            info: info
                .split(|byte| *byte == 0)
                .filter_map(|entry| {
                    let entry = String::from_utf8_lossy(entry);
                    let (key, value) = entry.split_once('=')?;
                    Some((key.into(), value.into()))
                })
                .collect(),
            checksum: section(".kpatch.checksum")?.and_then(first_string),
            signed: data.ends_with(SIGNED),
            replaced: match section(funcs::OBJECTS)? {
                Some(_) => Some(funcs::replaced(data)?),
                None => None,
            },
            build_id_note: section(".note.gnu.build-id")?.map(<[u8]>::to_vec),
        })
    }

    /// The name that the kernel gives it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The architecture that it was built for, if kernels for it have live patching.
    pub fn architecture(&self) -> Option<Architecture> {
        self.architecture
    }

    /// The first value of a key in `.modinfo`.
    pub fn info(&self, key: &str) -> Option<&str> {
        self.all_info()
            .find(|(k, _)| *k == key)
            .map(|(_, value)| value)
    }

    /// All keys and values in `.modinfo`, in their order.
    pub fn all_info(&self) -> impl Iterator<Item = (&str, &str)> {
        self.info
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The release of the kernel that it was built for: the first word of its `vermagic`.
    pub fn kernel_release(&self) -> Option<&str> {
        self.info("vermagic")?.split_whitespace().next()
    }

    /// Whether it is a live patch. The Rust core, `livepatch.ko`, is none, though it has their mark.
    pub fn is_livepatch(&self) -> bool {
        self.info("livepatch") == Some("Y") && self.name != CORE
    }

    /// The note with the build ID, as the kernel shows it in
    /// `/sys/module/NAME/notes/.note.gnu.build-id` too.
    pub fn build_id_note(&self) -> Option<&[u8]> {
        self.build_id_note.as_deref()
    }

    /// The checksum that kpatch-build writes into its modules.
    pub fn checksum(&self) -> Option<&str> {
        self.checksum.as_deref()
    }

    /// Whether a signature is appended to it.
    pub fn is_signed(&self) -> bool {
        self.signed
    }

    /// The functions that it replaces, each as its object and its name. [`None`] if the file does
    /// not tell: only modules of klp-build do.
    pub fn replaced_functions(&self) -> Option<&[(String, String)]> {
        self.replaced.as_deref()
    }
}

/// The architecture in an ELF header.
fn architecture(machine: u16, endian: Endianness) -> Option<Architecture> {
    match (machine, endian) {
        (EM_AARCH64, Endianness::Little) => Some(Architecture::Arm64),
        (EM_LOONGARCH, Endianness::Little) => Some(Architecture::LoongArch64),
        (EM_PPC64, Endianness::Little) => Some(Architecture::Ppc64le),
        (EM_S390, Endianness::Big) => Some(Architecture::S390x),
        (EM_X86_64, Endianness::Little) => Some(Architecture::X86_64),
        _ => None,
    }
}

/// Finds the name in `struct module`, whose other fields before it are zero in a file.
///
/// It is that of the module's file, so the first text of at least one character is meant. The layout of the
/// structure depends on the kernel's configuration, which the file does not tell.
fn name_in(this_module: &[u8]) -> Option<String> {
    let start = this_module.iter().position(|byte| *byte != 0)?;
    let name = &this_module[start..];
    let name = &name[..name.iter().position(|byte| *byte == 0)?];
    let valid = |byte: &u8| byte.is_ascii_graphic() && *byte != b'/';
    // The kernel's limit (MODULE_NAME_LEN) depends on the architecture: 56 on 64 bits.
    let is_one = name.len() < 56 && name[0] != b'.' && name.iter().all(valid);
    is_one.then(|| String::from_utf8_lossy(name).into())
}

/// The first string in a section, if there is one.
fn first_string(data: &[u8]) -> Option<String> {
    data.split(|byte| *byte == 0)
        .find(|text| !text.is_empty())
        .map(|text| String::from_utf8_lossy(text).into())
}
