// SPDX-License-Identifier: GPL-2.0

//! `/sys/kernel/livepatch`.
//!
//! ```text
//! /sys/kernel/livepatch
//! /sys/kernel/livepatch/<patch>
//! /sys/kernel/livepatch/<patch>/blockers         0400
//! /sys/kernel/livepatch/<patch>/direct           0644
//! /sys/kernel/livepatch/<patch>/enabled          0644
//! /sys/kernel/livepatch/<patch>/force            0200
//! /sys/kernel/livepatch/<patch>/remaining        0444
//! /sys/kernel/livepatch/<patch>/replace          0444
//! /sys/kernel/livepatch/<patch>/stack_order      0444
//! /sys/kernel/livepatch/<patch>/transition       0444
//! /sys/kernel/livepatch/<patch>/<object>
//! /sys/kernel/livepatch/<patch>/<object>/patched 0444
//! /sys/kernel/livepatch/<patch>/<object>/<function>,<position>
//! ```
//!
//! The interface is described in `Documentation/ABI/testing/sysfs-kernel-livepatch`, but for what
//! the built-in core does not have:
//!
//! ## `remaining`
//!
//! How many tasks have not switched yet, as a decimal number; `0` if and only if `transition` is
//! `0`. Before any task is asked to switch, while the callbacks of the patch run, these are all.
//! Idle tasks count, one for each CPU. What a pass over the tasks has found, at least once a
//! second, is exact at that moment; in between, tasks that switch themselves are subtracted, and
//! those that are forked or exit are not accounted for ([`transition::remaining`]).
//!
//! ## `blockers`
//!
//! These tasks, one in a line of four fields with tabs between them; empty if the patch is not in
//! transition. A table does not follow the rule of one value in a file. It is here nevertheless,
//! and not in debugfs, because it belongs to what the directory of a patch says of a transition,
//! and tools need it on every machine: debugfs may not be there, and promises no interface.
//!
//! Only those may read who had `CAP_SYS_ADMIN` in the initial user namespace when they opened the
//! file, as with `/proc/<pid>/stack`, since it is made of stacks; `EACCES` otherwise.
//!
//! ```text
//! TID     kthread|user    REASON                  COMM
//!
//! 2       kthread         not tried               kthreadd
//! 1234    user            sleeping in FUNCTION    cat
//! ```
//!
//! * `TID`: the thread's ID in the initial PID namespace; 0 for idle tasks, which come last. Lines
//!   are in the order of the IDs, unless a thread gets another by `exec()` meanwhile.
//! * `REASON`, at the moment the list was made:
//!   * `running`: it runs on a CPU.
//!   * `sleeping in FUNCTION`: it sleeps, or waits for a CPU, in this function, which the patch
//!     changes: in the code that it is to leave.
//!   * `unreliable stack`: it is not known what it runs, and it may be one of the functions.
//!   * `not tried`: nothing is known to be in the way, the next pass may switch it; or there are no
//!     reliable stacks on this architecture.
//!   * `unknown ERRNO`: the scheduler did not let us look, a negative number.
//! * `COMM`: the thread's name. Control characters and backslashes are written as a backslash and
//!   three octal digits.
//!
//! The list is made by the read at the start of the file; what an open file reads after that is the
//! rest of the same list, whatever happens meanwhile. A read elsewhere fails with `ESTALE` if there
//! is none: nothing was read at the start, as with `pread()` at an offset in a file that was just
//! opened, the end has been read, or too many others have read the file since
//! ([`mod@crate::blockers`]). `ENOMEM` if there was no memory for it.
//!
//! ## `direct`
//!
//! Whether calls of functions may jump to the code of the patch, where that is what runs, while no
//! transition that has the function is under way: `1` or `0`. At first `1` if the module parameter
//! `direct` is, and there can be jumps ([`mod@crate::ops`] says where there are none). After a
//! write of `1`, calls jump a second or two later or, if a transition is under way, after it;
//! `EOPNOTSUPP` if the module parameter is `0`, or the kernel has no jumps. After a write of `0`,
//! calls that jumped to the code of the patch go through handlers, and a direct call of somebody
//! else can be attached; those that jump to the code of a patch above it still do. If there are
//! any: `EBUSY` if somebody who changes the instruction pointer is in the way, `ENODEV` if ftrace
//! is dead, `ENOMEM`; nothing has changed then.
//!
//! ## Polling
//!
//! `transition`, `enabled` and `remaining` of a patch can be polled (`POLLPRI`, after a read from
//! the start, as with all files of sysfs): they wake whoever waits when a transition starts, turns
//! round, is complete or has failed to start, and when another patch has replaced this one;
//! `remaining` also when a pass has found another number. `transition` becomes `1` before the
//! callbacks `pre_patch` and `pre_unpatch`, but who polls is woken after them, when the tasks have
//! been asked to switch. The directory of a patch that was disabled, replaced or has failed to
//! start goes soon after that, and reads fail with `ENODEV`; nobody is woken then.
//!
//! # Contexts and concurrency
//!
//! The files' functions run in process context at any time while the directory exists. Reading
//! `direct`, `enabled`, `transition`, `remaining`, `replace`, `patched` and `blockers` does not
//! take the registry lock, so it works while a transition holds it. The other functions take it; so
//! a patch's directory is never removed under it. Removing the directory waits for those who are
//! reading. But for the lists of `blockers`, nothing is kept here: files show what the model of the
//! patch shares with them.
//!
//! Those who poll are woken in process context, under the registry lock: kernfs finds the file
//! under its own lock, under which it calls none of our functions.
//!
//! This module and [`mod@crate::registry`] need each other: the files of a patch act on the
//! registry, and the registry makes the directories. A table of functions in between would only
//! hide it.

