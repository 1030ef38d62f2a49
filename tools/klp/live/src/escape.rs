// SPDX-License-Identifier: GPL-2.0

//! Names that anybody may choose, for the terminal.

use std::fmt::{self, Write};

/// Shows a text on one line: each byte of a control character and of a backslash is `\ooo`, as the
/// Rust core writes it. A task may have any name, also one that begins a new line or controls the
/// terminal.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            if character.is_control() || character == '\\' {
                for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                    write!(f, "\\{byte:03o}")?;
                }
            } else {
                f.write_char(character)?;
            }
        }
        Ok(())
    }
}

/// Takes back what the Rust core escaped.
pub(crate) fn unescape(text: &str) -> String {
    let mut bytes = vec![];
    let mut rest = text.as_bytes();
    while let Some((&first, others)) = rest.split_first() {
        let code = rest
            .get(1..4)
            .filter(|code| first == b'\\' && code.iter().all(|digit| digit.is_ascii_digit()))
            .and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 8).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[4..];
            }
            None => {
                bytes.push(first);
                rest = others;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into()
}

#[cfg(test)]
mod tests {
    use super::{unescape, Escaped};

    #[test]
    fn control_characters_and_backslashes() {
        for (text, escaped) in [
            ("kworker/0:1", "kworker/0:1"),
            ("a b\u{e4}", "a b\u{e4}"),
            ("a\nb\x1b[2J", "a\\012b\\033[2J"),
            ("\\012", "\\134012"),
            ("\u{9b}x", "\\302\\233x"),
        ] {
            assert_eq!(Escaped(text).to_string(), escaped);
            assert_eq!(unescape(escaped), text);
        }
    }

    #[test]
    fn what_is_no_escape_stays() {
        for text in ["\\", "\\01", "\\9ab", "\\999", "a\\"] {
            assert_eq!(unescape(text), text);
        }
    }
}
