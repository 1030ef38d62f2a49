// SPDX-License-Identifier: GPL-2.0

use super::check;
use crate::pure::{
    backoff::{Backoff, Signal},
    stall::Stall,
};
use proptest::{collection::vec, prelude::*};

/// Times of passes, as milliseconds between them: mostly short, sometimes very long.
fn passes() -> impl Strategy<Value = Vec<u64>> {
    vec(
        prop_oneof![6 => 0u64..1_200, 2 => 0u64..60_000, 1 => 0u64..1 << 40],
        0..120,
    )
}

#[test]
fn backoff() {
    check("backoff", passes(), |passes| {
        let mut backoff = Backoff::default();
        let (mut now, mut signals, mut since) = (0, 0u64, 0u32);
        for pass in passes {
            now += pass;
            let step = backoff.step(now);
            let due = now / 15_000;
            let expected = match (due > signals, signals) {
                (false, _) => None,
                (true, 0) => Some(Signal::First),
                (true, _) => Some(Signal::Again),
            };
            prop_assert_eq!(step.signal, expected);
            signals = due;
            if expected.is_some() {
                since = 0;
            }
            // Doubled each time up to a second, and never past the next signal.
            let pause = 2u64.pow(since.min(10)).min(1_000);
            prop_assert_eq!(step.retry_ms, pause.min((due + 1) * 15_000 - now));
            since += 1;
        }
        Ok(())
    });
}

#[test]
fn stalls() {
    const DAY: u64 = 86_400_000;
    let times = vec(prop_oneof![0u64..7_200_000, 0..3 * DAY], 0..30);
    let first = prop_oneof![Just(0u32), 1u32..10_000, any::<u32>()];
    check("stalls", (first, times), |(first, times)| {
        let mut stall = Stall::new(first);
        let (mut now, mut next) = (0, u64::from(first) * 1_000);
        for time in times {
            now += time;
            let due = first != 0 && now >= next;
            prop_assert_eq!(stall.is_due(now), due);
            while first != 0 && next <= now {
                next += DAY;
            }
        }
        Ok(())
    });
}
