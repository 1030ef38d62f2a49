// SPDX-License-Identifier: GPL-2.0

//! Reads past the end of a vector when it is loaded, for KASAN to report. A run on a kernel whose Rust
//! code is not instrumented finds nothing in Rust code.

use kernel::prelude::*;

module! {
    type: Wrong,
    name: "klp_test_wrong_rust",
    authors: ["The livepatch-rs developers"],
    description: "A mistake in Rust that KASAN finds, for tests",
    license: "GPL",
}

struct Wrong;

impl kernel::Module for Wrong {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let mut numbers = KVec::<u64>::with_capacity(8, GFP_KERNEL)?;
        numbers.push(1, GFP_KERNEL)?;
        let past = numbers.as_ptr().wrapping_add(numbers.capacity());
        // SAFETY: There is none: the memory behind that of the vector is not ours. It exists, so
        // nothing happens but a report.
        let number = unsafe { past.read_volatile() };
        pr_info!("past the end: {number}\n");
        Ok(Self)
    }
}
