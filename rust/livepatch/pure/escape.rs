// SPDX-License-Identifier: GPL-2.0

//! Names of tasks in a file of lines and fields.
//!
//! A task may call itself anything. What would end a line or a field, or could make a terminal do
//! things, is written as a backslash and three octal digits, as in `/proc/mounts`, and so is the
//! backslash itself: the name can be read back. Bytes above 0x7f stay: they may be UTF-8.
//! Independent of the kernel: `tools/testing/host` tests it on the host.

/// One byte of a name, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Escaped {
    bytes: [u8; 4],
    len: usize,
}

impl Escaped {
    /// Returns the bytes to write.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// Returns how `byte` is written.
pub(crate) fn escape(byte: u8) -> Escaped {
    if byte.is_ascii_control() || byte == b'\\' {
        let digit = |shift: u32| b'0' + (byte >> shift & 7);
        Escaped {
            bytes: [b'\\', digit(6), digit(3), digit(0)],
            len: 4,
        }
    } else {
        Escaped {
            bytes: [byte, 0, 0, 0],
            len: 1,
        }
    }
}
