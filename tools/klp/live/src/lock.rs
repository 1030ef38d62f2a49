// SPDX-License-Identifier: GPL-2.0

//! One program at a time changes the patches of a machine: it has the lock `/run/klp.lock`.

use std::{
    fmt,
    fs::{File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    process,
};

use rustix::{
    fs::{flock, FlockOperation},
    io::Errno,
    process::geteuid,
};

use crate::{Error, Machine, Result};

/// The lock. It is free again when this is dropped, or when the process ends in any way.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// The process that has the lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder(String);

impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.trim_end().split_once(' ') {
            Some((pid, command)) => write!(formatter, "\"{command}\" (process {pid})"),
            // It has not written its name yet.
            None => formatter.write_str("another klp"),
        }
    }
}

/// For the owner only.
const MODE: u32 = 0o600;

impl Lock {
    /// Takes the lock for `command`, which others are told, or says who has it.
    ///
    /// # Errors
    ///
    /// That of opening it: `EACCES` if the user may not change patches, or if the file belongs to
    /// somebody else, who could hold it for ever.
    pub fn take(machine: &Machine, command: &str) -> Result<std::result::Result<Self, Holder>> {
        let path = machine.path("/run/klp.lock");
        let failed = |source| Error::File {
            path: path.clone(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            // It names the holder.
            .truncate(false)
            .mode(MODE)
            .open(&path)
            .map_err(failed)?;
        // Who can open it can lock it.
        let metadata = file.metadata().map_err(failed)?;
        if metadata.uid() != geteuid().as_raw() {
            return Err(failed(io::ErrorKind::PermissionDenied.into()));
        }
        if metadata.mode() & 0o777 != MODE {
            file.set_permissions(Permissions::from_mode(MODE))
                .map_err(failed)?;
        }
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder).map_err(failed)?;
                return Ok(Err(Holder(holder)));
            }
            Err(error) => return Err(failed(error.into())),
        }
        // Only a message depends on the text: a full disk is no reason to fail.
        let _ = file
            .set_len(0)
            .and_then(|()| writeln!(file, "{} {command}", process::id()));
        Ok(Ok(Self { _file: file }))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn one_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let machine = Machine::with_root(root.path());
        assert!(Lock::take(&machine, "klp load a").is_err());
        fs::create_dir(root.path().join("run")).unwrap();
        let lock = Lock::take(&machine, "klp load a").unwrap().unwrap();
        let holder = Lock::take(&machine, "klp load b").unwrap().unwrap_err();
        assert_eq!(
            holder.to_string(),
            format!("\"klp load a\" (process {})", process::id())
        );
        drop(lock);
        // What a shorter name overwrites is gone.
        let _lock = Lock::take(&machine, "klp").unwrap().unwrap();
        let holder = Lock::take(&machine, "klp load b").unwrap().unwrap_err();
        assert_eq!(
            holder.to_string(),
            format!("\"klp\" (process {})", process::id())
        );
    }

    #[test]
    fn nobody_else_can_lock_it() {
        let root = tempfile::tempdir().unwrap();
        let machine = Machine::with_root(root.path());
        let path = root.path().join("run/klp.lock");
        fs::create_dir(root.path().join("run")).unwrap();
        let mode = || fs::metadata(&path).unwrap().mode() & 0o777;
        drop(Lock::take(&machine, "klp").unwrap().unwrap());
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        drop(Lock::take(&machine, "klp").unwrap().unwrap());
        assert_eq!(mode(), 0o600);
        if geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
            let error = Lock::take(&machine, "klp").unwrap_err();
            assert!(error.to_string().contains("denied"), "{error}");
        }
    }

    #[test]
    fn a_holder_without_a_name_yet() {
        assert_eq!(Holder(String::new()).to_string(), "another klp");
    }
}
