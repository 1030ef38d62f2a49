// SPDX-License-Identifier: GPL-2.0

//! Descriptions in a patch module: `struct klp_patch`, `klp_object`, `klp_func`, `klp_state`.
//!
//! They live in the patch module's memory. The core reads the fields that the module filled in,
//! keeps those current that modules read, and hands the same pointers to callbacks; nothing of the
//! core's own is kept there.
//!
//! # How long they exist
//!
//! A patch module may allocate them and free them in its exit function, as klp-build's do. As a
//! rule that runs when the core is done with the patch. But when a module is unloaded by force, it
//! runs with the patch in force, and the core is told after it, by `klp_module_going()`; the same
//! if an init function enables the patch, frees it when the transition is over, and fails, which
//! goes well if nothing else has the core look at the patch in between. So the core copies what it
//! needs when it gets the patch ([`CheckedPatch`]).
//!
//! What remains, which is to keep fields current and to call callbacks, is done through handles:
//! [`PatchDescriptor`], [`ObjectDescriptor`] and [`FuncDescriptor`]. A handle leads to its
//! structure only while `module_mutex` is held ([`ModulesLocked`]) and the module is not going, so
//! that the exit function has not begun to run. Of a module that goes, nothing is written to and no
//! callback is called any more.
//!
//! A callback itself runs without `module_mutex`: if the module is unloaded by force meanwhile, its
//! own exit function is what the callback has to get on with.
//!
//! There is one handle for each structure; whoever has it mutably is the one that writes to it.
//!
//! # Which fields are kept current
//!
//! Of the fields that the C core keeps for itself,
//!
//! * these are kept current: `enabled` and `forced` of a patch, `mod` and `patched` of an object,
//!   `old_func`, `old_size`, `new_size` and `patched` of a function;
//! * `obj_list` and `func_list` hold what the module describes, so that `klp_for_each_object()` and
//!   `klp_for_each_func()` work; but not the functions that only go back to their original code,
//!   which the C core adds to them;
//! * `list` of a patch is empty, since the core's list of patches is its own;
//! * `kobj`, `stack_node`, `nop`, `dynamic`, `transition`, `free_work` and `finish` stay zeroes.
//!
//! `post_unpatch_enabled` of the callbacks is the core's own, as in the C core.
//!
//! C header: [`include/linux/livepatch.h`](srctree/include/linux/livepatch.h)
//!
//! # Contexts
//!
//! Process context. Handles belong to the model of a patch, which the registry lock protects.

use crate::{
    bindings,
    kapi::module::{
        ModulePtr,
        ModulesLocked,
        State, //
    }, //
};
use core::{
    cell::UnsafeCell,
    mem::MaybeUninit,
    ptr::NonNull, //
};
use kernel::{
    error::to_result,
    prelude::*, //
};

/// The address of code that may be called in place of a kernel function.
///
/// # Invariants
///
/// Not 0. A function with the prototype of the one that it stands for, in memory that stays as long
/// as the module is loaded which it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryPoint(usize);

impl EntryPoint {
    /// Wraps an address, `None` for 0.
    ///
    /// # Safety
    ///
    /// The type's invariants must hold for an address that is not 0.
    pub(crate) unsafe fn from_raw(address: usize) -> Option<Self> {
        // INVARIANT: Not 0; the rest holds by the safety requirements.
        (address != 0).then_some(Self(address))
    }

    /// The address of the code.
    pub(crate) fn address(self) -> usize {
        self.0
    }
}

/// A `struct klp_patch` as a patch module passed it.
///
/// # Invariants
///
/// The structure and all that it points to are as the C header demands, and exist as long as the
/// value.
#[derive(Clone, Copy)]
pub(crate) struct UncheckedPatch(NonNull<bindings::klp_patch>);

/// A `struct klp_patch` that is complete, and is being passed by its module.
///
/// # Invariants
///
/// As for [`UncheckedPatch`]; `mod` is `module`, `objs` is not null, nor is `funcs` of an object or
/// `old_name` of a function. The module frees nothing of it before it is going.
pub(crate) struct CheckedPatch {
    raw: UncheckedPatch,
    module: ModulePtr,
    states: KVec<StateDescriptor>,
}

