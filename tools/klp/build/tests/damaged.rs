// SPDX-License-Identifier: GPL-2.0

//! Whatever is in the file of a kernel or of a packed module, nothing but an error or what it says comes
//! of it.

#[path = "../../convert/tests/damage/mod.rs"]
mod damage;

mod image;

use std::{fs, process::Command, sync::LazyLock};

use damage::{damage, damaged};
use image::{boot_file, compress, kernel, pack, BASE};
use klp_build::{read_module, release, Image};
use proptest::prelude::*;

const VERMAGIC: &str = "7.3.4-test SMP mod_unload ";

static KERNEL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let names: Vec<_> = (0..300)
        .map(|number| format!("tfunction_{number}"))
        .collect();
    let symbols = (0..).zip(&names);
    let symbols: Vec<_> = symbols
        .map(|(number, name)| (BASE - number, name.as_str()))
        .collect();
    kernel(VERMAGIC, &symbols, &[BASE, BASE - 1])
});

static BOOTED: LazyLock<Vec<u8>> =
    LazyLock::new(|| boot_file("7.3.4-test (us@here)", &pack("gzip", &KERNEL)));

fn look(data: Vec<u8>) {
    if let Ok(image) = Image::parse(data) {
        let _ = image.system_map();
        let _ = image.call_sites();
        let _ = image.section(".BTF");
        let _ = image.build_id();
        let _ = image.vermagic("7.3.4-test");
    }
}

/// Reads a file that is booted, and unpacks it if `unpack`; else there is no program that could.
fn boot(data: &[u8], unpack: bool) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), data).unwrap();
    let _ = release(file.path());
    let image = Image::read(file.path(), &|program| {
        Command::new(if unpack { program } else { "no-such-program" })
    });
    if let Ok(image) = image {
        let _ = image.system_map();
    }
}

#[test]
fn what_is_whole_is_read() {
    let symbols = |image: Image| image.system_map().lines().count();
    assert_eq!(symbols(Image::parse(KERNEL.clone()).unwrap()), 302);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), &*BOOTED).unwrap();
    assert_eq!(release(file.path()).unwrap(), "7.3.4-test");
    let image = Image::read(file.path(), &|program| Command::new(program)).unwrap();
    assert_eq!(image.call_sites().unwrap().len(), 16);
    assert_eq!(image.vermagic("7.3.4-test").unwrap(), VERMAGIC);
    assert_eq!(symbols(image), 302);
}

proptest! {
    #[test]
    fn bytes_of_kernels(damage in damage()) {
        look(damaged(KERNEL.clone(), &damage));
    }

    #[test]
    fn headers_of_kernels(damage in damage()) {
        let mut data = KERNEL.clone();
        let table = u64::from_le_bytes(data[40..48].try_into().unwrap()) as usize;
        let headers = damaged(data.split_off(table), &damage);
        data.extend(headers);
        look(data);
    }

    #[test]
    fn cut_off_kernels(end in any::<prop::sample::Index>()) {
        let mut data = KERNEL.clone();
        data.truncate(end.index(data.len()));
        look(data);
    }

    #[test]
    fn headers_of_booted_files(damage in damage()) {
        let mut data = BOOTED.clone();
        let rest = data.split_off(0x400);
        let header = damaged(data.split_off(0x1f0), &damage);
        data.extend(header);
        data.extend(rest);
        boot(&data, false);
    }
}

proptest! {
    // Each starts a program.
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn booted_files(damage in damage(), end in any::<prop::sample::Index>(), cut: bool) {
        let mut data = damaged(BOOTED.clone(), &damage);
        if cut {
            data.truncate(end.index(data.len()));
        }
        boot(&data, true);
    }

    #[test]
    fn packed_modules(
        damage in damage(),
        program in prop::sample::select(&["gzip", "xz", "zstd"][..]),
        end in any::<prop::sample::Index>(),
        cut: bool,
    ) {
        let mut data = damaged(compress(program, &KERNEL), &damage);
        if cut {
            data.truncate(end.index(data.len()));
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), data).unwrap();
        let _ = read_module(file.path(), &|program| Command::new(program));
    }
}
