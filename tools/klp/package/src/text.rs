// SPDX-License-Identifier: GPL-2.0

//! Texts that can stand in a package's metadata.

use std::str::FromStr;

/// A version or a release: letters, digits, and `.`, `+`, `~`; a digit comes first.
///
/// That is what dpkg and rpm have in common. Both order such words in nearly the same way: numbers
/// by their values, and `~` before everything, even the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word(String);

impl Word {
    /// The word.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Word {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || ".+~".contains(c);
        if text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err("it starts with a digit and consists of letters, digits, '.', '+' and '~'")
        }
    }
}

/// A line of text, not empty, without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(String);

impl Text {
    /// The line.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Text {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim().is_empty() || text.contains(|c: char| c.is_control()) {
            Err("it is a single line of text")
        } else {
            Ok(Self(text.trim().into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for good in ["1", "1.0", "20261124", "1.el10", "2.0~rc1", "3+deb13"] {
            assert_eq!(good.parse::<Word>().unwrap().as_str(), good);
        }
        for bad in [
            "", "a1", "~1", "1-2", "1:2", "1_2", "1 2", "1\n", "1^2", "1/2", "ä",
        ] {
            assert!(bad.parse::<Word>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn lines() {
        assert_eq!(" A <a@b> ".parse::<Text>().unwrap().as_str(), "A <a@b>");
        for bad in ["", " ", "a\nEvil: yes", "a\0"] {
            assert!(bad.parse::<Text>().is_err(), "{bad:?}");
        }
    }
}
