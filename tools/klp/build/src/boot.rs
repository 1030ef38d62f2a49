// SPDX-License-Identifier: GPL-2.0

//! The file that a kernel is booted from, with the kernel packed in it.
//!
//! Its header is that of `Documentation/arch/x86/boot.rst` in the kernel's source:
//!
//! | offset | bytes | contents |
//! | --- | --- | --- |
//! | 0x1f1 | 1 | how many sectors follow the first one before the rest begins; 0 means 4 |
//! | 0x202 | 4 | the letters `HdrS` |
//! | 0x206 | 2 | the version of the header; what is below 0x248 is there since 2.08 |
//! | 0x20e | 2 | where the kernel's release is, from 0x200 on |
//! | 0x248 | 4 | where the packed kernel is, from the rest on |
//! | 0x24c | 4 | its size |
//!
//! The last four bytes of the packed kernel are its size when it is unpacked.

use std::{path::Path, process::Command};

use crate::unpack::{self, Contents, Format, Size, LARGEST, LARGEST_FILE};

/// The size of a sector.
const SECTOR: usize = 512;

/// Where a file that is booted says so.
const MAGIC: usize = 0x202;

/// Where the header's numbers of two bytes count from.
const HEADER: usize = 0x200;

/// How much of a file can have the release: the number that says where it is has two bytes.
const BEGINNING: usize = HEADER + 0x1_0000 + LONGEST;

/// The longest release, as `uname` has it.
const LONGEST: usize = 64;

/// The release of the kernel that is booted from a file, as `uname -r` prints it.
///
/// # Errors
///
/// The file cannot be read, or is not of that kind.
pub fn release(path: &Path) -> Result<String, String> {
    release_in(&unpack::beginning(path, BEGINNING)?)
}

/// The kernel as it lies in memory, from a file that is booted, or from one that has it unpacked.
/// `program` makes the command of the program that unpacks it.
pub(crate) fn unpacked(path: &Path, program: &dyn Fn(&str) -> Command) -> Result<Vec<u8>, String> {
    let magic = b"\x7fELF";
    if unpack::beginning(path, magic.len())? == magic {
        return Ok(unpack::read(path, LARGEST_FILE)?);
    }
    unpack(packed(&unpack::read(path, LARGEST)?)?, program)
}

/// A little-endian number.
fn number<const SIZE: usize>(data: &[u8], at: usize) -> Option<usize> {
    let bytes = data.get(at..at.checked_add(SIZE)?)?;
    let bytes = bytes.iter().rev();
    Some(bytes.fold(0, |number, byte| number << 8 | usize::from(*byte)))
}

/// Refuses what is not booted, and what is too old to say where the kernel is in it.
fn check(data: &[u8]) -> Result<(), String> {
    match (data.get(MAGIC..MAGIC + 4), number::<2>(data, 0x206)) {
        (Some(b"HdrS"), Some(0x208..)) => Ok(()),
        _ => Err("no file that a kernel is booted from (vmlinuz, bzImage)".into()),
    }
}

fn release_in(data: &[u8]) -> Result<String, String> {
    check(data)?;
    let damaged = || "damaged: it does not say which release it is";
    let start = number::<2>(data, 0x20e).filter(|start| *start != 0);
    let text = start.and_then(|start| data.get(HEADER + start..));
    let text = text.ok_or_else(damaged)?;
    let length = text.iter().take(LONGEST + 1).position(|byte| *byte == b' ');
    let release = &text[..length.ok_or_else(damaged)?];
    // It becomes part of the names of files.
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-._~".contains(byte);
    if !release.first().is_some_and(u8::is_ascii_digit) || !release.iter().all(plain) {
        return Err(damaged().into());
    }
    Ok(String::from_utf8_lossy(release).into_owned())
}

/// The part of the file that has the kernel.
fn packed(data: &[u8]) -> Result<&[u8], String> {
    check(data)?;
    let part = || {
        let sectors = match data.get(0x1f1)? {
            0 => 4,
            sectors => usize::from(*sectors),
        };
        let start = ((sectors + 1) * SECTOR).checked_add(number::<4>(data, 0x248)?)?;
        data.get(start..start.checked_add(number::<4>(data, 0x24c)?)?)
    };
    part().ok_or_else(|| "damaged: the kernel in it is not whole".into())
}

