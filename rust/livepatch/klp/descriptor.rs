// SPDX-License-Identifier: GPL-2.0

//! Descriptions in a patch module: `struct klp_patch`, `klp_object`, `klp_func`, `klp_state`.
//!
//! They live in the patch module's memory. The core reads the fields that the module filled in,
//! keeps those current that modules read, and hands the same pointers to callbacks; nothing of the
//! core's own is kept there. [`UncheckedPatch::check`] makes handles of the raw structures, one for
//! each; whoever has a handle mutably is the one that writes to its structure.
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
//! C header: [`include/linux/livepatch.h`](srctree/include/linux/livepatch.h)
//!
//! # Contexts
//!
//! Process context. Handles belong to the model of a patch, which the registry lock protects.

use crate::{
    bindings,
    kapi::module::ModulePtr, //
};
use core::ptr::NonNull;
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
/// The structure and all that it points to are as the C header demands, and exist until the patch
/// module has gone through `klp_module_going()`, which waits until the core is done with the patch.
#[derive(Clone, Copy)]
pub(crate) struct UncheckedPatch(NonNull<bindings::klp_patch>);

/// A `struct klp_patch` that is complete.
///
/// # Invariants
///
/// As for [`UncheckedPatch`]; `mod` is `module` and `objs` is not null.
pub(crate) struct PatchDescriptor {
    raw: UncheckedPatch,
    module: ModulePtr,
}

/// A `struct klp_object` of a complete patch.
///
/// # Invariants
///
/// As for [`PatchDescriptor`].
pub(crate) struct ObjectDescriptor(NonNull<bindings::klp_object>);

/// A `struct klp_func` of a complete patch.
///
/// # Invariants
///
/// As for [`PatchDescriptor`]; `old_name` is not null.
pub(crate) struct FuncDescriptor(NonNull<bindings::klp_func>);

/// A `struct klp_state` of a patch.
///
/// # Invariants
///
/// As for [`UncheckedPatch`].
#[derive(Clone, Copy)]
pub(crate) struct StateDescriptor(NonNull<bindings::klp_state>);

// SAFETY: The structure is not bound to a thread.
unsafe impl Send for PatchDescriptor {}
// SAFETY: What a shared handle reads is written by the module only, before it passes the patch.
unsafe impl Sync for PatchDescriptor {}
// SAFETY: The structure is not bound to a thread.
unsafe impl Send for ObjectDescriptor {}
// SAFETY: The structure is not bound to a thread.
unsafe impl Send for FuncDescriptor {}
// SAFETY: Identifier and version never change, and nothing else is read.
unsafe impl Send for StateDescriptor {}
// SAFETY: Identifier and version never change, and nothing else is read.
unsafe impl Sync for StateDescriptor {}

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
    /// or a function no name.
    #[doc(alias = "klp_check_patch")]
    pub(crate) fn check(self) -> Result<PatchDescriptor> {
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
        // INVARIANT: Just checked.
        Ok(PatchDescriptor { raw: self, module })
    }

    /// The system states that the patch changes.
    pub(crate) fn states(self) -> impl Iterator<Item = StateDescriptor> {
        // SAFETY: The structure exists by the type's invariants.
        let first = NonNull::new(unsafe { (*self.as_ptr()).states });
        first.into_iter().flat_map(|first| {
            // SAFETY: `first` is the array of the patch, which ends with an entry without an
            // identifier, as the C header demands.
            unsafe { entries(first, StateDescriptor::is_end) }.map(StateDescriptor)
        })
    }
}

impl PatchDescriptor {
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
    pub(crate) fn states(&self) -> impl Iterator<Item = StateDescriptor> {
        self.raw.states()
    }

