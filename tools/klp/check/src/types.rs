// SPDX-License-Identifier: GPL-2.0

//! The types of functions, and the layout of structures, whichever format tells them.

mod btf;
mod dwarf;

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
};

pub use btf::Types;
pub(crate) use dwarf::with_dwarf;

/// What a function expects or returns, as far as it matters to a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    /// Nothing.
    Void,
    /// An integer, a truth value or an enumeration.
    Number { size: u64, signed: Option<bool> },
    /// A floating point number.
    Float { size: u64 },
    /// A pointer, to a structure of this name or to something else.
    Pointer(Option<String>),
    /// A structure, union or array by value.
    Aggregate { size: u64, name: String },
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Void => f.write_str("nothing"),
            Self::Number { size, signed } => {
                let sign = match signed {
                    Some(true) => "a signed integer",
                    Some(false) => "an unsigned integer",
                    None => "an integer",
                };
                write!(f, "{sign} of {size} bytes")
            }
            Self::Float { size } => write!(f, "a float of {size} bytes"),
            Self::Pointer(Some(name)) => write!(f, "a pointer to {name}"),
            Self::Pointer(None) => f.write_str("a pointer"),
            Self::Aggregate { size, name } => write!(f, "{name} of {size} bytes"),
        }
    }
}

/// How much two types differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Difference {
    /// Not at all, or in nothing that matters.
    None,
    /// In the sign of an integer.
    Sign,
    /// So that one cannot stand for the other.
    Type,
}

impl Type {
    fn difference(&self, other: &Self) -> Difference {
        let differ = |differ| {
            if differ {
                Difference::Type
            } else {
                Difference::None
            }
        };
        match (self, other) {
            (
                Self::Number { size, signed },
                Self::Number {
                    size: other_size,
                    signed: other_signed,
                },
            ) => match (signed, other_signed) {
                _ if size != other_size => Difference::Type,
                (Some(one), Some(other)) if one != other => Difference::Sign,
                _ => Difference::None,
            },
            (Self::Pointer(Some(one)), Self::Pointer(Some(other))) => differ(one != other),
            (Self::Pointer(_), Self::Pointer(_)) => Difference::None,
            // In Rust, an optional pointer is an enumeration, which DWARF has as a structure.
            (Self::Pointer(_), Self::Aggregate { size: 8, name })
            | (Self::Aggregate { size: 8, name }, Self::Pointer(_)) => {
                differ(!name.starts_with("Option<"))
            }
            _ => differ(self != other),
        }
    }
}

/// The type of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prototype {
    pub(crate) result: Type,
    pub(crate) parameters: Vec<Type>,
    pub(crate) variadic: bool,
}

impl Prototype {
    /// How a replacement differs from its original, which this is: how much, and a line for each
    /// difference.
    pub(crate) fn differences(&self, replacement: &Self) -> (Difference, Vec<String>) {
        let mut worst = Difference::None;
        let mut lines = vec![];
        if self.parameters.len() != replacement.parameters.len()
            || self.variadic != replacement.variadic
        {
            worst = Difference::Type;
            let dots = |variadic| if variadic { " and more" } else { "" };
            lines.push(format!(
                "the function has {}{} parameters, the replacement {}{}",
                self.parameters.len(),
                dots(self.variadic),
                replacement.parameters.len(),
                dots(replacement.variadic)
            ));
        }
        let mut compare = |what: String, one: &Type, other: &Type| {
            let difference = one.difference(other);
            if difference != Difference::None {
                lines.push(format!("{what} is {one}, and {other} in the replacement"));
                worst = worst.max(difference);
            }
        };
        for (number, (one, other)) in (1..).zip(self.parameters.iter().zip(&replacement.parameters))
        {
            compare(format!("parameter {number}"), one, other);
        }
        // Nobody looks at what a function that returns nothing leaves behind.
        if self.result != Type::Void {
            compare("the result".into(), &self.result, &replacement.result);
        }
        (worst, lines)
    }

    /// The structures that the function gets pointers to, or as they are.
    pub(crate) fn structures(&self) -> impl Iterator<Item = &str> {
        let all = self.parameters.iter().chain([&self.result]);
        all.filter_map(|one| match one {
            Type::Pointer(Some(name)) | Type::Aggregate { name, .. } => Some(name.as_str()),
            _ => None,
        })
    }
}

/// A structure or union.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Structure {
    pub(crate) size: u64,
    /// Names and places in bits, in the order of the declaration. [`None`] if only the size is
    /// known.
    pub(crate) members: Option<Vec<(String, u64)>>,
}

impl Structure {
    /// Whether the layouts are the same, as far as both are known.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        self.size == other.size
            && match (&self.members, &other.members) {
                (Some(one), Some(other)) => one == other,
                _ => true,
            }
    }

    /// The first difference from the layout in the kernel, which this is, for people.
    pub(crate) fn difference(&self, module: &Self) -> String {
        if self.size != module.size {
            return format!(
                "it has {} bytes in the kernel, and {} in the module",
                self.size, module.size
            );
        }
        let (Some(kernel), Some(module)) = (&self.members, &module.members) else {
            return "they differ".into();
        };
        let place = |bits: u64| match bits % 8 {
            0 => format!("byte {}", bits / 8),
            _ => format!("bit {bits}"),
        };
        let name = |name: &str| match name {
            "" => "an unnamed member".to_owned(),
            name => name.to_owned(),
        };
        for (one, other) in kernel.iter().zip(module) {
            if one != other {
                return format!(
                    "the kernel has {} at {}, and the module {} at {}",
                    name(&one.0),
                    place(one.1),
                    name(&other.0),
                    place(other.1)
                );
            }
        }
        format!(
            "it has {} members in the kernel, and {} in the module",
            kernel.len(),
            module.len()
        )
    }
}

/// A structure of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OfModule {
    pub(crate) structure: Structure,
    /// Whether a header of the kernel declares it, and not the module's own source.
    pub(crate) shared: bool,
}

/// The types of a patch module.
#[derive(Debug, Default)]
pub(crate) struct ModuleTypes {
    /// The functions that are defined in it, by the names of their symbols.
    pub(crate) functions: BTreeMap<String, Vec<Prototype>>,
    /// All structures that it uses.
    pub(crate) structures: BTreeMap<String, Vec<OfModule>>,
}

impl ModuleTypes {
    /// Reads those of the module in `data`, of which DWARF tells most. `kernel` are the types of
    /// the kernel, on which the module's own BTF is based.
    ///
    /// # Errors
    ///
    /// Why they are not known.
    pub(crate) fn read(
        data: &[u8],
        kernel: Option<&Types>,
        functions: &HashSet<&str>,
    ) -> Result<Self, String> {
        match dwarf::read(data, functions) {
            Ok(Some(types)) => Ok(types),
            Ok(None) => btf::of_patch(data, kernel, functions),
            Err(error) => Err(error),
        }
    }
}
