// SPDX-License-Identifier: GPL-2.0

//! The names of livepatch relocation sections and symbols.
//!
//! The format is that of `Documentation/livepatch/module-elf-format.rst`; what is accepted, and how
//! much of it is looked at, is what the C core's `sscanf()` accepts. Independent of the kernel:
//! `tools/testing/host` tests it on the host.

/// The longest name of an object that is looked at.
const OBJECT_MAX: usize = 55;

/// The longest name of a symbol.
const SYMBOL_MAX: usize = 511;

/// Splits off the longest start of `text`, up to `max` bytes, without `stop`; `None` if that is
/// empty.
fn field(text: &[u8], stop: u8, max: usize) -> Option<(&[u8], &[u8])> {
    let end = text.iter().take(max).position(|&byte| byte == stop);
    let end = end.unwrap_or(text.len().min(max));
    (end > 0).then(|| text.split_at(end))
}

/// The object in the section name `.klp.rela.<object>.<section>`.
pub(crate) fn section_object(name: &[u8]) -> Option<&[u8]> {
    let (object, _) = field(name.strip_prefix(b".klp.rela.")?, b'.', OBJECT_MAX)?;
    Some(object)
}

/// The parts of the symbol name `.klp.sym.<object>.<name>,<position>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SymbolName<'a> {
    /// `vmlinux` or a module.
    pub(crate) object: &'a [u8],
    /// The symbol there.
    pub(crate) name: &'a [u8],
    /// Which one if there are several; 0 if there is only one.
    pub(crate) position: usize,
}

impl<'a> SymbolName<'a> {
    /// Takes a name apart, `None` if it is malformed.
    pub(crate) fn parse(text: &'a [u8]) -> Option<Self> {
        let (object, rest) = field(text.strip_prefix(b".klp.sym.")?, b'.', OBJECT_MAX)?;
        let (name, rest) = field(rest.strip_prefix(b".")?, b',', SYMBOL_MAX)?;
        // The kernel's isspace().
        let space = |byte: &&u8| matches!(byte, b' ' | b'\t'..=b'\r' | 0xa0);
        let number = rest.strip_prefix(b",")?.iter().skip_while(space);
        // What follows the number is not looked at. One that is too large is the largest there is.
        let mut digits = number.take_while(|byte| byte.is_ascii_digit()).peekable();
        digits.peek()?;
        let position = digits.fold(0usize, |sum, digit| {
            sum.saturating_mul(10)
                .saturating_add(usize::from(digit - b'0'))
        });
        Some(Self {
            object,
            name,
            position,
        })
    }
}
