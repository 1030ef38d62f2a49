// SPDX-License-Identifier: GPL-2.0

//! What is asked of the kernel other than by reading files: modules that come and go, patches that
//! are enabled and disabled, time, and signals. Behind a trait, so that a test can play a kernel.

use std::{
    ffi::CString,
    fs::{self, File},
    io::{self, Read},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    process::Command,
    time::{Duration, Instant},
};

use rustix::{
    event::{poll, PollFd, PollFlags, Timespec},
    system::{delete_module, finit_module},
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    low_level,
};

use crate::{Patch, Result};

/// A signal that asks the program to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// `SIGHUP`, which the end of a terminal sends.
    Hangup,
    /// `SIGINT`, which Ctrl-C sends.
    Interrupt,
    /// `SIGTERM`.
    Terminate,
}

impl Signal {
    /// Its number.
    pub fn number(self) -> u8 {
        match self {
            Self::Hangup => 1,
            Self::Interrupt => 2,
            Self::Terminate => 15,
        }
    }
}

/// What is asked of the kernel.
pub trait Kernel {
    /// Loads the module in this file.
    ///
    /// # Errors
    ///
    /// That of the kernel.
    fn load_module(&self, file: &File) -> io::Result<()>;

    /// Loads an installed module with its options, as modprobe does; one that is loaded stays so.
    ///
    /// # Errors
    ///
    /// What modprobe says.
    fn modprobe(&self, name: &str) -> io::Result<()>;

    /// Unloads a module, if nobody uses it.
    ///
    /// # Errors
    ///
    /// That of the kernel: `EWOULDBLOCK` if it is in use, `ENOENT` if there is none.
    fn unload_module(&self, name: &str) -> io::Result<()>;

    /// Enables or disables a patch: [`Patch::set_enabled`].
    ///
    /// # Errors
    ///
    /// Those of [`Patch::set_enabled`].
    fn set_enabled(&self, patch: &Patch, enabled: bool) -> Result<()> {
        patch.set_enabled(enabled)
    }

    /// The time since some moment in the past. It does not jump.
    fn now(&self) -> Duration;

    /// Waits for `time`, or until a signal arrives or arrived since the last call, or until the
    /// kernel says that the open file `watched` of sysfs has changed since it was read.
    fn pause(&self, watched: Option<BorrowedFd<'_>>, time: Duration) -> Option<Signal>;
}

/// The kernel that this program runs on.
///
/// From when it is made on, `SIGHUP`, `SIGINT` and `SIGTERM` no longer end the program: they make
/// [`pause`](Kernel::pause) return. One that the program was started to ignore, as by `nohup`, goes on
/// to be ignored.
pub struct Running {
    start: Instant,
    signals: Vec<(Signal, UnixStream)>,
}

impl Running {
    /// Takes over the signals.
    ///
    /// # Errors
    ///
    /// The process has no file descriptors left.
    pub fn new() -> io::Result<Self> {
        // Without /proc, it is not known, and they are taken for the usual case.
        let ignored = ignored(&fs::read_to_string("/proc/self/status").unwrap_or_default());
        let mut signals = vec![];
        for (signal, number) in [
            (Signal::Interrupt, SIGINT),
            (Signal::Terminate, SIGTERM),
            (Signal::Hangup, SIGHUP),
        ] {
            if ignored & (1 << (number - 1)) == 0 {
                signals.push((signal, arrivals_of(number)?));
            }
        }
        Ok(Self {
            start: Instant::now(),
            signals,
        })
    }
}

/// The signals that a process ignores, by its `status` in procfs: 1 is the lowest bit.
fn ignored(status: &str) -> u64 {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.unwrap_or(0)
}

/// A stream that has a byte for each time that the signal arrived.
fn arrivals_of(signal: i32) -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    read.set_nonblocking(true)?;
    low_level::pipe::register(signal, write)?;
    Ok(read)
}

fn arrived(mut stream: &UnixStream) -> bool {
    matches!(stream.read(&mut [0; 64]), Ok(count) if count > 0)
}

impl Kernel for Running {
    fn load_module(&self, file: &File) -> io::Result<()> {
        // A signal may interrupt the kernel while it reads the file, before anything is done.
        Ok(rustix::io::retry_on_intr(|| finit_module(file, c"", 0))?)
    }

    fn modprobe(&self, name: &str) -> io::Result<()> {
        // Where the kernel itself looks for it; users may not have it in their PATH.
        let output = Command::new("/sbin/modprobe").arg(name).output()?;
        if output.status.success() {
            return Ok(());
        }
        let reason = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(reason.trim_end()))
    }

    fn unload_module(&self, name: &str) -> io::Result<()> {
        let name = CString::new(name)?;
        // Without this flag, a module that cannot be unloaded would be waited for.
        let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        Ok(delete_module(&name, flags)?)
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn pause(&self, watched: Option<BorrowedFd<'_>>, time: Duration) -> Option<Signal> {
        let mut files = self
            .signals
            .iter()
            .map(|(_, stream)| PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::IN))
            .collect::<Vec<_>>();
        files.extend(watched.map(|file| PollFd::from_borrowed_fd(file, PollFlags::PRI)));
        let time = Timespec::try_from(time).unwrap_or(Timespec {
            tv_sec: i64::MAX,
            tv_nsec: 0,
        });
        // Whatever ends it, the caller looks again; a signal has left its byte.
        let _ = poll(&mut files, Some(&time));
        self.signals
            .iter()
            .find(|(_, stream)| arrived(stream))
            .map(|(signal, _)| *signal)
    }
}

#[cfg(test)]
mod tests {
    use super::ignored;

    #[test]
    fn signals_that_are_ignored() {
        let status = "SigBlk:\t00000000000000ff\nSigIgn:\t0000000000001001\nSigCgt:\t0\n";
        assert_eq!(ignored(status), 0x1001);
        assert_eq!(ignored("SigIgn:\tx\n"), 0);
        assert_eq!(ignored(""), 0);
    }
}