/// A structure of the patch module `module`, which it may have freed when it is going.
///
/// # Invariants
///
/// The structure exists and is as the C header demands while the module is not going.
struct Handle<T> {
    raw: NonNull<T>,
    module: ModulePtr,
}

/// The handle of a `struct klp_patch`, and its system states.
pub(crate) struct PatchDescriptor {
    handle: Handle<bindings::klp_patch>,
    states: KVec<StateDescriptor>,
}

/// The handle of a `struct klp_object`.
pub(crate) struct ObjectDescriptor {
    handle: Handle<bindings::klp_object>,
    /// Whether it must not be patched before a callback agrees.
    has_pre_patch: bool,
}

/// The handle of a `struct klp_func`.
pub(crate) struct FuncDescriptor(Handle<bindings::klp_func>);

/// An object of a patch that is being passed.
pub(crate) struct NewObject<'a> {
    /// The name of the module, `None` for vmlinux.
    pub(crate) name: Option<&'a CStr>,
    /// The handle of the object.
    pub(crate) descriptor: ObjectDescriptor,
}

/// A function of a patch that is being passed.
pub(crate) struct NewFunc<'a> {
    /// The name of the function to be patched.
    pub(crate) old_name: &'a CStr,
    /// Which symbol of the name is meant; 0 if there is only one.
    pub(crate) sympos: usize,
    /// The replacement, `None` if the module gave none.
    pub(crate) new_func: Option<EntryPoint>,
    /// The handle of the function.
    pub(crate) descriptor: FuncDescriptor,
}

/// A copy of a `struct klp_state`, which may have gone since.
#[derive(Clone, Copy)]
pub(crate) struct StateDescriptor {
    raw: NonNull<bindings::klp_state>,
    id: usize,
    version: u32,
}

/// The handle of a `struct klp_state` of an installed patch, and a copy of it, for callbacks of
/// other patches that may ask for it when the module has freed it.
///
/// # Invariants
///
/// While `is_saved`, `copy` has a value.
pub(crate) struct SavedState {
    handle: Handle<bindings::klp_state>,
    id: usize,
    is_saved: bool,
    copy: UnsafeCell<MaybeUninit<bindings::klp_state>>,
}

// SAFETY: A shared one gives out no more than addresses.
unsafe impl Sync for SavedState {}
// SAFETY: The pointer in the copy is only what the module has put there.
unsafe impl Send for SavedState {}
// SAFETY: The structure is not bound to a thread.
unsafe impl<T> Send for Handle<T> {}
// SAFETY: A shared handle gives out no more than an address.
unsafe impl<T> Sync for Handle<T> {}
// SAFETY: The structure is not bound to a thread.
unsafe impl Send for StateDescriptor {}
// SAFETY: Identifier and version are copies, and of the structure no more than the address is used.
unsafe impl Sync for StateDescriptor {}

impl<T> Handle<T> {
    /// The structure, `None` if its module is going. It exists as long as `_locked`.
    fn get(&self, _locked: &ModulesLocked) -> Option<*mut T> {
        (self.module.state() != State::Going).then_some(self.raw.as_ptr())
    }
}

/// The string at `name`, `None` for null.
///
/// # Safety
///
/// `name` must be null or point to a NUL-terminated string that exists for `'a`.
unsafe fn string<'a>(name: *const kernel::ffi::c_char) -> Option<&'a CStr> {
    // SAFETY: It is not null, and a string by the safety requirements.
    (!name.is_null()).then(|| unsafe { CStr::from_char_ptr(name) })
}

