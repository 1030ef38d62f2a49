// SPDX-License-Identifier: GPL-2.0

//! Makes the file of a module for tests.

/// The file of a module, which has no code.
pub fn elf(name: &str, release: &str, info: &str) -> Vec<u8> {
    let mut this_module = [0; 128];
    this_module[24..24 + name.len()].copy_from_slice(name.as_bytes());
    let modinfo = format!("license=GPL\0{info}vermagic={release} SMP mod_unload \0");
    let names = b"\0.gnu.linkonce.this_module\0.modinfo\0.shstrtab\0";
    let sections: [(u32, u32, &[u8]); 4] = [
        (0, 0, b""),
        (1, 1, &this_module),
        (27, 1, modinfo.as_bytes()),
        (36, 3, names),
    ];

    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(64, 0);
    let mut headers = vec![];
    for (name, kind, data) in sections {
        headers.extend([name, kind].map(u32::to_le_bytes).concat());
        let numbers = [0, 0, file.len() as u64, data.len() as u64, 0, 1, 0];
        headers.extend(numbers.map(u64::to_le_bytes).concat());
        file.extend(data);
    }
    let table = file.len() as u64;
    file.extend(headers);
    // A relocatable file for x86-64, its table of sections, and the sizes of headers.
    file[16..20].copy_from_slice(&[1, 0, 62, 0]);
    file[40..48].copy_from_slice(&table.to_le_bytes());
    file[52..64].copy_from_slice(&[64, 0, 0, 0, 0, 0, 64, 0, 4, 0, 3, 0]);
    file
}
