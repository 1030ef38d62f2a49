// SPDX-License-Identifier: GPL-2.0

use crate::pure::backoff::{Backoff, Signal};

/// Runs a transition that never completes; returns the times of the passes and of the signals.
fn run(until_ms: u64) -> (Vec<u64>, Vec<(u64, Signal)>) {
    let (mut backoff, mut now) = (Backoff::default(), 0);
    let (mut passes, mut signals) = (vec![], vec![]);
    while now <= until_ms {
        passes.push(now);
        let step = backoff.step(now);
        signals.extend(step.signal.map(|signal| (now, signal)));
        assert!(step.retry_ms > 0, "a pass must not follow at once");
        now += step.retry_ms;
    }
    (passes, signals)
}

#[test]
fn first_passes_follow_quickly() {
    assert_eq!(run(100).0, [0, 1, 3, 7, 15, 31, 63]);
}

#[test]
fn never_slower_than_once_a_second() {
    let (passes, _) = run(100_000);
    assert!(passes.windows(2).all(|pair| pair[1] - pair[0] <= 1_000));
}

#[test]
fn no_busy_loop() {
    // Once a second after the first two, and a new quick start after each signal.
    assert!(run(60_000).0.len() < 120);
}

#[test]
fn signals_every_fifteen_seconds_on_time() {
    let (_, signals) = run(46_000);
    let expected = [
        (15_000, Signal::First),
        (30_000, Signal::Again),
        (45_000, Signal::Again),
    ];
    assert_eq!(signals, expected);
}

#[test]
fn signalled_tasks_are_looked_at_soon() {
    let mut backoff = Backoff::default();
    for now in 0..20 {
        backoff.step(now * 700);
    }
    let step = backoff.step(15_000);
    assert_eq!(step.signal, Some(Signal::First));
    assert_eq!(step.retry_ms, 1);
}

#[test]
fn late_pass_signals_once() {
    let mut backoff = Backoff::default();
    assert_eq!(backoff.step(47_000).signal, Some(Signal::First));
    assert_eq!(backoff.step(47_001).signal, None);
    assert_eq!(backoff.step(60_000).signal, Some(Signal::Again));
}

#[test]
fn busy_tasks_are_looked_at_often_at_first() {
    let (mut backoff, mut looks, mut now) = (Backoff::default(), vec![], 0);
    for _ in 0..12 {
        looks.push(backoff.looks());
        now += backoff.step(now).retry_ms;
    }
    assert!(looks.iter().take(8).all(|&count| count == 50));
    assert!(looks.iter().skip(8).all(|&count| count == 0));
}

#[test]
fn busy_tasks_are_looked_at_often_again_after_a_signal() {
    let mut backoff = Backoff::default();
    for now in 0..20 {
        backoff.step(now * 700);
    }
    assert_eq!(backoff.looks(), 0);
    backoff.step(15_000);
    assert_eq!(backoff.looks(), 50);
}