/// The entries of an array of C structures up to the one that ends it.
///
/// # Safety
///
/// `first` must be an entry of an array that exists as long as the result, and be or be followed by
/// one for which `is_end` is true. `is_end` must be callable with any entry of such an array.
unsafe fn entries<T>(
    first: NonNull<T>,
    is_end: unsafe fn(NonNull<T>) -> bool,
) -> impl Iterator<Item = NonNull<T>> {
    let mut next = first;
    core::iter::from_fn(move || {
        // SAFETY: The entry exists: it is the first one, or all before it were not the last.
        if unsafe { is_end(next) } {
            return None;
        }
        // SAFETY: This entry is not the last one, so another follows in the array, by the safety
        // requirements.
        let after = unsafe { next.add(1) };
        Some(core::mem::replace(&mut next, after))
    })
}

/// Makes `head` an empty list.
///
/// # Safety
///
/// `head` must be valid for writes and not be on a list.
unsafe fn init_list(head: *mut bindings::list_head) {
    // SAFETY: It is valid for writes, by the safety requirements.
    unsafe { (*head).next = head };
    // SAFETY: It is valid for writes, by the safety requirements.
    unsafe { (*head).prev = head };
}

/// Appends `node` to the list at `head`.
///
/// # Safety
///
/// `head` must be an initialised list that nobody else uses meanwhile, and `node` be valid for
/// writes and not be on a list.
unsafe fn append(node: *mut bindings::list_head, head: *mut bindings::list_head) {
    // SAFETY: The head is initialised, by the safety requirements.
    let last = unsafe { (*head).prev };
    // SAFETY: The node is valid for writes, by the safety requirements.
    unsafe { (*node).next = head };
    // SAFETY: The node is valid for writes, by the safety requirements.
    unsafe { (*node).prev = last };
    // SAFETY: The last entry of the list, or its head, is valid for writes as long as it is on it.
    unsafe { (*last).next = node };
    // SAFETY: The head is initialised, by the safety requirements.
    unsafe { (*head).prev = node };
}

impl UncheckedPatch {
    /// Wraps what C passed, `None` for null.
    ///
    /// # Safety
    ///
    /// `patch` must be null or point to a structure for which the type's invariants hold.
    pub(crate) unsafe fn from_raw(patch: *mut bindings::klp_patch) -> Option<Self> {
        // INVARIANT: By the safety requirements.
        NonNull::new(patch).map(Self)
    }

    fn as_ptr(self) -> *mut bindings::klp_patch {
        self.0.as_ptr()
    }

    /// Checks that the description is complete.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the module or the list of objects is missing, an object has no list of functions
    /// or a function no name; `ENOMEM`.
    #[doc(alias = "klp_check_patch")]
    pub(crate) fn check(self) -> Result<CheckedPatch> {
        // SAFETY: The structure exists by the type's invariants.
        let module = unsafe { (*self.as_ptr()).mod_ };
        // SAFETY: The module runs its init function, and is not freed before that has returned.
        let module = unsafe { ModulePtr::from_raw(module) }.ok_or(EINVAL)?;
        // SAFETY: The structure exists by the type's invariants.
        let first = NonNull::new(unsafe { (*self.as_ptr()).objs }).ok_or(EINVAL)?;
        // SAFETY: `first` is the array of the patch, which ends as the C header demands.
        for object in unsafe { entries(first, ObjectDescriptor::is_end) } {
            // SAFETY: The entry exists by the type's invariants.
            let first = NonNull::new(unsafe { (*object.as_ptr()).funcs }).ok_or(EINVAL)?;
            // SAFETY: `first` is the array of the object, which ends as the C header demands.
            for func in unsafe { entries(first, FuncDescriptor::is_end) } {
                // SAFETY: The entry exists by the type's invariants.
                if unsafe { (*func.as_ptr()).old_name }.is_null() {
                    return Err(EINVAL);
                }
            }
        }
        let mut states = KVec::new();
        for state in self.states() {
            states.push(state, GFP_KERNEL)?;
        }
        // INVARIANT: Just checked. What passes a patch is the init function of its module, which
        // frees nothing as long as the patch is in force and the module is not going.
        Ok(CheckedPatch {
            raw: self,
            module,
            states,
        })
    }

