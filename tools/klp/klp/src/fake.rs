// SPDX-License-Identifier: GPL-2.0

//! A machine for tests: a tree of files, a kernel that plays what it is told, and what a command
//! prints. Time passes only while the command waits.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fs::{self, File},
    io::{self, Read},
    os::fd::BorrowedFd,
    path::PathBuf,
    time::Duration,
};

use klp_live::{kernel::Signal, Kernel, Machine, Patch};
use klp_module::Module;
use rustix::io::Errno;
use tempfile::TempDir;

use crate::{
    elf::elf,
    session::{Seconds, Session, Step, Stop, Waits},
};

pub const RELEASE: &str = "7.3.4-test";

/// A transition that is going on.
struct Transition {
    name: String,
    /// When it ends, if it does.
    end: Option<Duration>,
}

type Event = Box<dyn Fn(&Fake)>;

pub struct Fake {
    root: TempDir,
    now: Cell<Duration>,
    /// How long transitions take, in order; the last one counts for all others. [`None`] is for ever.
    takes: RefCell<VecDeque<Option<Duration>>>,
    transition: RefCell<Option<Transition>>,
    /// What the next attempts to load a module or to write `enabled` fail with.
    pub failures: RefCell<VecDeque<Errno>>,
    /// When a signal arrives.
    pub signal: Cell<Option<(Duration, Signal)>>,
    /// What happens on the machine at a time.
    pub event: RefCell<Option<(Duration, Event)>>,
    /// Whether somebody else is first to write `enabled`, so that a failure finds it done.
    pub loses_races: Cell<bool>,
    /// Whether modules of disabled patches stay in use.
    pub keeps_users: Cell<bool>,
}

impl Fake {
    pub fn new() -> Self {
        let fake = Self {
            root: tempfile::tempdir().unwrap(),
            now: Cell::default(),
            takes: RefCell::new([Some(Duration::ZERO)].into()),
            transition: RefCell::default(),
            failures: RefCell::default(),
            signal: Cell::default(),
            event: RefCell::default(),
            loses_races: Cell::default(),
            keeps_users: Cell::default(),
        };
        fake.write("/proc/sys/kernel/osrelease", &format!("{RELEASE}\n"));
        fake.write("/proc/sys/kernel/random/boot_id", "this-boot\n");
        for directory in ["sys/kernel/livepatch", "sys/module", "run"] {
            fs::create_dir_all(fake.path(directory)).unwrap();
        }
        fake
    }

    /// Sets how long transitions take, in seconds.
    pub fn transitions_take(self, seconds: &[Option<u64>]) -> Self {
        let times = seconds.iter().map(|time| time.map(Duration::from_secs));
        self.takes.replace(times.collect());
        self
    }

    pub fn machine(&self) -> Machine {
        Machine::with_root(self.root.path())
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    pub fn write(&self, path: &str, contents: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }

    /// Makes the file of a module, and returns its path.
    pub fn module(&self, path: &str, name: &str) -> String {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, elf(name, RELEASE, "livepatch=Y\0srcversion=A1\0")).unwrap();
        path.to_str().unwrap().into()
    }

    /// A patch that the core knows.
    pub fn patch(&self, name: &str, enabled: bool, transition: bool) {
        self.file(name, "enabled", enabled);
        self.file(name, "transition", transition);
        self.write(&format!("/sys/module/{name}/taint"), "OEK\n");
        self.write(&format!("/sys/module/{name}/refcnt"), "1\n");
        self.write(&format!("/sys/module/{name}/srcversion"), "A1\n");
        if transition {
            self.begin(name);
        }
    }

    /// Somebody else disables a patch.
    pub fn disable(&self, name: &str) {
        self.file(name, "enabled", false);
        self.begin(name);
    }

    fn file(&self, patch: &str, file: &str, value: bool) {
        let value = format!("{}\n", u8::from(value));
        self.write(&format!("/sys/kernel/livepatch/{patch}/{file}"), &value);
    }

    fn begin(&self, name: &str) {
        let mut takes = self.takes.borrow_mut();
        let time = match takes.len() {
            1 => takes[0],
            _ => takes.pop_front().unwrap(),
        };
        drop(takes);
        self.file(name, "transition", true);
        self.transition.replace(Some(Transition {
            name: name.into(),
            end: time.map(|time| self.now.get() + time),
        }));
        self.settle();
    }

