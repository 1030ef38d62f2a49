// SPDX-License-Identifier: GPL-2.0

use crate::pure::stall::Stall;

const SECOND: u64 = 1_000;
const HOUR: u64 = 3_600 * SECOND;
const DAY: u64 = 24 * HOUR;

/// The times at which a transition that never completes, looked at every `step` ms, is warned of.
fn warnings(first_s: u32, step: u64, until: u64) -> Vec<u64> {
    let mut stall = Stall::new(first_s);
    (0..=until / step)
        .map(|pass| pass * step)
        .filter(|&now| stall.is_due(now))
        .collect()
}

#[test]
fn warns_after_an_hour_and_then_once_a_day() {
    let expected = [HOUR, HOUR + DAY, HOUR + 2 * DAY, HOUR + 3 * DAY];
    assert_eq!(warnings(3_600, SECOND, 4 * DAY), expected);
}

#[test]
fn not_a_moment_too_early() {
    let mut stall = Stall::new(3_600);
    assert!(!stall.is_due(0));
    assert!(!stall.is_due(HOUR - 1));
    assert!(stall.is_due(HOUR));
    assert!(!stall.is_due(HOUR));
    assert!(!stall.is_due(HOUR + DAY - 1));
    assert!(stall.is_due(HOUR + DAY));
}

#[test]
fn late_pass_warns_once() {
    let mut stall = Stall::new(3_600);
    assert!(stall.is_due(HOUR + 5 * DAY));
    assert!(!stall.is_due(HOUR + 5 * DAY + SECOND));
    assert!(stall.is_due(HOUR + 6 * DAY));
}

#[test]
fn time_that_goes_back_is_not_counted_again() {
    let mut stall = Stall::new(3_600);
    assert!(stall.is_due(HOUR));
    assert!(!stall.is_due(0));
    assert!(!stall.is_due(HOUR));
}

#[test]
fn zero_switches_it_off() {
    assert_eq!(warnings(0, HOUR, 400 * DAY), []);
}

#[test]
fn largest_times() {
    let mut stall = Stall::new(u32::MAX);
    assert!(!stall.is_due(0));
    assert!(stall.is_due(u64::MAX));
    assert!(!stall.is_due(u64::MAX));
}