    /// The system states that the patch changes.
    pub(crate) fn states(self) -> impl Iterator<Item = StateDescriptor> {
        // SAFETY: The structure exists by the type's invariants.
        let first = NonNull::new(unsafe { (*self.as_ptr()).states });
        first.into_iter().flat_map(|first| {
            // SAFETY: `first` is the array of the patch, which ends with an entry without an
            // identifier, as the C header demands.
            unsafe { entries(first, StateDescriptor::is_end) }.map(|state| StateDescriptor {
                raw: state,
                // SAFETY: The entry exists by the type's invariants.
                id: unsafe { (*state.as_ptr()).id },
                // SAFETY: The entry exists by the type's invariants.
                version: unsafe { (*state.as_ptr()).version },
            })
        })
    }
}

impl CheckedPatch {
    fn as_ptr(&self) -> *mut bindings::klp_patch {
        self.raw.as_ptr()
    }

    /// The patch module.
    pub(crate) fn module(&self) -> ModulePtr {
        self.module
    }

    /// Whether it replaces all other patches.
    pub(crate) fn replace(&self) -> bool {
        // SAFETY: The structure exists by the type's invariants.
        unsafe { (*self.as_ptr()).replace }
    }

    /// The system states that the patch changes.
    pub(crate) fn states(&self) -> &[StateDescriptor] {
        &self.states
    }

    /// Initialises the lists of the structures and calls `f` for each object and its functions.
    ///
    /// The handles that `f` gets are the only ones, and the result is that of the patch.
    ///
    /// # Errors
    ///
    /// The first one of `f`.
    pub(crate) fn into_descriptor(
        self,
        mut f: impl FnMut(NewObject<'_>, &mut dyn Iterator<Item = NewFunc<'_>>) -> Result,
    ) -> Result<PatchDescriptor> {
        let patch = self.as_ptr();
        // SAFETY: The structure exists by the type's invariants.
        let objects = unsafe { &raw mut (*patch).obj_list };
        // SAFETY: Nothing is on a list yet; the structure is valid for writes.
        unsafe { init_list(objects) };
        // SAFETY: The structure exists by the type's invariants.
        let list = unsafe { &raw mut (*patch).list };
        // SAFETY: Nothing is on a list yet; the structure is valid for writes.
        unsafe { init_list(list) };
        // SAFETY: The structure exists by the type's invariants.
        let first = NonNull::new(unsafe { (*patch).objs }).ok_or(EINVAL)?;
        // SAFETY: `first` is the array of the patch, which ends as the C header demands.
        for object in unsafe { entries(first, ObjectDescriptor::is_end) } {
            // SAFETY: The entry exists by the type's invariants.
            let node = unsafe { &raw mut (*object.as_ptr()).node };
            // SAFETY: The list was initialised above, and nothing else knows of it yet.
            unsafe { append(node, objects) };
            // SAFETY: The entry exists by the type's invariants.
            let funcs = unsafe { &raw mut (*object.as_ptr()).func_list };
            // SAFETY: Nothing is on a list yet; the entry is valid for writes.
            unsafe { init_list(funcs) };
            // SAFETY: The entry exists by the type's invariants.
            let first = NonNull::new(unsafe { (*object.as_ptr()).funcs }).ok_or(EINVAL)?;
            // SAFETY: `first` is the array of the object, which ends as the C header demands.
            let mut new_funcs = unsafe { entries(first, FuncDescriptor::is_end) }.map(|func| {
                // SAFETY: The entry exists by the type's invariants.
                let node = unsafe { &raw mut (*func.as_ptr()).node };
                // SAFETY: The list was initialised above, and nothing else knows of it yet.
                unsafe { append(node, funcs) };
                // SAFETY: The entry exists by the type's invariants.
                unsafe { NewFunc::from_raw(func, self.module) }
            });
            // SAFETY: The entry exists by the type's invariants.
            let new_object = unsafe { NewObject::from_raw(object, self.module) };
            f(new_object, &mut new_funcs)?;
        }
        // INVARIANT: A module that passes a patch frees nothing of it before it is going.
        Ok(PatchDescriptor {
            handle: Handle {
                raw: self.raw.0,
                module: self.module,
            },
            states: self.states,
        })
    }
}