    /// Ends the transition if it is time.
    fn settle(&self) {
        let now = self.now.get();
        let ended = self
            .transition
            .borrow_mut()
            .take_if(|transition| transition.end.is_some_and(|end| end <= now));
        let Some(Transition { name, .. }) = ended else {
            return;
        };
        self.file(&name, "transition", false);
        let patch = self.path(&format!("/sys/kernel/livepatch/{name}"));
        if fs::read(patch.join("enabled")).unwrap() == b"0\n" {
            fs::remove_dir_all(patch).unwrap();
            if !self.keeps_users.get() {
                self.write(&format!("/sys/module/{name}/refcnt"), "0\n");
            }
        }
    }

    fn fails(&self) -> io::Result<()> {
        match self.failures.borrow_mut().pop_front() {
            Some(errno) => Err(errno.into()),
            None => Ok(()),
        }
    }

    pub fn seconds(&self) -> f64 {
        self.now.get().as_secs_f64()
    }

    /// Runs a command, and returns what it prints and how it ends, with the machine's root as `ROOT`.
    pub fn run(&self, body: impl FnOnce(&Session) -> Step) -> String {
        self.run_with(&Waits::DEFAULT, body)
    }

    pub fn run_with(&self, waits: &Waits, body: impl FnOnce(&Session) -> Step) -> String {
        let printed = RefCell::new(vec![]);
        let session = Session::new(
            self.machine(),
            self,
            waits,
            Tagged("", &printed),
            Tagged("! ", &printed),
        );
        let end = match body(&session) {
            Ok(()) => "done\n".into(),
            Err(Stop::Failed(reason)) => format!("failed: {reason}\n"),
            Err(Stop::Interrupted(signal, state)) => {
                format!("interrupted by {}: {state}\n", signal.number())
            }
        };
        drop(session);
        let text = String::from_utf8(printed.into_inner()).unwrap() + &end;
        text.replace(self.root.path().to_str().unwrap(), "ROOT")
    }
}

/// Marks lines.
struct Tagged<'a>(&'static str, &'a RefCell<Vec<u8>>);

impl io::Write for Tagged<'_> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let mut printed = self.1.borrow_mut();
        if printed.last().is_none_or(|byte| *byte == b'\n') {
            printed.extend(self.0.as_bytes());
        }
        printed.extend(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Kernel for Fake {
    fn load_module(&self, mut file: &File) -> io::Result<()> {
        self.fails()?;
        let mut contents = vec![];
        io::Seek::rewind(&mut file)?;
        file.read_to_end(&mut contents)?;
        let module = Module::parse(&contents).unwrap();
        self.patch(module.name(), true, true);
        Ok(())
    }

    fn modprobe(&self, name: &str) -> io::Result<()> {
        self.fails()?;
        self.write(&format!("/sys/module/{name}/version"), "1.0\n");
        Ok(())
    }

    fn unload_module(&self, name: &str) -> io::Result<()> {
        self.fails()?;
        let module = self.path(&format!("/sys/module/{name}"));
        assert!(!self.path(&format!("/sys/kernel/livepatch/{name}")).exists());
        fs::remove_dir_all(module)
    }

    fn set_enabled(&self, patch: &Patch, enabled: bool) -> klp_live::Result<()> {
        self.fails().map_err(|source| {
            if self.loses_races.get() {
                self.disable(patch.name());
            }
            klp_live::Error::File {
                path: patch.file("enabled"),
                source,
            }
        })?;
        self.file(patch.name(), "enabled", enabled);
        self.begin(patch.name());
        Ok(())
    }

    fn now(&self) -> Duration {
        self.now.get()
    }

    fn pause(&self, _: Option<BorrowedFd<'_>>, time: Duration) -> Option<Signal> {
        self.now.set(self.now.get() + time);
        let now = self.now.get();
        let event = self.event.borrow_mut().take_if(|(at, _)| *at <= now);
        if let Some((_, event)) = event {
            event(self);
        }
        self.settle();
        match self.signal.get() {
            Some((at, signal)) if at <= self.now.get() => {
                self.signal.set(None);
                Some(signal)
            }
            _ => None,
        }
    }
}

/// Waits without patience.
pub fn no_waits() -> Waits {
    let none = Seconds(Duration::ZERO);
    Waits {
        wait: none,
        stalled_wait: none,
        refs_wait: none,
        attempts: 1,
        retry_interval: none,
    }
}

#[test]
fn the_made_module_is_one() {
    let module = Module::parse(&elf("fix", RELEASE, "livepatch=Y\0")).unwrap();
    assert_eq!(module.name(), "fix");
    assert_eq!(module.kernel_release(), Some(RELEASE));
    assert!(module.is_livepatch());
}
