// SPDX-License-Identifier: GPL-2.0

//! Whatever is in a file, nothing but an error or a finding comes of it.

#[path = "../../convert/tests/damage/mod.rs"]
mod damage;

#[path = "../../convert/tests/module/mod.rs"]
mod file;

mod sample;

use damage::{damage, damaged};
use klp_check::{check, Exports, Patch, Symbols, Types};
use proptest::prelude::*;
use sample::{kernel, Declared, Sample};

fn look(data: &[u8]) {
    if let Ok(patch) = Patch::parse(data, None) {
        let _ = check(&patch, &kernel());
        let _ = patch.objects();
    }
    let _ = Symbols::of_module("file", data);
    let _ = Symbols::of_vmlinux("file", data);
    let _ = Types::of_file(data);
    let _ = Types::parse(data);
}

fn sample() -> impl Strategy<Value = Sample> {
    let declared =
        prop::sample::select(vec![Declared::Static, Declared::External, Declared::Kpatch]);
    declared.prop_map(|declared| Sample {
        declared,
        callbacks: vec![("pre_patch", "vmlinux"), ("pre_patch", "driver")],
        states: vec![(1, 2)],
        versions: vec![(0xabcd, "printk")],
        ..Sample::default()
    })
}

proptest! {
    #[test]
    fn bytes_of_modules(sample in sample(), damage in damage()) {
        look(&damaged(sample.build(), &damage));
    }

    #[test]
    fn headers_of_modules(sample in sample(), damage in damage()) {
        let mut data = sample.build();
        let table = u64::from_le_bytes(data[40..48].try_into().unwrap()) as usize;
        let headers = damaged(data.split_off(table), &damage);
        data.extend(headers);
        look(&data);
    }

    #[test]
    fn cut_off_modules(sample in sample(), end in any::<prop::sample::Index>()) {
        let mut data = sample.build();
        data.truncate(end.index(data.len()));
        look(&data);
    }

    #[test]
    fn texts(text in "[0-9a-f \t\n\\[\\]a-zT_]{0,200}") {
        if let Ok(mut symbols) = Symbols::parse("list", &text) {
            Symbols::set_sites(&mut symbols, &text);
        }
        let _ = Exports::default().add(&text);
    }
}
