// SPDX-License-Identifier: GPL-2.0

//! Makes small kernels without symbol tables, and files that they are booted from.

#![allow(
    dead_code,
    reason = "each of the programs with tests uses a part of it"
)]

use std::{
    io::Write,
    process::{Command, Stdio},
};

/// Where a kernel has its constants.
pub const BASE: u64 = 0xffff_ffff_8220_0000;

/// The build ID of a kernel that is made here.
pub const BUILD_ID: [u8; 16] = [7; 16];

/// How many symbols there are between two markers.
const MARKED: usize = 256;

/// A section of constants with a table of symbols in it, as `scripts/kallsyms.c` writes it:
/// address, type and name of each.
pub fn constants(base: u64, symbols: &[(u64, &str)], padding: &[u8]) -> Vec<u8> {
    let mut data = padding.to_vec();
    let align = |data: &mut Vec<u8>| data.resize(data.len().next_multiple_of(4), 0);
    align(&mut data);
    data.extend((symbols.len() as u32).to_le_bytes());
    let (names, mut markers) = (data.len(), Vec::new());
    for (index, (_, name)) in symbols.iter().enumerate() {
        if index % MARKED == 0 {
            markers.extend(((data.len() - names) as u32).to_le_bytes());
        }
        match name.len() {
            length @ 0..0x80 => data.push(length as u8),
            length => data.extend([length as u8 & 0x7f | 0x80, (length >> 7) as u8]),
        }
        data.extend(name.bytes());
    }
    align(&mut data);
    data.extend(markers);
    // Each character is a token, and some are unused.
    let (table, mut index) = (data.len(), Vec::new());
    for character in 0..=255_u8 {
        index.extend(((data.len() - table) as u16).to_le_bytes());
        if matches!(character, 1..0x80) {
            data.push(character);
        }
        data.push(0);
    }
    align(&mut data);
    data.extend(index);
    for (address, _) in symbols {
        let place = base.wrapping_add(data.len() as u64);
        data.extend((address.wrapping_sub(place) as u32).to_le_bytes());
    }
    data
}

/// A `vmlinux` without a symbol table, which demands a text in modules, with these symbols, and calls
/// that ftrace can intercept at these addresses.
pub fn kernel(vermagic: &str, symbols: &[(u64, &str)], sites: &[u64]) -> Vec<u8> {
    let list = BASE + 0x100_0000;
    let mut symbols = symbols.to_vec();
    symbols.push((list, "D__start_mcount_loc"));
    symbols.push((list + 8 * sites.len() as u64, "D__stop_mcount_loc"));
    let sites: Vec<_> = sites.iter().flat_map(|site| site.to_le_bytes()).collect();
    let text = format!("{vermagic}\0");
    let names = b"\0.rodata\0.init.data\0.shstrtab\0.notes\0";
    let sections: [(u32, u32, u64, u64, &[u8]); 5] = [
        (0, 0, 0, 0, b""),
        (1, 1, 2, BASE, &constants(BASE, &symbols, text.as_bytes())),
        (9, 1, 2, list, &sites),
        (20, 3, 0, 0, names),
        (30, 7, 2, list - 0x1000, &build_id(&BUILD_ID)),
    ];
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(64, 0);
    let mut headers = vec![];
    for (name, kind, flags, address, data) in sections {
        headers.extend([name, kind].map(u32::to_le_bytes).concat());
        let numbers = [
            flags,
            address,
            file.len() as u64,
            data.len() as u64,
            0,
            8,
            0,
        ];
        headers.extend(numbers.map(u64::to_le_bytes).concat());
        file.extend(data);
    }
    let table = file.len() as u64;
    file.extend(headers);
    // A program for x86-64, its table of sections, and the sizes of headers.
    file[16..24].copy_from_slice(&[2, 0, 62, 0, 1, 0, 0, 0]);
    file[40..48].copy_from_slice(&table.to_le_bytes());
    file[52..64].copy_from_slice(&[64, 0, 0, 0, 0, 0, 64, 0, 5, 0, 3, 0]);
    file
}

/// A note with a build ID.
pub fn build_id(id: &[u8; 16]) -> Vec<u8> {
    let numbers = [4, id.len() as u32, 3].map(u32::to_le_bytes).concat();
    [&numbers[..], b"GNU\0", id].concat()
}

/// What a program makes of a kernel, and its size behind it where the format does not have it.
pub fn pack(program: &str, kernel: &[u8]) -> Vec<u8> {
    let mut packed = compress(program, kernel);
    if program != "gzip" {
        packed.extend((kernel.len() as u32).to_le_bytes());
    }
    packed
}

/// What a program makes of a file.
pub fn compress(program: &str, contents: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let contents = contents.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&contents));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// A file that is booted, with a text that begins with the release, and a packed kernel.
pub fn boot_file(version: &str, packed: &[u8]) -> Vec<u8> {
    const SECTORS: usize = 3;
    const BEFORE: usize = 40;
    let mut file = vec![0; (SECTORS + 1) * 512 + BEFORE];
    file[0x1f1] = SECTORS as u8;
    file[0x202..0x208].copy_from_slice(b"HdrS\x0f\x02");
    file[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
    file[0x248..0x24c].copy_from_slice(&(BEFORE as u32).to_le_bytes());
    file[0x24c..0x250].copy_from_slice(&(packed.len() as u32).to_le_bytes());
    file[0x300..0x300 + version.len()].copy_from_slice(version.as_bytes());
    file.extend(packed);
    file
}