impl NewObject<'_> {
    /// Reads what `object` describes, an object of the patch of `module`.
    ///
    /// # Safety
    ///
    /// The object must be part of a [`CheckedPatch`] that exists as long as the result.
    unsafe fn from_raw(object: NonNull<bindings::klp_object>, module: ModulePtr) -> Self {
        // SAFETY: The structure exists by the safety requirements.
        let name = unsafe { (*object.as_ptr()).name };
        Self {
            // SAFETY: The strings of a patch exist as long as it does.
            name: unsafe { string(name) },
            // INVARIANT: Part of a patch whose module frees nothing of it before it is going.
            descriptor: ObjectDescriptor {
                handle: Handle {
                    raw: object,
                    module,
                },
                // SAFETY: The structure exists by the safety requirements.
                has_pre_patch: unsafe { (*object.as_ptr()).callbacks.pre_patch.is_some() },
            },
        }
    }
}

impl NewFunc<'_> {
    /// Reads what `func` describes, a function of the patch of `module`.
    ///
    /// # Safety
    ///
    /// The function must be part of a [`CheckedPatch`] that exists as long as the result.
    unsafe fn from_raw(func: NonNull<bindings::klp_func>, module: ModulePtr) -> Self {
        // SAFETY: The structure exists by the safety requirements.
        let name = unsafe { (*func.as_ptr()).old_name };
        // SAFETY: The structure exists by the safety requirements.
        let address = unsafe { (*func.as_ptr()).new_func };
        Self {
            // SAFETY: Not null in a complete patch, so a string of it, which exists as long as it
            // does.
            old_name: unsafe { CStr::from_char_ptr(name) },
            // SAFETY: The structure exists by the safety requirements.
            sympos: unsafe { (*func.as_ptr()).old_sympos },
            // SAFETY: That it can stand for the function is what the C header demands of the
            // module.
            new_func: unsafe { EntryPoint::from_raw(address as usize) },
            // INVARIANT: Part of a patch whose module frees nothing of it before it is going.
            descriptor: FuncDescriptor(Handle { raw: func, module }),
        }
    }
}

impl PatchDescriptor {
    /// The patch module.
    pub(crate) fn module(&self) -> ModulePtr {
        self.handle.module
    }

    /// The system states that the patch changes.
    pub(crate) fn states(&self) -> &[StateDescriptor] {
        &self.states
    }

    /// The system states that the patch changes, to be kept for patches that come after it.
    pub(crate) fn saved_states(&self) -> impl Iterator<Item = SavedState> + '_ {
        self.states.iter().map(|state| SavedState {
            // INVARIANT: Part of the patch, whose module frees nothing of it before it is going.
            handle: Handle {
                raw: state.raw,
                module: self.handle.module,
            },
            id: state.id,
            is_saved: false,
            copy: UnsafeCell::new(MaybeUninit::uninit()),
        })
    }

    /// Keeps `enabled` current.
    pub(crate) fn set_enabled(&mut self, enabled: bool) {
        let locked = ModulesLocked::new();
        if let Some(patch) = self.handle.get(&locked) {
            // SAFETY: The structure exists while the modules are locked, and only this handle
            // writes to it.
            unsafe { (*patch).enabled = enabled };
        }
    }

    /// Keeps `forced` current.
    pub(crate) fn set_forced(&mut self) {
        let locked = ModulesLocked::new();
        if let Some(patch) = self.handle.get(&locked) {
            // SAFETY: The structure exists while the modules are locked, and only this handle
            // writes to it.
            unsafe { (*patch).forced = true };
        }
    }
}

