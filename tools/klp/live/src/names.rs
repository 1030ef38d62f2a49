// SPDX-License-Identifier: GPL-2.0

//! Names that users write and that become parts of paths.

use std::str::FromStr;

use crate::store::module_name;

/// The name of a module, as the kernel has it: that of its file, which may have dots, with `_` for `-` and `,`;
/// at most 55 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleName(String);

impl ModuleName {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a text is one.
    pub(crate) fn is_one(text: &str) -> bool {
        let valid = |byte: u8| byte.is_ascii_graphic() && !b"/,-".contains(&byte);
        (1..56).contains(&text.len()) && text.bytes().all(valid) && !text.starts_with('.')
    }
}

impl FromStr for ModuleName {
    type Err = &'static str;

    /// Takes the name of a module's file as well.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = module_name(text);
        if Self::is_one(&name) {
            Ok(Self(name))
        } else {
            Err("not the name of a module")
        }
    }
}

/// The release of a kernel, which names a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelRelease(String);

impl KernelRelease {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KernelRelease {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() || text.starts_with('.') || text.contains('/') {
            Err("not the release of a kernel")
        } else {
            Ok(Self(text.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names() {
        for name in ["fix", "fix-1.ko", "/a/b/fix_1.ko", "fix-1.2", "fix,1"] {
            assert!(name.parse::<ModuleName>().is_ok(), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            ".ko",
            ".a",
            "a/",
            "a b",
            "a\n",
            "ä",
            &"x".repeat(56),
        ] {
            assert!(name.parse::<ModuleName>().is_err(), "{name}");
        }
        assert!("7.3.4+deb13-amd64".parse::<KernelRelease>().is_ok());
        for release in ["", ".", "..", "../..", ".boot", "a/b"] {
            assert!(release.parse::<KernelRelease>().is_err(), "{release}");
        }
    }
}
