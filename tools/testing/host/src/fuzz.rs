// SPDX-License-Identifier: GPL-2.0

//! What must hold for any input: each test makes cases up and compares the code with a plain
//! statement of what it should do.
//!
//! `FUZZ_CASES` is the number of cases of each test. `FUZZ_SEED`, a number, repeats a run; without
//! it there is a new one each time, and it is printed.

mod lists;
mod names;
mod relocations;
mod tables;
mod times;
mod walks;

use proptest::{
    strategy::Strategy,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestCaseResult, TestRng, TestRunner},
};
use std::{
    env,
    hash::{BuildHasher, RandomState},
    sync::OnceLock,
};

/// The number of cases of each test where the environment does not say.
const CASES: u32 = 256;

/// Returns what the environment sets `name` to, as a number.
fn number(name: &str) -> Option<u64> {
    let value = env::var(name).ok()?;
    let value = value.parse();
    Some(value.unwrap_or_else(|error| panic!("{name}: {error}")))
}

/// Returns the seed of this run.
fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED
        .get_or_init(|| number("FUZZ_SEED").unwrap_or_else(|| RandomState::new().hash_one(()) >> 1))
}

/// Has `property` hold for values of `strategy`; a case that is wrong is made smaller.
fn check<S: Strategy>(name: &str, strategy: S, property: impl Fn(S::Value) -> TestCaseResult) {
    let cases = number("FUZZ_CASES").map_or(CASES, |cases| {
        u32::try_from(cases).expect("FUZZ_CASES is too large")
    });
    let config = Config {
        cases,
        // A failure is repeated by its seed, so no file is written into the sources.
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed().to_le_bytes());
    for (byte, place) in name.bytes().zip((8..32).cycle()) {
        bytes[place] = bytes[place].wrapping_mul(31) ^ byte;
    }
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let result = TestRunner::new_with_rng(config, rng).run(&strategy, property);
    println!("fuzz {name}: {cases} cases, seed {}", seed());
    if let Err(error) = result {
        panic!("{name}, repeated by FUZZ_SEED={}: {error}", seed());
    }
}

/// Ends a case that is wrong.
fn wrong<T>(why: impl std::fmt::Display) -> Result<T, TestCaseError> {
    Err(TestCaseError::fail(why.to_string()))
}