use crate::{
    blockers,
    kapi::kobject::{
        kobj_type,
        Directory,
        Kobject,
        OpenFile,
        Page,
        Parent,
        Part, //
    },
    object::ObjectStatus,
    patch::PatchStatus,
    registry, transition,
};
use kernel::{
    prelude::*,
    str::kstrtobool,
    sync::{
        Arc,
        Completion, //
    },
};

/// The root directory of the core.
pub(crate) struct RootDirectory;

impl Directory for RootDirectory {
    kobj_type!(RootDirectory);
}

impl RootDirectory {
    /// Adds the root to sysfs.
    ///
    /// # Errors
    ///
    /// The errors of [`Kobject::add`].
    pub(crate) fn add_to_sysfs(root: &mut Kobject<Self>) -> Result {
        root.add(Parent::kernel(), fmt!("livepatch"))
    }
}

/// The directory of a patch.
pub(crate) struct PatchDirectory {
    status: Arc<PatchStatus>,
    blockers: Pin<KBox<blockers::Lists>>,
    released: Arc<Completion>,
}

/// The files of a patch that can be polled.
const ENABLED: &CStr = c"enabled";
const TRANSITION: &CStr = c"transition";
const REMAINING: &CStr = c"remaining";

impl PatchDirectory {
    /// Shows `status`; `released` is completed when the directory and all below it are gone.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(status: Arc<PatchStatus>, released: Arc<Completion>) -> Result<Self> {
        Ok(Self {
            status,
            blockers: KBox::pin_init(blockers::Lists::new(), GFP_KERNEL)?,
            released,
        })
    }

    /// Wakes those who poll where the patch is going. May sleep.
    pub(crate) fn notify_transition(directory: &Kobject<Self>) {
        [TRANSITION, ENABLED, REMAINING]
            .iter()
            .for_each(|file| directory.notify(file));
    }

    /// Wakes those who poll the number of tasks that are left. May sleep.
    pub(crate) fn notify_remaining(directory: &Kobject<Self>) {
        directory.notify(REMAINING);
    }

    fn show_enabled(&self, page: &Page) -> Result<usize> {
        Ok(page.emit(fmt!("{}\n", u8::from(self.status.is_enabled()))))
    }

    fn store_enabled(&self, text: &CStr) -> Result {
        registry::set_enabled(self.status.id(), kstrtobool(text)?)
    }

    fn show_direct(&self, page: &Page) -> Result<usize> {
        Ok(page.emit(fmt!("{}\n", u8::from(self.status.may_jump()))))
    }

    fn store_direct(&self, text: &CStr) -> Result {
        registry::set_may_jump(self.status.id(), kstrtobool(text)?)
    }

    fn show_transition(&self, page: &Page) -> Result<usize> {
        Ok(page.emit(fmt!("{}\n", u8::from(transition::is_of(self.status.id())))))
    }

    fn show_remaining(&self, page: &Page) -> Result<usize> {
        Ok(page.emit(fmt!("{}\n", transition::remaining(self.status.id()))))
    }

    fn read_blockers(&self, file: OpenFile, offset: usize, part: &mut Part) -> Result<usize> {
        self.blockers.read(self.status.id(), file, offset, part)
    }

    fn store_force(&self, text: &CStr) -> Result {
        if kstrtobool(text)? {
            registry::force(self.status.id())
        } else {
            Ok(())
        }
    }

    fn show_replace(&self, page: &Page) -> Result<usize> {
        Ok(page.emit(fmt!("{}\n", u8::from(self.status.replace()))))
    }

    fn show_stack_order(&self, page: &Page) -> Result<usize> {
        Ok(page.emit(fmt!("{}\n", registry::stack_order(self.status.id()))))
    }
}

impl Directory for PatchDirectory {
    kobj_type!(PatchDirectory:
        Attribute::read_write(
            ENABLED,
            PatchDirectory::show_enabled,
            PatchDirectory::store_enabled,
        ),
        Attribute::read_write(
            c"direct",
            PatchDirectory::show_direct,
            PatchDirectory::store_direct,
        ),
        Attribute::read_only(TRANSITION, PatchDirectory::show_transition),
        Attribute::read_only(REMAINING, PatchDirectory::show_remaining),
        Attribute::write_only(c"force", PatchDirectory::store_force),
        Attribute::read_only(c"replace", PatchDirectory::show_replace),
        Attribute::read_only(c"stack_order", PatchDirectory::show_stack_order);
        BinAttribute::admin_only(c"blockers", PatchDirectory::read_blockers)
    );

    fn released(&self) {
        self.released.complete_all();
    }
}

/// The directory of an object.
pub(crate) struct ObjectDirectory {
    status: Arc<ObjectStatus>,
}

impl ObjectDirectory {
    /// Makes the directory that shows `status`.
    pub(crate) fn new(status: Arc<ObjectStatus>) -> Self {
        Self { status }
    }

    fn show_patched(&self, page: &Page) -> Result<usize> {
        Ok(page.emit(fmt!("{}\n", u8::from(self.status.is_patched()))))
    }
}

impl Directory for ObjectDirectory {
    kobj_type!(ObjectDirectory: Attribute::read_only(c"patched", ObjectDirectory::show_patched));
}

/// The directory of a function, which is empty: its name is what it shows.
pub(crate) struct FuncDirectory;

impl Directory for FuncDirectory {
    kobj_type!(FuncDirectory);
}
