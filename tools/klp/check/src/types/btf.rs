// SPDX-License-Identifier: GPL-2.0

//! Types from BTF, which kernels have of themselves and of their modules.

use std::collections::HashSet;

use btf_rs::{Btf, BtfType, Type as BtfKind};
use object::{read::elf::ElfFile64, Endianness, Object, ObjectSection};

use super::{ModuleTypes, OfModule, Prototype, Structure, Type};
use crate::declaration::Layout;

/// Types refer to types; more steps than these are a circle.
const STEPS: usize = 32;

/// The types of the kernel, or of a module.
pub struct Types {
    btf: Btf,
}

impl std::fmt::Debug for Types {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Types")
    }
}

impl Types {
    /// Reads BTF, such as `/sys/kernel/btf/vmlinux`.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(data: &[u8]) -> Result<Self, String> {
        let btf = Btf::from_bytes(data).map_err(|error| error.to_string())?;
        Ok(Self { btf })
    }

    /// Reads the BTF of a module, based on that of its kernel.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse_module(data: &[u8], kernel: &Self) -> Result<Self, String> {
        let btf = Btf::from_split_bytes(data, &kernel.btf).map_err(|error| error.to_string())?;
        Ok(Self { btf })
    }

    /// Reads the section `.BTF` of an ELF file; [`None`] if there is none.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn of_file(data: &[u8]) -> Result<Option<Self>, String> {
        section(data, ".BTF")?.map(Self::parse).transpose()
    }

    /// Reads the section `.BTF` of a module's file; [`None`] if there is none.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn of_module(data: &[u8], kernel: &Self) -> Result<Option<Self>, String> {
        let types = section(data, ".BTF")?;
        types
            .map(|types| Self::parse_module(types, kernel))
            .transpose()
    }

    /// The sizes of the entries of a patch's lists in this kernel.
    pub fn layout(&self) -> Option<Layout> {
        Some(Layout {
            func: self.size_of("klp_func")?,
            object: self.size_of("klp_object")?,
        })
    }

    /// The size of the one structure of a name.
    pub(crate) fn size_of(&self, name: &str) -> Option<u64> {
        match &self.structures(name)[..] {
            [one] => Some(one.size),
            _ => None,
        }
    }

    /// The types of the functions of a name.
    pub(crate) fn functions(&self, name: &str) -> Vec<Prototype> {
        self.named(name)
            .into_iter()
            .filter_map(|found| match found {
                BtfKind::Func(func) => match self.btf.resolve_chained_type(&func).ok()? {
                    BtfKind::FuncProto(prototype) => self.prototype(&prototype),
                    _ => None,
                },
                _ => None,
            })
            .collect()
    }

    /// The structures and unions of a name.
    pub(crate) fn structures(&self, name: &str) -> Vec<Structure> {
        self.named(name)
            .into_iter()
            .filter_map(|found| match found {
                BtfKind::Struct(structure) | BtfKind::Union(structure) => {
                    self.structure(&structure)
                }
                _ => None,
            })
            .collect()
    }

    fn named(&self, name: &str) -> Vec<BtfKind> {
        self.btf.resolve_types_by_name(name).unwrap_or_default()
    }

    fn structure(&self, structure: &btf_rs::Struct) -> Option<Structure> {
        let members = structure.members.iter().map(|member| {
            let name = self.btf.resolve_name(member).ok()?;
            Some((name, member.bit_offset().into()))
        });
        Some(Structure {
            size: structure.size() as u64,
            members: Some(members.collect::<Option<_>>()?),
        })
    }

    fn prototype(&self, prototype: &btf_rs::FuncProto) -> Option<Prototype> {
        let variadic = prototype
            .parameters
            .last()
            .is_some_and(btf_rs::Parameter::is_variadic);
        let count = prototype.parameters.len() - usize::from(variadic);
        let parameters = prototype.parameters[..count]
            .iter()
            .map(|parameter| self.plain(parameter.get_type_id()?));
        Some(Prototype {
            result: self.plain(prototype.return_type_id())?,
            parameters: parameters.collect::<Option<_>>()?,
            variadic,
        })
    }

    /// The type of this number without names and qualifiers that were given to it.
    fn strip(&self, id: u32) -> Option<BtfKind> {
        let mut found = self.btf.resolve_type_by_id(id).ok()?;
        for _ in 0..STEPS {
            found = match &found {
                BtfKind::Typedef(next) => self.btf.resolve_chained_type(next),
                BtfKind::Volatile(next) | BtfKind::Const(next) | BtfKind::Restrict(next) => {
                    self.btf.resolve_chained_type(next)
                }
                BtfKind::TypeTag(next) => self.btf.resolve_chained_type(next),
                _ => return Some(found),
            }
            .ok()?;
        }
        None
    }

    fn plain(&self, id: u32) -> Option<Type> {
        let name = |found: &dyn BtfType| self.btf.resolve_name(found).unwrap_or_default();
        Some(match self.strip(id)? {
            BtfKind::Void => Type::Void,
            BtfKind::Int(int) => Type::Number {
                size: int.size() as u64,
                signed: Some(int.is_signed()),
            },
            BtfKind::Enum(one) => Type::Number {
                size: one.size() as u64,
                signed: None,
            },
            BtfKind::Enum64(one) => Type::Number {
                size: one.size() as u64,
                signed: None,
            },
            BtfKind::Float(float) => Type::Float {
                size: float.size() as u64,
            },
            BtfKind::Ptr(pointer) => Type::Pointer(match self.strip(pointer.get_type_id()?)? {
                BtfKind::Struct(one) | BtfKind::Union(one) => Some(name(&one)),
                BtfKind::Fwd(one) => Some(name(&one)),
                _ => None,
            })
            .named(),
            BtfKind::Struct(one) | BtfKind::Union(one) => Type::Aggregate {
                size: one.size() as u64,
                name: name(&one),
            },
            _ => return None,
        })
    }
}