impl StateDescriptor {
    /// Whether an entry is the one that ends the array.
    ///
    /// # Safety
    ///
    /// `entry` must exist.
    unsafe fn is_end(entry: NonNull<bindings::klp_state>) -> bool {
        // SAFETY: The entry exists by the safety requirements.
        unsafe { (*entry.as_ptr()).id == 0 }
    }

    /// The C structure.
    pub(crate) fn as_ptr(self) -> *mut bindings::klp_state {
        self.raw.as_ptr()
    }

    /// The identifier of the state.
    pub(crate) fn id(self) -> usize {
        self.id
    }

    /// The version of the change.
    pub(crate) fn version(self) -> u32 {
        self.version
    }
}

impl SavedState {
    /// The identifier of the state.
    pub(crate) fn id(&self) -> usize {
        self.id
    }

    /// Copies what the structure has now, unless the module is going.
    pub(crate) fn save(&mut self, locked: &ModulesLocked) {
        let state = self.handle.get(locked);
        self.is_saved = state.is_some();
        if let Some(state) = state {
            // SAFETY: The structure exists while the modules are locked.
            self.copy.get_mut().write(unsafe { state.read() });
        }
    }

    /// The structure; the copy, which exists as long as this, if the module is going; or null if it
    /// was going when this was saved.
    pub(crate) fn as_ptr(&self) -> *mut bindings::klp_state {
        if !self.is_saved {
            core::ptr::null_mut()
        } else if self.handle.module.state() == State::Going {
            self.copy.get().cast()
        } else {
            self.handle.raw.as_ptr()
        }
    }
}

impl ObjectDescriptor {
    /// Whether an entry is the one that ends the array.
    ///
    /// # Safety
    ///
    /// `entry` must exist.
    unsafe fn is_end(entry: NonNull<bindings::klp_object>) -> bool {
        // SAFETY: The entry exists by the safety requirements.
        let name = unsafe { (*entry.as_ptr()).name };
        // SAFETY: The entry exists by the safety requirements.
        let funcs = unsafe { (*entry.as_ptr()).funcs };
        name.is_null() && funcs.is_null()
    }

    /// Keeps `mod` current.
    pub(crate) fn set_module(&mut self, module: Option<ModulePtr>) {
        let module = module.map_or(core::ptr::null_mut(), ModulePtr::as_ptr);
        let locked = ModulesLocked::new();
        if let Some(object) = self.handle.get(&locked) {
            // SAFETY: The structure exists while the modules are locked, and only this handle
            // writes to it.
            unsafe { (*object).mod_ = module };
        }
    }

    /// Keeps `patched` current.
    pub(crate) fn set_patched(&mut self, patched: bool, locked: &ModulesLocked) {
        if let Some(object) = self.handle.get(locked) {
            // SAFETY: The structure exists while the modules are locked, and only this handle
            // writes to it.
            unsafe { (*object).patched = patched };
        }
    }

    /// The callbacks and what they are called with; `None` if the module is going.
    ///
    /// A callback that is there is a function of the module, and may be called under the registry
    /// lock: the module is not freed before it has gone through `klp_module_going()`, which waits
    /// for that. If the module starts to go meanwhile, by force, the argument is what its own exit
    /// function makes of it.
    fn callbacks(&self) -> Option<(bindings::klp_callbacks, *mut bindings::klp_object)> {
        let locked = ModulesLocked::new();
        let object = self.handle.get(&locked)?;
        // SAFETY: The structure exists while the modules are locked; only the address is taken.
        let callbacks = unsafe { &raw const (*object).callbacks };
        // SAFETY: The structure exists while the modules are locked, and function pointers may be
        // copied.
        Some((unsafe { callbacks.read() }, object))
    }

