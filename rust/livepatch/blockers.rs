// SPDX-License-Identifier: GPL-2.0

//! The list of tasks that hold a transition up: the contents of the file `blockers`.
//!
//! # Contexts and concurrency
//!
//! All of this runs in process context, in a read of the file, and never under the registry lock:
//! neither does a reader wait for a pass, nor a pass for a reader.
//!
//! [`list`] looks at each task by itself, as a pass does, but changes nothing. It finds the tasks
//! by their PIDs ([`task::by_pid`]) and does not take `tasklist_lock`: forks and exits do not wait
//! for it at all. So it may allocate memory whenever it has to. While it looks at one stack,
//! preemption is disabled, and the scheduler's locks of that one task are held.
//!
//! Tasks switch, come and go, and the transition may turn round or end meanwhile; when it is over,
//! the list ends. Each line was true when it was made, but for one that was made while the
//! transition was being turned round: it may be about either direction. A task that is there, keeps
//! its PID and does not switch all the time is in the list, once; one that calls `exec()` in a
//! thread that is not its process's first gets another PID and may be missing or be there twice.
//!
//! # Reading in parts
//!
//! Sysfs reads a page at most at a time, and a list of thousands of tasks has many; to make it
//! anew for each would take too long, and a line that grows shifts what comes after it. So a read
//! at the start of the file makes a list and keeps it for this open file, from which the others
//! are served ([`Lists`]), also when the transition is over. A list that fits into the first part
//! is not kept, since nothing is left to read. Sysfs does not tell when such a file is closed; so
//! the memory is given back when the reader has got to the end, and there are never more than
//! [`MAX_LISTS`] lists for a patch: one more takes the place of one whose end has been reached or,
//! if there is none, of the one that was used least recently, whose reader has to start again
//! (`ESTALE`). What is left goes with the directory: a list that nobody reads to its end lives as
//! long as the patch, unless others take its place. An open file is known by its address; one that
//! is opened when another was closed may have the same, and see that one's list if it does not
//! begin at the start.

use crate::{
    kapi::{
        cpu::{
            self,
            PreemptGuard, //
        },
        kobject::{
            OpenFile,
            Part, //
        },
        stale,
        task::{
            self,
            TaskExt, //
        }, //
    },
    obstacle::{
        self,
        Obstacle, //
    },
    pure::{
        escape::escape,
        patch_state::PatchId, //
    },
    transition,
};
use core::fmt::Write;
use kernel::{
    new_mutex,
    prelude::*,
    str::CString,
    sync::{
        Arc,
        Mutex, //
    },
    task::Task, //
};

/// How many lists are kept for a patch, for as many readers at the same time.
const MAX_LISTS: usize = 4;

/// Text that grows.
struct Text(KVVec<u8>);

impl Text {
    fn push(&mut self, bytes: &[u8]) -> Result {
        Ok(self.0.extend_from_slice(bytes, GFP_KERNEL)?)
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.push(text.as_bytes()).map_err(|_| core::fmt::Error)
    }
}

/// Makes the list of the tasks that hold up the transition of a patch; empty if it is not in
/// transition. May sleep.
///
/// # Errors
///
/// `ENOMEM`; `EINTR` if the reader is being killed.
fn list(id: PatchId) -> Result<KVVec<u8>> {
    let mut text = Text(KVVec::new());
    if !transition::is_of(id) {
        return Ok(text.0);
    }
    for task in task::by_pid() {
        if task::is_being_killed() {
            return Err(EINTR);
        }
        if !transition::is_of(id) {
            return Ok(text.0);
        }
        add(&mut text, id, &task)?;
    }
    for cpu in cpu::possible_cpus() {
        add(&mut text, id, task::idle(cpu))?;
    }
    Ok(text.0)
}

/// Adds a line for `task` if it holds the transition up.
fn add(text: &mut Text, id: PatchId, task: &Task) -> Result {
    if !transition::is_left(id, task) {
        return Ok(());
    }
    let obstacle = obstacle_of(task);
    // It may have switched before it was looked at.
    if !transition::is_left(id, task) {
        return Ok(());
    }
    let kind = if task.is_kthread() { "kthread" } else { "user" };
    write!(text, "{}\t{}\t", task.pid(), kind).map_err(|_| ENOMEM)?;
    match obstacle {
        Obstacle::Running => text.push(b"running")?,
        Obstacle::Unreliable => text.push(b"unreliable stack")?,
        Obstacle::Function(name) => {
            text.push(b"sleeping in ")?;
            text.push(name.to_bytes())?;
        }
        Obstacle::NotTried => text.push(b"not tried")?,
        Obstacle::Unknown(errno) => write!(text, "unknown {errno}").map_err(|_| ENOMEM)?,
    }
    text.push(b"\t")?;
    for &byte in task.comm().as_cstr().to_bytes() {
        text.push(escape(byte).as_bytes())?;
    }
    text.push(b"\n")
}