fn unpack(packed: &[u8], program: &dyn Fn(&str) -> Command) -> Result<Vec<u8>, String> {
    let format = Format::of(packed);
    let format = format.ok_or("the kernel in it is packed in a format that is not known")?;
    let damaged = || format.damaged(Contents::Kernel);
    let end = packed.len().checked_sub(4).ok_or_else(damaged)?;
    let size = Size::Exactly(number::<4>(packed, end).ok_or_else(damaged)?);
    let input = if format.has_size {
        packed
    } else {
        &packed[..end]
    };
    Ok(format.unpack(input, Contents::Kernel, size, program)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn message<T>(result: Result<T, String>) -> String {
        result.err().unwrap()
    }

    #[test]
    fn releases() {
        let release = |text: &str| release_in(&sample::boot_file(text, b""));
        assert_eq!(
            release("7.3.4+deb13-amd64 (us@here) #1 SMP"),
            Ok("7.3.4+deb13-amd64".into())
        );
        for text in [
            "",
            "7.3.4",
            "../../etc/x y",
            "7.3/4 x",
            "x7.3.4 y",
            " y",
            "7.3.4\x1b[1m y",
        ] {
            let said = message(release(text));
            assert_eq!(
                said, "damaged: it does not say which release it is",
                "{text:?}"
            );
        }
        let long = format!("7{} x", "0".repeat(LONGEST - 1));
        assert_eq!(release(&long).unwrap().len(), LONGEST);
        assert!(release(&format!("7{long}")).is_err());
    }

    #[test]
    fn formats() {
        let contents = [b"\x7fELF".as_slice(), &[7; 70_000]].concat();
        for (program, whole) in [("gzip", true), ("zstd", false), ("xz", false)] {
            let packed = sample::pack(program, &contents);
            let file = sample::boot_file("7.3.4 x", &packed);
            let part = super::packed(&file).unwrap();
            assert_eq!(part, packed);
            assert_eq!(
                unpack(part, &|name| Command::new(name)),
                Ok(contents.clone())
            );
            // What is longer or shorter than it says it is.
            if !whole {
                for size in [70_003_u32, 70_005] {
                    let mut wrong = packed.clone();
                    let end = wrong.len() - 4;
                    wrong[end..].copy_from_slice(&size.to_le_bytes());
                    let said = message(unpack(&wrong, &|name| Command::new(name)));
                    assert_eq!(
                        said,
                        format!("damaged: {program} cannot unpack the kernel in it")
                    );
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_unpacked() {
        let unpack = |packed: &[u8]| message(super::unpack(packed, &|name| Command::new(name)));
        let known = "the kernel in it is packed in a format that is not known";
        assert_eq!(unpack(b"plain"), known);
        assert_eq!(unpack(b""), known);
        assert_eq!(
            unpack(b"BZh"),
            "damaged: bzip2 cannot unpack the kernel in it"
        );
        assert_eq!(
            unpack(b"\x1f\x8b\xff\xff\xff\xff"),
            "damaged: the kernel in it would have 4294967295 bytes"
        );
        let gone = super::unpack(b"\x1f\x8b\0\0\0\0", &|_| Command::new("no-such-program"));
        assert_eq!(
            message(gone),
            "the kernel in it is packed, and gzip is missing"
        );
    }

    #[test]
    fn what_is_not_booted() {
        let none = "no file that a kernel is booted from (vmlinuz, bzImage)";
        let good = sample::boot_file("7.3.4 x", b"contents");
        let mut old = good.clone();
        old[0x206] = 7;
        for data in [&b""[..], &good[..MAGIC + 3], &old] {
            assert_eq!(message(packed(data)), none);
            assert_eq!(message(release_in(data)), none);
        }
        let cut = &good[..good.len() - 1];
        assert_eq!(
            message(packed(cut)),
            "damaged: the kernel in it is not whole"
        );
        let mut far = good.clone();
        far[0x248..0x250].fill(0xff);
        assert_eq!(
            message(packed(&far)),
            "damaged: the kernel in it is not whole"
        );
    }
}