    /// Calls `pre_patch`. From here on `post_unpatch` will be called, unless this fails.
    ///
    /// # Errors
    ///
    /// The errno that the callback returned; `EINVAL` if it is none. `ENODEV` if there is one, and
    /// the module is going: a module that comes meanwhile is not patched without its consent.
    pub(crate) fn pre_patch(&mut self) -> Result {
        let Some((callbacks, object)) = self.callbacks() else {
            return if self.has_pre_patch {
                Err(ENODEV)
            } else {
                Ok(())
            };
        };
        let result = match callbacks.pre_patch {
            // SAFETY: The module's function, called as it expects: in process context, with its own
            // object.
            Some(callback) => match unsafe { callback(object) } {
                0 => Ok(()),
                // Whatever is not 0 is a failure; a positive value is no errno.
                errno => to_result(errno).and(Err(EINVAL)),
            },
            None => Ok(()),
        };
        self.set_post_unpatch_enabled(result.is_ok());
        result
    }

    /// Calls `post_patch`, if there is one.
    pub(crate) fn post_patch(&mut self) {
        let Some((callbacks, object)) = self.callbacks() else {
            return;
        };
        if let Some(callback) = callbacks.post_patch {
            // SAFETY: The module's function, called as it expects: in process context, with its own
            // object.
            unsafe { callback(object) };
        }
    }

    /// Calls `pre_unpatch`, if there is one.
    pub(crate) fn pre_unpatch(&mut self) {
        let Some((callbacks, object)) = self.callbacks() else {
            return;
        };
        if let Some(callback) = callbacks.pre_unpatch {
            // SAFETY: The module's function, called as it expects: in process context, with its own
            // object.
            unsafe { callback(object) };
        }
    }

    /// Calls `post_unpatch`, if `pre_patch` succeeded.
    pub(crate) fn post_unpatch(&mut self) {
        let Some((callbacks, object)) = self.callbacks() else {
            return;
        };
        if let (true, Some(callback)) = (callbacks.post_unpatch_enabled, callbacks.post_unpatch) {
            // SAFETY: The module's function, called as it expects: in process context, with its own
            // object.
            unsafe { callback(object) };
        }
        self.set_post_unpatch_enabled(false);
    }

    fn set_post_unpatch_enabled(&mut self, enabled: bool) {
        let locked = ModulesLocked::new();
        if let Some(object) = self.handle.get(&locked) {
            // SAFETY: The structure exists while the modules are locked, and only this handle
            // writes to it.
            unsafe { (*object).callbacks.post_unpatch_enabled = enabled };
        }
    }
}

impl FuncDescriptor {
    /// Whether an entry is the one that ends the array.
    ///
    /// # Safety
    ///
    /// `entry` must exist.
    unsafe fn is_end(entry: NonNull<bindings::klp_func>) -> bool {
        // SAFETY: The entry exists by the safety requirements.
        let name = unsafe { (*entry.as_ptr()).old_name };
        // SAFETY: The entry exists by the safety requirements.
        let replacement = unsafe { (*entry.as_ptr()).new_func };
        // SAFETY: The entry exists by the safety requirements.
        let sympos = unsafe { (*entry.as_ptr()).old_sympos };
        name.is_null() && replacement.is_null() && sympos == 0
    }

    /// Keeps `old_func` and `old_size` current.
    pub(crate) fn set_old(&mut self, address: usize, size: usize, locked: &ModulesLocked) {
        if let Some(func) = self.0.get(locked) {
            // SAFETY: The structure exists while the modules are locked, and only this handle
            // writes to it.
            unsafe { (*func).old_func = address as *mut _ };
            // SAFETY: The structure exists while the modules are locked, and only this handle
            // writes to it.
            unsafe { (*func).old_size = size };
        }
    }

    /// Keeps `new_size` current.
    pub(crate) fn set_new_size(&mut self, size: usize, locked: &ModulesLocked) {
        if let Some(func) = self.0.get(locked) {
            // SAFETY: The structure exists while the modules are locked, and only this handle
            // writes to it.
            unsafe { (*func).new_size = size };
        }
    }

    /// Keeps `patched` current.
    pub(crate) fn set_patched(&mut self, patched: bool, locked: &ModulesLocked) {
        if let Some(func) = self.0.get(locked) {
            // SAFETY: The structure exists while the modules are locked, and only this handle
            // writes to it.
            unsafe { (*func).patched = patched };
        }
    }
}
