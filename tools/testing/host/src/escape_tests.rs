// SPDX-License-Identifier: GPL-2.0

use crate::pure::escape::escape;

fn escaped(name: &[u8]) -> Vec<u8> {
    name.iter()
        .flat_map(|&byte| escape(byte).as_bytes().to_vec())
        .collect()
}

#[test]
fn ordinary_names_stay() {
    for name in [
        "bash",
        "kworker/0:1H-events",
        "(sd-pam)",
        "a b\"'$%",
        "é漢",
        "",
    ] {
        assert_eq!(escaped(name.as_bytes()), name.as_bytes());
    }
}

#[test]
fn what_ends_a_line_or_a_field_is_written_in_octal() {
    assert_eq!(escaped(b"a\tb\nc\rd"), b"a\\011b\\012c\\015d");
    assert_eq!(escaped(b"\x1b[2J\x7f\x01"), b"\\033[2J\\177\\001");
}

#[test]
fn a_backslash_cannot_be_mistaken() {
    assert_eq!(escaped(b"\\012"), b"\\134012");
}

#[test]
fn every_byte_can_be_read_back_and_is_no_control_character() {
    for byte in 0..=255 {
        let escaped = escape(byte);
        let bytes = escaped.as_bytes();
        assert!(!bytes.iter().any(u8::is_ascii_control));
        let back = match bytes {
            [b'\\', digits @ ..] => {
                u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 8).unwrap()
            }
            [same] => *same,
            _ => panic!("{bytes:?}"),
        };
        assert_eq!(back, byte);
    }
}