    /// Initialises the lists of the structures and calls `f` for each object and its functions.
    ///
    /// To be called once: the handles that `f` gets are the only ones.
    ///
    /// # Errors
    ///
    /// The first one of `f`.
    pub(crate) fn for_each_object(
        &mut self,
        mut f: impl FnMut(ObjectDescriptor, &mut dyn Iterator<Item = FuncDescriptor>) -> Result,
    ) -> Result {
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
        let Some(first) = NonNull::new(unsafe { (*patch).objs }) else {
            return Ok(());
        };
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
            let Some(first) = NonNull::new(unsafe { (*object.as_ptr()).funcs }) else {
                continue;
            };
            // SAFETY: `first` is the array of the object, which ends as the C header demands.
            let mut handles = unsafe { entries(first, FuncDescriptor::is_end) }.map(|func| {
                // SAFETY: The entry exists by the type's invariants.
                let node = unsafe { &raw mut (*func.as_ptr()).node };
                // SAFETY: The list was initialised above, and nothing else knows of it yet.
                unsafe { append(node, funcs) };
                FuncDescriptor(func)
            });
            f(ObjectDescriptor(object), &mut handles)?;
        }
        Ok(())
    }

    /// Keeps `enabled` current.
    pub(crate) fn set_enabled(&mut self, enabled: bool) {
        // SAFETY: The structure exists by the type's invariants, and only this handle writes to it.
        unsafe { (*self.as_ptr()).enabled = enabled };
    }

    /// Keeps `forced` current.
    pub(crate) fn set_forced(&mut self) {
        // SAFETY: The structure exists by the type's invariants, and only this handle writes to it.
        unsafe { (*self.as_ptr()).forced = true };
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
        self.0.as_ptr()
    }

    /// The identifier of the state.
    pub(crate) fn id(self) -> usize {
        // SAFETY: The structure exists by the type's invariants.
        unsafe { (*self.as_ptr()).id }
    }

    /// The version of the change.
    pub(crate) fn version(self) -> u32 {
        // SAFETY: The structure exists by the type's invariants.
        unsafe { (*self.as_ptr()).version }
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

    fn as_ptr(&self) -> *mut bindings::klp_object {
        self.0.as_ptr()
    }

    /// The name of the module, `None` for vmlinux.
    pub(crate) fn name(&self) -> Option<&CStr> {
        // SAFETY: The structure exists by the type's invariants.
        let name = unsafe { (*self.as_ptr()).name };
        // SAFETY: The strings of the patch exist as long as the structure.
        unsafe { string(name) }
    }

    /// Keeps `mod` current.
    pub(crate) fn set_module(&mut self, module: Option<ModulePtr>) {
        let module = module.map_or(core::ptr::null_mut(), ModulePtr::as_ptr);
        // SAFETY: The structure exists by the type's invariants, and only this handle writes to it.
        unsafe { (*self.as_ptr()).mod_ = module };
    }

    /// Keeps `patched` current.
    pub(crate) fn set_patched(&mut self, patched: bool) {
        // SAFETY: The structure exists by the type's invariants, and only this handle writes to it.
        unsafe { (*self.as_ptr()).patched = patched };
    }

    fn callbacks(&self) -> *mut bindings::klp_callbacks {
        // SAFETY: The structure exists by the type's invariants.
        unsafe { &raw mut (*self.as_ptr()).callbacks }
    }

    /// Calls `pre_patch`. From here on `post_unpatch` will be called, unless this fails.
    ///
    /// # Errors
    ///
    /// The errno that the callback returned; `EINVAL` if it is none.
    pub(crate) fn pre_patch(&mut self) -> Result {
        // SAFETY: The structure exists by the type's invariants.
        let callback = unsafe { (*self.callbacks()).pre_patch };
        let result = match callback {
            // SAFETY: The module's function, called as it expects: in process context, with its own
            // object.
            Some(callback) => match unsafe { callback(self.as_ptr()) } {
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
        // SAFETY: The structure exists by the type's invariants.
        if let Some(callback) = unsafe { (*self.callbacks()).post_patch } {
            // SAFETY: The module's function, called as it expects: in process context, with its own
            // object.
            unsafe { callback(self.as_ptr()) };
        }
    }

    /// Calls `pre_unpatch`, if there is one.
    pub(crate) fn pre_unpatch(&mut self) {
        // SAFETY: The structure exists by the type's invariants.
        if let Some(callback) = unsafe { (*self.callbacks()).pre_unpatch } {
            // SAFETY: The module's function, called as it expects: in process context, with its own
            // object.
            unsafe { callback(self.as_ptr()) };
        }
    }

    /// Calls `post_unpatch`, if `pre_patch` succeeded.
    pub(crate) fn post_unpatch(&mut self) {
        // SAFETY: The structure exists by the type's invariants.
        let enabled = unsafe { (*self.callbacks()).post_unpatch_enabled };
        // SAFETY: The structure exists by the type's invariants.
        let callback = unsafe { (*self.callbacks()).post_unpatch };
        if let (true, Some(callback)) = (enabled, callback) {
            // SAFETY: The module's function, called as it expects: in process context, with its own
            // object.
            unsafe { callback(self.as_ptr()) };
        }
        self.set_post_unpatch_enabled(false);
    }

    fn set_post_unpatch_enabled(&mut self, enabled: bool) {
        // SAFETY: The structure exists by the type's invariants, and only this handle writes to it.
        unsafe { (*self.callbacks()).post_unpatch_enabled = enabled };
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

    fn as_ptr(&self) -> *mut bindings::klp_func {
        self.0.as_ptr()
    }

    /// The name of the function to be patched.
    pub(crate) fn old_name(&self) -> &CStr {
        // SAFETY: The structure exists by the type's invariants.
        let name = unsafe { (*self.as_ptr()).old_name };
        // SAFETY: Not null by the type's invariants, so a string of the patch, which exists as long
        // as the structure.
        unsafe { CStr::from_char_ptr(name) }
    }

    /// The replacement, `None` if the module gave none.
    pub(crate) fn new_func(&self) -> Option<EntryPoint> {
        // SAFETY: The structure exists by the type's invariants.
        let address = unsafe { (*self.as_ptr()).new_func };
        // SAFETY: That it can stand for the function is what the C header demands of the module.
        unsafe { EntryPoint::from_raw(address as usize) }
    }

    /// Which symbol of the name is meant; 0 if there is only one.
    pub(crate) fn sympos(&self) -> usize {
        // SAFETY: The structure exists by the type's invariants.
        unsafe { (*self.as_ptr()).old_sympos }
    }

    /// Keeps `old_func` and `old_size` current.
    pub(crate) fn set_old(&mut self, address: usize, size: usize) {
        // SAFETY: The structure exists by the type's invariants, and only this handle writes to it.
        unsafe { (*self.as_ptr()).old_func = address as *mut _ };
        // SAFETY: The structure exists by the type's invariants, and only this handle writes to it.
        unsafe { (*self.as_ptr()).old_size = size };
    }

    /// Keeps `new_size` current.
    pub(crate) fn set_new_size(&mut self, size: usize) {
        // SAFETY: The structure exists by the type's invariants, and only this handle writes to it.
        unsafe { (*self.as_ptr()).new_size = size };
    }

    /// Keeps `patched` current.
    pub(crate) fn set_patched(&mut self, patched: bool) {
        // SAFETY: The structure exists by the type's invariants, and only this handle writes to it.
        unsafe { (*self.as_ptr()).patched = patched };
    }
}
