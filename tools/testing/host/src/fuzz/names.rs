// SPDX-License-Identifier: GPL-2.0

use super::{check, wrong};
use crate::pure::{
    escape::escape,
    names::{section_object, SymbolName},
};
use proptest::{collection::vec, prelude::*};

/// Reads a format of `sscanf()` as the kernel does, one conversion after the other.
struct Scanner<'t> {
    text: &'t [u8],
    at: usize,
}

impl<'t> Scanner<'t> {
    fn new(text: &'t [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// The byte here; strings end with NUL.
    fn here(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or(0)
    }

    /// Literal text.
    fn literal(&mut self, literal: &str) -> Option<()> {
        for byte in literal.bytes() {
            if self.here() != byte {
                return None;
            }
            self.at += 1;
        }
        Some(())
    }

    /// `%WIDTH[^STOP]`.
    fn until(&mut self, stop: u8, width: usize) -> Option<&'t [u8]> {
        let start = self.at;
        while self.at - start < width && self.here() != stop && self.here() != 0 {
            self.at += 1;
        }
        (self.at > start).then(|| &self.text[start..self.at])
    }

    /// `%lu`.
    fn number(&mut self) -> Option<u64> {
        while matches!(self.here(), b' ' | 9..=13 | 160) {
            self.at += 1;
        }
        let mut number = None;
        while self.here().is_ascii_digit() {
            let digit = u64::from(self.here() - b'0');
            number = Some(
                number
                    .unwrap_or(0u64)
                    .saturating_mul(10)
                    .saturating_add(digit),
            );
            self.at += 1;
        }
        number
    }
}

fn section(text: &[u8]) -> Option<&[u8]> {
    let mut scanner = Scanner::new(text);
    scanner.literal(".klp.rela.")?;
    scanner.until(b'.', 55)
}

fn symbol(text: &[u8]) -> Option<(&[u8], &[u8], usize)> {
    let mut scanner = Scanner::new(text);
    scanner.literal(".klp.sym.")?;
    let object = scanner.until(b'.', 55)?;
    scanner.literal(".")?;
    let name = scanner.until(b',', 511)?;
    scanner.literal(",")?;
    Some((object, name, scanner.number()? as usize))
}

/// Some text without NUL, of about the length where names are cut.
fn text(limit: usize) -> impl Strategy<Value = Vec<u8>> {
    let byte = || prop_oneof![8 => b'a'..=b'z', 1 => Just(b'.'), 1 => Just(b','), 2 => 1u8..];
    prop_oneof![
        4 => vec(byte(), 0..12),
        1 => vec(b'a'..=b'z', limit - 3..limit + 3),
        1 => vec(byte(), limit - 3..limit + 3),
    ]
}

/// A position as somebody may write it.
fn position() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => any::<u64>().prop_map(|number| number.to_string().into_bytes()),
        3 => (0u64..5).prop_map(|number| number.to_string().into_bytes()),
        1 => vec(prop_oneof![Just(b' '), Just(b'\t'), Just(0xa0), Just(b'-'), b'0'..=b'9'], 0..30),
        1 => vec(b'0'..=b'9', 18..25),
        1 => vec(1u8.., 0..4),
    ]
}

/// A name of a section or a symbol, well formed or almost so.
fn name(prefix: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let parts = (text(55), text(511), position(), text(10));
    let whole = parts.prop_map(move |(object, name, position, rest)| {
        let parts: [&[u8]; 7] = [
            prefix.as_bytes(),
            &object,
            b".",
            &name,
            b",",
            &position,
            &rest,
        ];
        parts.concat()
    });
    // As it is, cut off, or with a byte that is another one.
    (whole, any::<prop::sample::Index>(), 1u8.., 0..6u8).prop_map(|(mut whole, at, byte, how)| {
        let at = at.index(whole.len());
        match how {
            0 => whole.truncate(at),
            1 => whole[at] = byte,
            _ => (),
        }
        whole
    })
}

#[test]
fn sections() {
    check("sections", name(".klp.rela."), |name| {
        prop_assert_eq!(section_object(&name), section(&name));
        Ok(())
    });
}

#[test]
fn symbols() {
    check("symbols", name(".klp.sym."), |name| {
        let found =
            SymbolName::parse(&name).map(|found| (found.object, found.name, found.position));
        prop_assert_eq!(found, symbol(&name));
        Ok(())
    });
}

#[test]
fn any_bytes() {
    check("any bytes", vec(1u8.., 0..700), |name| {
        prop_assert_eq!(section_object(&name), section(&name));
        let found =
            SymbolName::parse(&name).map(|found| (found.object, found.name, found.position));
        prop_assert_eq!(found, symbol(&name));
        Ok(())
    });
}

#[test]
fn escaped_names() {
    check("escaped names", vec(any::<u8>(), 0..16), |name| {
        let written: Vec<u8> = name
            .iter()
            .flat_map(|byte| escape(*byte).as_bytes().to_vec())
            .collect();
        if let Some(byte) = written.iter().find(|byte| byte.is_ascii_control()) {
            return wrong(format!("{byte:#x} was not escaped"));
        }
        let mut read = Vec::new();
        let mut rest = &written[..];
        while let Some((&byte, after)) = rest.split_first() {
            if byte != b'\\' {
                read.push(byte);
                rest = after;
                continue;
            }
            let (digits, after) = after
                .split_at_checked(3)
                .ok_or_else(|| TestCaseError::fail("a backslash without three digits"))?;
            prop_assert!(digits.iter().all(|digit| (b'0'..=b'7').contains(digit)));
            let value = digits
                .iter()
                .fold(0u32, |sum, digit| sum * 8 + u32::from(digit - b'0'));
            read.push(u8::try_from(value).map_err(|error| TestCaseError::fail(error.to_string()))?);
            rest = after;
        }
        prop_assert_eq!(read, name);
        Ok(())
    });
}
