// SPDX-License-Identifier: GPL-2.0

//! Waiting for what the kernel does by itself, such as completing a transition.
//!
//! A core that notifies pollers of the file `transition` wakes the waiter at once. For one that does
//! not, the file is read again and again, at first often, then less so: a transition that takes the
//! time t is noticed at most t/10 later, and never more than 100 ms later.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::FileExt,
    },
    time::Duration,
};

use crate::{kernel::Signal, Error, Kernel, Patch, Result};

const SHORTEST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What was waited for came after this time.
    Done(Duration),
    /// The time is over.
    TimedOut,
    /// A signal arrived.
    Interrupted(Signal),
}

/// Waits until the patch is not in transition, for `limit` at most. Each time that it still is,
/// `waiting` is called.
///
/// # Errors
///
/// That of reading the patch's files.
pub fn for_transition(
    kernel: &dyn Kernel,
    patch: &Patch,
    limit: Duration,
    mut waiting: impl FnMut(),
) -> Result<Outcome> {
    let wait = Wait::new(kernel, limit);
    let path = patch.file("transition");
    let failed = |source| Error::File {
        path: path.clone(),
        source,
    };
    let file = match File::open(&path) {
        Err(error) if Error::is_gone(&error) => return Ok(wait.done()),
        result => result.map_err(failed)?,
    };
    // The kernel tells a poller what has changed since this open file was last read.
    while reads_one(&file).map_err(failed)? {
        waiting();
        if let Some(outcome) = wait.pause(Some(file.as_fd())) {
            return Ok(outcome);
        }
    }
    Ok(wait.done())
}

/// Waits until `is_so` says that it is, for `limit` at most.
///
/// # Errors
///
/// Those of `is_so`.
pub fn until<E>(
    kernel: &dyn Kernel,
    limit: Duration,
    mut is_so: impl FnMut() -> std::result::Result<bool, E>,
) -> std::result::Result<Outcome, E> {
    let wait = Wait::new(kernel, limit);
    while !is_so()? {
        if let Some(outcome) = wait.pause(None) {
            return Ok(outcome);
        }
    }
    Ok(wait.done())
}

struct Wait<'a> {
    kernel: &'a dyn Kernel,
    start: Duration,
    limit: Duration,
}

impl<'a> Wait<'a> {
    fn new(kernel: &'a dyn Kernel, limit: Duration) -> Self {
        Self {
            kernel,
            start: kernel.now(),
            limit,
        }
    }

    fn elapsed(&self) -> Duration {
        self.kernel.now().saturating_sub(self.start)
    }

    fn done(&self) -> Outcome {
        Outcome::Done(self.elapsed())
    }

    /// Waits a moment. Returns the outcome if that was the end of it.
    fn pause(&self, watched: Option<BorrowedFd<'_>>) -> Option<Outcome> {
        let elapsed = self.elapsed();
        let left = self.limit.saturating_sub(elapsed);
        if left.is_zero() {
            return Some(Outcome::TimedOut);
        }
        let pause = (elapsed / 10).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        self.kernel
            .pause(watched, pause.min(left))
            .map(Outcome::Interrupted)
    }
}