impl Type {
    /// Makes a pointer to a structure without a name one to anything.
    pub(super) fn named(self) -> Self {
        match self {
            Self::Pointer(Some(name)) if name.is_empty() => Self::Pointer(None),
            other => other,
        }
    }
}

/// The contents of a section of an ELF file.
fn section<'data>(data: &'data [u8], name: &str) -> Result<Option<&'data [u8]>, String> {
    let error = |error: object::Error| error.to_string();
    let file = ElfFile64::<Endianness>::parse(data).map_err(error)?;
    let section = file.section_by_name(name);
    section
        .map(|section| section.data().map_err(error))
        .transpose()
}

/// The types of a patch module, from its own BTF.
pub(super) fn of_patch(
    data: &[u8],
    kernel: Option<&Types>,
    functions: &HashSet<&str>,
) -> Result<ModuleTypes, String> {
    let own = section(data, ".BTF")?
        .ok_or("the module has no type information, neither DWARF nor BTF")?;
    let base = match section(data, ".BTF.base")? {
        Some(base) => Types::parse(base)?,
        None => {
            let kernel = kernel.ok_or("the kernel has no type information")?;
            let types = Types::parse_module(own, kernel)?;
            return Ok(types.collect(functions));
        }
    };
    Ok(Types::parse_module(own, &base)?.collect(functions))
}

impl Types {
    /// What a module's own part of BTF tells: structures in which it agrees with the kernel that it
    /// was built for are not among them.
    fn collect(&self, functions: &HashSet<&str>) -> ModuleTypes {
        let mut types = ModuleTypes::default();
        for name in functions {
            let found = self.functions(name);
            if !found.is_empty() {
                types.functions.insert((*name).to_owned(), found);
            }
        }
        let Some(section) = self.btf.split() else {
            return types;
        };
        let (first, last) = section.type_id_range();
        for id in first..=last {
            let found = match self.btf.resolve_type_by_id(id) {
                Ok(BtfKind::Struct(found) | BtfKind::Union(found)) => found,
                _ => continue,
            };
            let name = self.btf.resolve_name(&found).unwrap_or_default();
            if let Some(structure) = self.structure(&found).filter(|_| !name.is_empty()) {
                types.structures.entry(name).or_default().push(OfModule {
                    structure,
                    // BTF does not tell where it was declared.
                    shared: false,
                });
            }
        }
        types
    }
}
