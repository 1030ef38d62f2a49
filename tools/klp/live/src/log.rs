// SPDX-License-Identifier: GPL-2.0

//! What the kernel log tells about patches: since when they are what they are, and by force or not.
//!
//! Nothing else knows when a patch was enabled: directories in sysfs have the time at which they
//! were first looked up. The log is a ring buffer, so that the answers may be missing.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
};

use rustix::fs::OFlags;

use crate::{Error, Machine, Result};

/// A record of the kernel log is not longer than this, which is the kernel's `PRINTK_MESSAGE_MAX`.
const RECORD_MAX: usize = 8192;

/// The messages of the livepatch core, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Log {
    messages: Vec<Message>,
}

#[derive(Clone, Debug)]
struct Message {
    /// When, in seconds since the machine was started.
    seconds: u64,
    /// Without the core's prefix.
    text: String,
}

/// What the log tells about a patch. [`None`] is what it no longer has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// When it was enabled last, in seconds since the machine was started.
    pub enabled: Option<u64>,
    /// When its last transition started or was reversed.
    pub transition: Option<u64>,
    /// Whether its last transition was ended by force.
    pub forced: Option<bool>,
}

impl Machine {
    /// Reads the kernel log, or returns [`None`] without permission or if there is none.
    pub fn log(&self) -> Result<Option<Log>> {
        let path = self.path("/dev/kmsg");
        let file = fs::OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits() as i32)
            .open(&path);
        let mut file = match file {
            Err(error)
                if Error::is_gone(&error) || error.kind() == io::ErrorKind::PermissionDenied =>
            {
                return Ok(None)
            }
            result => result.map_err(|source| Error::File {
                path: path.clone(),
                source,
            })?,
        };
        let mut text = vec![];
        let mut record = [0; RECORD_MAX];
        loop {
            match file.read(&mut record) {
                // The end of a file, or of what is there by now.
                Ok(0) => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Ok(length) => text.extend_from_slice(&record[..length]),
                // A record was overwritten; the next read has the oldest one that is left.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::File { path, source }),
            }
        }
        Ok(Some(Log::parse(&String::from_utf8_lossy(&text))))
    }

    /// For how long the machine has been running, in seconds. Times in the log count from the same
    /// moment, but not while the machine is suspended.
    pub fn uptime(&self) -> Result<u64> {
        let path = "/proc/uptime";
        let text = self.read(path)?.unwrap_or_default();
        text.split('.')
            .next()
            .and_then(|seconds| seconds.parse().ok())
            .ok_or_else(|| Error::Unexpected {
                path: self.path(path),
                expected: "seconds",
                found: text.clone(),
            })
    }
}

impl Log {
    /// Parses records in the format of `/dev/kmsg`. Others' messages are left out.
    pub fn parse(text: &str) -> Self {
        let message = |line: &str| {
            // PRIORITY,SEQUENCE,MICROSECONDS,FLAGS;TEXT, and lines " KEY=VALUE" that belong to it.
            let (head, text) = line.split_once(';')?;
            let microseconds = head.split(',').nth(2)?.parse::<u64>().ok()?;
            Some(Message {
                seconds: microseconds / 1_000_000,
                text: text.strip_prefix("livepatch: ")?.into(),
            })
        };
        Self {
            messages: text.lines().filter_map(message).collect(),
        }
    }

    /// What it tells about the patch `name`.
    pub fn history(&self, name: &str) -> History {
        let enabling = format!("enabling patch '{name}'");
        let starting = format!("'{name}': starting ");
        let complete = [
            format!("'{name}': patching complete"),
            format!("'{name}': unpatching complete"),
        ];
        let mut history = History::default();
        let mut in_transition = false;
        for message in &self.messages {
            let text = message.text.as_str();
            if text == enabling {
                history.enabled = Some(message.seconds);
            } else if text.starts_with(&starting) {
                history.transition = Some(message.seconds);
                history.forced = Some(false);
                in_transition = true;
            } else if text.starts_with("forcing remaining tasks") && in_transition {
                // There is only one transition at a time.
                history.forced = Some(true);
            } else if complete.iter().any(|complete| text == complete) {
                in_transition = false;
            }
        }
        history
    }
}

#[cfg(test)]
mod tests {
    use super::{History, Log};

    const LOG: &str = "\
5,1,1500000,-;livepatch: enabling patch 'a'
5,2,2000000,-;livepatch: 'a': starting patching transition
5,3,2900000,-;other: 'a': starting patching transition
5,4,3000000,-;livepatch: 'a': patching complete
 SUBSYSTEM=module
5,5,4000000,c;livepatch: enabling patch 'ab'
5,6,5000000,-;livepatch: 'ab': starting patching transition
4,7,6000000,-;livepatch: forcing remaining tasks to the patched state
5,8,7000000,-;livepatch: 'ab': patching complete
5,9,8000000,-;livepatch: 'a': starting unpatching transition
";

    fn history(log: &str, name: &str) -> History {
        Log::parse(log).history(name)
    }

    #[test]
    fn patches_are_told_apart() {
        assert_eq!(
            history(LOG, "a"),
            History {
                enabled: Some(1),
                transition: Some(8),
                forced: Some(false),
            }
        );
        assert_eq!(
            history(LOG, "ab"),
            History {
                enabled: Some(4),
                transition: Some(5),
                forced: Some(true),
            }
        );
    }

    #[test]
    fn what_is_overwritten_is_not_known() {
        let rest = LOG.split_once(" SUBSYSTEM").unwrap().1;
        assert_eq!(history(rest, "a").enabled, None);
        let only_forced = &LOG[LOG.find("4,7").unwrap()..LOG.find("5,9").unwrap()];
        assert_eq!(history(only_forced, "ab"), History::default());
        assert_eq!(history(LOG, "b"), History::default());
        assert_eq!(history("", "a"), History::default());
    }

    #[test]
    fn garbage_is_left_out() {
        let log = "x\n5,1;livepatch: enabling patch 'a'\n5,1,x,-;livepatch: enabling patch 'a'\n";
        assert_eq!(history(log, "a"), History::default());
    }
}