/// Whether the file says 1. What is gone does not.
fn reads_one(file: &File) -> io::Result<bool> {
    let mut text = [0];
    match file.read_at(&mut text, 0) {
        Ok(count) => Ok(text[..count] == *b"1"),
        Err(error) if Error::is_gone(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, fs, path::Path};

    use super::*;
    use crate::Machine;

    /// A kernel in which time passes by pausing only, and something happens at a time.
    struct Clock<'a> {
        now: Cell<Duration>,
        pauses: Cell<u32>,
        at: Duration,
        event: &'a dyn Fn() -> Option<Signal>,
    }

    impl<'a> Clock<'a> {
        fn new(at: u64, event: &'a dyn Fn() -> Option<Signal>) -> Self {
            Self {
                now: Cell::default(),
                pauses: Cell::default(),
                at: Duration::from_millis(at),
                event,
            }
        }
    }

    impl Kernel for Clock<'_> {
        fn load_module(&self, _: &File) -> io::Result<()> {
            unreachable!()
        }

        fn modprobe(&self, _: &str) -> io::Result<()> {
            unreachable!()
        }

        fn unload_module(&self, _: &str) -> io::Result<()> {
            unreachable!()
        }

        fn now(&self) -> Duration {
            self.now.get()
        }

        fn pause(&self, _: Option<BorrowedFd<'_>>, time: Duration) -> Option<Signal> {
            let before = self.now.replace(self.now.get() + time);
            self.pauses.set(self.pauses.get() + 1);
            (before < self.at && before + time >= self.at)
                .then(self.event)
                .flatten()
        }
    }

    fn with_patch(transition: &str, test: impl FnOnce(&Path, &Patch)) {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("sys/kernel/livepatch/fix");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("transition"), transition).unwrap();
        let patch = Machine::with_root(root.path()).patch("fix").unwrap();
        test(&directory, &patch);
    }

    const LIMIT: Duration = Duration::from_secs(15);

    #[test]
    fn a_settled_patch_is_not_waited_for() {
        with_patch("0\n", |_, patch| {
            let clock = Clock::new(0, &|| None);
            let outcome = for_transition(&clock, patch, LIMIT, || panic!("waiting")).unwrap();
            assert_eq!(outcome, Outcome::Done(Duration::ZERO));
            assert_eq!(clock.pauses.get(), 0);
        });
    }

    #[test]
    fn the_end_is_noticed_within_a_tenth_of_the_time() {
        for at in [3, 50, 900, 12_000] {
            with_patch("1\n", |directory, patch| {
                let end = || {
                    fs::write(directory.join("transition"), "0\n").unwrap();
                    None
                };
                let clock = Clock::new(at, &end);
                let outcome = for_transition(&clock, patch, LIMIT, || ()).unwrap();
                let Outcome::Done(time) = outcome else {
                    panic!("{outcome:?}")
                };
                let late = time - Duration::from_millis(at);
                assert!(
                    late <= LONGEST_PAUSE.min((time / 10).max(SHORTEST_PAUSE)),
                    "{late:?} late after {at} ms"
                );
                assert!(clock.pauses.get() < 250, "{} looks", clock.pauses.get());
            });
        }
    }

    #[test]
    fn a_patch_that_goes_is_settled() {
        with_patch("1\n", |directory, patch| {
            fs::remove_dir_all(directory).unwrap();
            let clock = Clock::new(0, &|| None);
            let outcome = for_transition(&clock, patch, LIMIT, || ()).unwrap();
            assert_eq!(outcome, Outcome::Done(Duration::ZERO));
        });
    }

    #[test]
    fn the_limit_is_kept_exactly() {
        with_patch("1\n", |_, patch| {
            let clock = Clock::new(0, &|| None);
            let looks = Cell::new(0);
            let look = || looks.set(looks.get() + 1);
            let outcome = for_transition(&clock, patch, LIMIT, look).unwrap();
            assert_eq!(outcome, Outcome::TimedOut);
            assert_eq!(clock.now(), LIMIT);
            assert_eq!(looks.get(), clock.pauses.get() + 1);
        });
    }

    #[test]
    fn a_signal_ends_it() {
        with_patch("1\n", |_, patch| {
            let clock = Clock::new(100, &|| Some(Signal::Terminate));
            let outcome = for_transition(&clock, patch, LIMIT, || ()).unwrap();
            assert_eq!(outcome, Outcome::Interrupted(Signal::Terminate));
        });
    }

    #[test]
    fn a_condition_is_waited_for_and_may_fail() {
        let clock = Clock::new(0, &|| None);
        let looks = Cell::new(0);
        let third = || {
            looks.set(looks.get() + 1);
            Ok::<_, ()>(looks.get() == 3)
        };
        assert_eq!(
            until(&clock, LIMIT, third),
            Ok(Outcome::Done(2 * SHORTEST_PAUSE))
        );
        assert_eq!(until(&clock, LIMIT, || Err("no")), Err("no"));
        assert_eq!(
            until(&clock, Duration::ZERO, || Ok::<_, ()>(false)),
            Ok(Outcome::TimedOut)
        );
    }
}