/// Why `task` has not switched.
fn obstacle_of(task: &Task) -> Obstacle<Arc<CString>> {
    // The reader itself. Its stack does not show what it was called for.
    if task::with_current(|current| current == task) {
        return Obstacle::Running;
    }
    let preempt = PreemptGuard::new();
    match obstacle::examine(task, &preempt, |_| ()) {
        Err(obstacle) => obstacle.cloned(),
        // Nothing is in the way any more; the next pass will see that.
        Ok(()) => Obstacle::NotTried,
    }
}

/// A list that is being read.
struct List {
    reader: OpenFile,
    length: usize,
    /// `None` when the reader has got to the end, or nothing is left to read.
    text: Option<KVVec<u8>>,
}

/// The lists of a patch that are being read.
#[pin_data]
pub(crate) struct Lists {
    /// The one that was used most recently is at the front; those that were never used come last.
    #[pin]
    slots: Mutex<[Option<List>; MAX_LISTS]>,
}

impl Lists {
    /// Makes room for them.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            slots <- new_mutex!([const { None }; MAX_LISTS]),
        })
    }

    /// Reads the list of tasks that hold up the transition of a patch: writes what is there from
    /// `offset` on, and returns how much it was, 0 at the end. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`. `EINTR` if the reader is being killed. `ESTALE` if there is no list for the open
    /// file (any more) or its end has been read, and the offset is neither 0 nor at the end.
    pub(crate) fn read(
        &self,
        id: PatchId,
        reader: OpenFile,
        offset: usize,
        part: &mut Part,
    ) -> Result<usize> {
        if offset > 0 {
            return self.read_on(reader, offset, part);
        }
        let text = list(id)?;
        let count = part.fill(&text);
        let list = List {
            reader,
            length: text.len(),
            text: (count < text.len()).then_some(text),
        };
        // What it takes the place of is dropped without the lock.
        let _replaced = self.keep(list);
        Ok(count)
    }

    /// Keeps a list, and returns the one that has to go: the reader's last one, one without text,
    /// or the one that was used least recently.
    fn keep(&self, list: List) -> Option<List> {
        let mut slots = self.slots.lock();
        let index = position(&*slots, list.reader)
            .or_else(|| slots.iter().position(Option::is_none))
            .or_else(|| slots.iter().rposition(is_without_text))
            .unwrap_or(MAX_LISTS - 1);
        use_slot(&mut *slots, index);
        slots.first_mut().and_then(|first| first.replace(list))
    }

    /// Reads a part of the list that was made for this open file.
    fn read_on(&self, reader: OpenFile, offset: usize, part: &mut Part) -> Result<usize> {
        let mut slots = self.slots.lock();
        let index = position(&*slots, reader).ok_or_else(stale)?;
        use_slot(&mut *slots, index);
        let list = slots
            .first_mut()
            .and_then(Option::as_mut)
            .ok_or_else(stale)?;
        if offset >= list.length {
            let text = list.text.take();
            drop(slots);
            drop(text);
            return Ok(0);
        }
        let rest = list.text.as_ref().and_then(|text| text.get(offset..));
        rest.map(|rest| part.fill(rest)).ok_or_else(stale)
    }
}

/// Returns whether a slot has a list whose text has gone.
fn is_without_text(slot: &Option<List>) -> bool {
    slot.as_ref().is_some_and(|list| list.text.is_none())
}

/// Returns where the list for an open file is.
fn position(slots: &[Option<List>], reader: OpenFile) -> Option<usize> {
    slots
        .iter()
        .position(|slot| slot.as_ref().is_some_and(|list| list.reader == reader))
}

/// Moves the slot at `index` to the front.
fn use_slot(slots: &mut [Option<List>], index: usize) {
    if let Some(recent) = slots.get_mut(..=index) {
        recent.rotate_right(1);
    }
}
