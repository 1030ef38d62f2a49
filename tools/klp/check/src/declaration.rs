// SPDX-License-Identifier: GPL-2.0

//! What a patch module declares to the core: objects, functions and states.
//!
//! The file has them in one of three shapes:
//!
//! | shape | made by | where |
//! | --- | --- | --- |
//! | static | C, `rust/klp` | `struct klp_patch`, `klp_object` and `klp_func`, in data |
//! | external | klp-build | `struct klp_object_ext` in `.init.klp_objects`, `struct klp_func_ext` |
//! | kpatch | kpatch-build | `struct kpatch_patch_func` in `.kpatch.funcs` |
//!
//! An object for which kpatch-build has found nothing but a callback is only in the sections
//! `.kpatch.callbacks.*`.
//!
//! A static declaration is found by its first field, the pointer to the module itself, and followed
//! along its pointers, which are relocations in a file. The sizes of its entries depend on the
//! kernel's configuration: they are taken from the kernel's type information, or else follow from where a
//! list's relocations are.

use std::collections::{BTreeSet, HashMap};

use ::object::elf;

use crate::file::{File, Place};

/// The sizes of the entries of lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of a `struct klp_func`.
    pub func: u64,
    /// Bytes of a `struct klp_object`.
    pub object: u64,
}

/// Who made the module, as far as the declaration tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Lists in static data, of a patch written in C or Rust.
    Static,
    /// The lists of klp-build.
    External,
    /// The list of kpatch-build.
    Kpatch,
}

/// What a patch module declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    /// How it does so.
    pub shape: Shape,
    /// The objects whose functions it replaces.
    pub objects: Vec<Object>,
    /// Whether it replaces all older patches; [`None`] if code decides that.
    pub replace: Option<bool>,
    /// The states that it changes; [`None`] if the file does not tell.
    pub states: Option<Vec<State>>,
    /// The sizes of entries that the lists of a static declaration have, if they tell.
    pub sizes: Option<Layout>,
    /// Whether code of the module refers to the lists, and so may change them before the core gets
    /// them.
    pub touched: bool,
}

/// An object: the kernel, or a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The name of a module; [`None`] for the kernel itself.
    pub name: Option<String>,
    /// Its functions; [`None`] if the list is missing.
    pub funcs: Option<Vec<Func>>,
    /// The kinds of callbacks of which it has more than one, such as `pre_patch`: only the list of
    /// kpatch-build can have them, and the code that reads it refuses that.
    pub repeated: BTreeSet<&'static str>,
}

impl Object {
    /// Its name, `vmlinux` for the kernel itself.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or("vmlinux")
    }
}

/// A function that is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Func {
    /// Its name; [`None`] if it is missing.
    pub name: Option<String>,
    /// Which one of its name in the object, from 1; 0 if there must be only one.
    pub position: u64,
    /// What takes its place; [`None`] if that is missing.
    pub replacement: Option<Replacement>,
    /// Its address in the kernel that the patch was made for, if the patch tells it.
    pub made_for: Option<u64>,
}

/// What takes the place of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement {
    /// Its name in the module, or that of a function of another object.
    pub name: Option<String>,
    /// Whether it is in code of the module that stays.
    pub is_code: bool,
}

/// A state of the system that the patch changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Which state.
    pub id: u64,
    /// The version of the change.
    pub version: u64,
}

/// Reads the declaration of the module in `file`.
///
/// # Errors
///
/// Why it cannot be read, in words.
pub(crate) fn read(file: &File<'_>, layout: Option<Layout>) -> Result<Declaration, String> {
    if let Some(section) = file.section(".init.klp_objects") {
        return external(file, section);
    }
    if let Some(section) = file.section(".kpatch.funcs") {
        return kpatch(file, section);
    }
    let mut found = candidates(file);
    let first = found.next().ok_or(
        "no static struct klp_patch is in the file: code fills it in when the module runs",
    )?;
    if found.next().is_some() {
        return Err("more than one struct klp_patch is in the file".into());
    }
    fixed(file, first, layout)
}

/// The fields of `struct klp_patch` that a module sets.
mod patch {
    pub(super) const MODULE: u64 = 0;
    pub(super) const OBJECTS: u64 = 8;
    pub(super) const STATES: u64 = 16;
    pub(super) const REPLACE: u64 = 24;
}

/// Those of `struct klp_object`, and of `struct klp_object_ext`.
mod object {
    pub(super) const NAME: u64 = 0;
    pub(super) const FUNCS: u64 = 8;
    /// The last one of four callbacks.
    pub(super) const LAST: u64 = 40;
    pub(super) const EXTERNAL_COUNT: u64 = 56;
    pub(super) const EXTERNAL_SIZE: u64 = 64;
}

/// Those of `struct klp_func`, and of `struct klp_func_ext`.
mod func {
    pub(super) const NAME: u64 = 0;
    pub(super) const REPLACEMENT: u64 = 8;
    pub(super) const POSITION: u64 = 16;
    pub(super) const EXTERNAL_SIZE: u64 = 24;
}

/// Those of kpatch's `struct kpatch_patch_func`.
mod kpatch_func {
    pub(super) const REPLACEMENT: u64 = 0;
    pub(super) const ADDRESS: u64 = 16;
    pub(super) const POSITION: u64 = 32;
    pub(super) const NAME: u64 = 40;
    pub(super) const OBJECT: u64 = 48;
    pub(super) const SIZE: u64 = 56;
}

/// Those of kpatch's `struct kpatch_pre_patch_callback` and its kin.
mod kpatch_callback {
    pub(super) const FUNCTION: u64 = 0;
    pub(super) const OBJECT: u64 = 8;
    pub(super) const SIZE: u64 = 16;
}

/// The kinds of callbacks, each of which kpatch has a section for.
const CALLBACKS: [&str; 4] = ["pre_patch", "post_patch", "pre_unpatch", "post_unpatch"];

/// Those of `struct klp_state`.
mod state {
    pub(super) const ID: u64 = 0;
    pub(super) const VERSION: u64 = 8;
    pub(super) const SIZE: u64 = 24;
}

/// Smaller than any entry, whose kobject and list heads alone have so many bytes.
const LEAST_ENTRY: u64 = 128;

/// The places of what looks like a `struct klp_patch`: a pointer to the module, and one to data
/// that points on.
fn candidates<'a>(file: &'a File<'_>) -> impl Iterator<Item = Place> + 'a {
    let data = file.sections.iter().enumerate().filter(|(_, section)| {
        section.is_loaded() && !section.is_code() && section.name != ".gnu.linkonce.this_module"
    });
    data.flat_map(move |(section, _)| {
        file.relocs(section).iter().filter_map(move |reloc| {
            let symbol = &file.symbols[reloc.symbol];
            if symbol.name != "__this_module" || reloc.addend != 0 {
                return None;
            }
            let place = Place {
                section,
                offset: reloc.offset.checked_sub(patch::MODULE)?,
            };
            let objects = file.pointer(place.plus(patch::OBJECTS)?)?;
            let target = file.sections.get(objects.section)?;
            let funcs = file.pointer(objects.plus(object::FUNCS)?)?;
            let list = file.sections.get(funcs.section)?;
            (!target.is_code() && !list.is_code()).then_some(place)
        })
    })
}

fn fixed(file: &File<'_>, place: Place, layout: Option<Layout>) -> Result<Declaration, String> {
    let cut = || "struct klp_patch is cut off".to_owned();
    let at = |offset| place.plus(offset).ok_or_else(cut);
    let at_objects = at(patch::OBJECTS)?;
    let objects = file.pointer(at_objects).ok_or_else(cut)?;
    let object_size = entry_size(file, objects, object::LAST, layout.map(|l| l.object))
        .ok_or("the size of struct klp_object is not known: name the kernel's type information")?;
    let mut func_size = None;
    let mut list = vec![];
    let mut lists = vec![objects];
    let mut left = MOST;
    for entry in entries(file, objects, object_size)? {
        let pointer = |offset| entry.plus(offset).and_then(|place| file.pointer(place));
        let name = match pointer(object::NAME) {
            Some(name) => Some(
                file.string(name)
                    .ok_or("the name of an object is not in the file")?,
            ),
            None => None,
        };
        let funcs = pointer(object::FUNCS);
        if name.is_none() && funcs.is_none() {
            break;
        }
        let funcs = match funcs {
            // A list that begins with its last entry does not tell the size, and needs none.
            Some(funcs) if is_end(&fixed_func(file, funcs)?) => Some(vec![]),
            Some(funcs) => {
                lists.push(funcs);
                let size = entry_size(file, funcs, func::POSITION, layout.map(|l| l.func)).ok_or(
                    "the size of struct klp_func is not known: name the kernel's type information",
                )?;
                func_size = Some(size);
                Some(fixed_funcs(file, funcs, size, &mut left)?)
            }
            None => None,
        };
        count(&mut left)?;
        list.push(Object {
            name,
            funcs,
            repeated: BTreeSet::new(),
        });
    }
    let touched = Touched::by_code(file);
    let states = match file.pointer(at(patch::STATES)?) {
        Some(states) => fixed_states(file, states)?,
        None => vec![],
    };
    Ok(Declaration {
        shape: Shape::Static,
        objects: list,
        // Code that refers to a field of the patch behind the first one may set this one.
        replace: file
            .number::<1>(at(patch::REPLACE)?)
            .map(|flag| flag != 0)
            .filter(|_| !touched.has(at_objects, patch::REPLACE)),
        states: Some(states),
        sizes: func_size.map(|func| Layout {
            func,
            object: object_size,
        }),
        touched: lists
            .iter()
            .any(|list| touched.has(*list, data_size(file, *list))),
    })
}

/// The most objects and functions of a patch that are read. Nobody declares so many, but a file may
/// have the same list again and again.
const MOST: usize = 65_536;

/// Counts an object or a function.
fn count(left: &mut usize) -> Result<(), String> {
    *left = left
        .checked_sub(1)
        .ok_or_else(|| format!("it has more than {MOST} objects and functions"))?;
    Ok(())
}

/// The places that code may refer to.
struct Touched(BTreeSet<Place>);

impl Touched {
    fn by_code(file: &File<'_>) -> Self {
        let code = file.sections.iter().enumerate();
        let code = code.filter(|(_, section)| section.is_code());
        let relocs = code.flat_map(|(index, _)| file.relocs(index));
        let mut places = BTreeSet::new();
        for reloc in relocs {
            // A distance is counted from the end of the instruction: after itself, and a number
            // that may follow it.
            let behind: &[u64] = match reloc.kind {
                elf::R_X86_64_PC32 | elf::R_X86_64_PLT32 => &[4, 5, 6, 8],
                _ => &[0],
            };
            if let Some(Place { section, offset }) = file.referent_of_code(reloc) {
                places.extend(behind.iter().map(|bytes| Place {
                    section,
                    offset: offset.wrapping_add(*bytes),
                }));
            }
        }
        Self(places)
    }

    /// Whether one of `size` bytes from a place on is among them.
    fn has(&self, start: Place, size: u64) -> bool {
        let end = Place {
            section: start.section,
            offset: start.offset.saturating_add(size),
        };
        self.0.range(start..end).next().is_some()
    }
}

/// The bytes of the data that begins at a place.
fn data_size(file: &File<'_>, place: Place) -> u64 {
    file.symbol_at(place).map_or(1, |symbol| symbol.size.max(1))
}

/// The entries of a list up to the end of its section.
fn entries(
    file: &File<'_>,
    start: Place,
    size: u64,
) -> Result<impl Iterator<Item = Place>, String> {
    let section = file
        .sections
        .get(start.section)
        .ok_or("a list is in no section")?;
    let count = section.size.saturating_sub(start.offset) / size.max(1);
    // Nobody declares so many, but a file may say that a section is as large as the memory.
    let count = count.min(section.data.len() as u64 / size.max(1) + 1);
    Ok((0..count).map_while(move |number| start.plus(number.checked_mul(size)?)))
}

fn fixed_funcs(
    file: &File<'_>,
    start: Place,
    size: u64,
    left: &mut usize,
) -> Result<Vec<Func>, String> {
    let mut funcs = vec![];
    for entry in entries(file, start, size)? {
        let func = fixed_func(file, entry)?;
        if is_end(&func) {
            return Ok(funcs);
        }
        count(left)?;
        funcs.push(func);
    }
    Err("a list of functions has no end".into())
}

fn fixed_func(file: &File<'_>, entry: Place) -> Result<Func, String> {
    func_at(file, entry, func::NAME, func::REPLACEMENT, func::POSITION)
}

/// Whether an entry is the one at the end of a list, as the core sees it.
fn is_end(func: &Func) -> bool {
    func.name.is_none() && func.replacement.is_none() && func.position == 0
}

fn func_at(
    file: &File<'_>,
    entry: Place,
    name: u64,
    replacement: u64,
    position: u64,
) -> Result<Func, String> {
    let at = |offset| entry.plus(offset).ok_or("a list of functions is cut off");
    let name = match file.pointer(at(name)?) {
        Some(name) => Some(
            file.string(name)
                .ok_or("the name of a function is not in the file")?,
        ),
        None => None,
    };
    Ok(Func {
        name,
        position: file
            .number::<8>(at(position)?)
            .ok_or("a list of functions is cut off")?,
        replacement: file.reloc_at(at(replacement)?).map(|reloc| {
            match file.referent(reloc) {
                Some(place) => Replacement {
                    name: file.symbol_at(place).map(|symbol| symbol.name.to_string()),
                    is_code: file
                        .sections
                        .get(place.section)
                        .is_some_and(|section| section.is_code() && !section.is_init()),
                },
                // A function of another object, such as the same one for all of its kind.
                None => Replacement {
                    name: Some(file.symbols[reloc.symbol].name.to_string()),
                    is_code: true,
                },
            }
        }),
        made_for: None,
    })
}

fn fixed_states(file: &File<'_>, start: Place) -> Result<Vec<State>, String> {
    let mut states = vec![];
    for entry in entries(file, start, state::SIZE)? {
        let number = |offset| entry.plus(offset);
        let id = number(state::ID).and_then(|place| file.number::<8>(place));
        let version = number(state::VERSION).and_then(|place| file.number::<4>(place));
        match (id, version) {
            (Some(0), _) => return Ok(states),
            (Some(id), Some(version)) => states.push(State { id, version }),
            _ => break,
        }
    }
    Err("the list of states has no end".into())
}

/// The size of the entries of a list, of which the module sets fields up to `last`: `known`, unless
/// where the relocations of the list are tells otherwise.
fn entry_size(file: &File<'_>, start: Place, last: u64, known: Option<u64>) -> Option<u64> {
    let Some(symbol) = file.data_at(start) else {
        return known;
    };
    if known.is_some() && has_redzones(file) {
        return known;
    }
    let fits = |size: u64| {
        size >= LEAST_ENTRY
            && size % 8 == 0
            && symbol.size % size == 0
            && symbol.size / size >= 2
            && file
                .relocs_in(start, symbol.size)
                .iter()
                .all(|reloc| (reloc.offset - start.offset) % size <= last)
            // All entries but the last one have a pointer.
            && (0..symbol.size / size).all(|number| {
                let entry = start.plus(number * size);
                let used = entry.is_some_and(|entry| !file.relocs_in(entry, size).is_empty());
                used == (number + 1 < symbol.size / size)
            })
    };
    if let Some(known) = known.filter(|size| fits(*size)) {
        return Some(known);
    }
    let most = (symbol.size / LEAST_ENTRY).min(MOST_ENTRIES);
    let mut sizes = (2..=most)
        .filter(|count| symbol.size % count == 0)
        .map(|count| symbol.size / count)
        .filter(|size| fits(*size));
    match (sizes.next(), sizes.next()) {
        (Some(size), None) => Some(size),
        _ => known,
    }
}

/// Whether the module is for a kernel with KASAN, for which Clang makes data larger than what is in
/// it.
fn has_redzones(file: &File<'_>) -> bool {
    let mut symbols = file.symbols.iter();
    symbols.any(|symbol| symbol.name == "__asan_register_globals")
}

/// A list of more entries is not searched for their size.
const MOST_ENTRIES: u64 = 4096;

fn external(file: &File<'_>, section: usize) -> Result<Declaration, String> {
    let start = Place { section, offset: 0 };
    let mut objects = vec![];
    let mut left = MOST;
    for entry in entries(file, start, object::EXTERNAL_SIZE)? {
        let at = |offset| entry.plus(offset).ok_or("the list of objects is cut off");
        let name = match file.pointer(at(object::NAME)?) {
            Some(name) => Some(
                file.string(name)
                    .ok_or("the name of an object is not in the file")?,
            ),
            None => None,
        };
        let Some(length) = file.number::<4>(at(object::EXTERNAL_COUNT)?) else {
            break;
        };
        count(&mut left)?;
        let funcs = match file.pointer(at(object::FUNCS)?) {
            Some(first) => {
                let mut funcs = vec![];
                let mut rest = entries(file, first, func::EXTERNAL_SIZE)?;
                for _ in 0..length {
                    count(&mut left)?;
                    let entry = rest.next().ok_or("a list of functions is cut off")?;
                    funcs.push(func_at(
                        file,
                        entry,
                        func::NAME,
                        func::REPLACEMENT,
                        func::POSITION,
                    )?);
                }
                Some(funcs)
            }
            None => None,
        };
        objects.push(Object {
            name,
            funcs,
            repeated: BTreeSet::new(),
        });
    }
    Ok(Declaration {
        shape: Shape::External,
        objects,
        // The module's code decides, by how it was compiled.
        replace: None,
        // That code has no states.
        states: Some(vec![]),
        sizes: None,
        touched: false,
    })
}

/// The objects that kpatch's code makes of its lists when the module runs.
#[derive(Default)]
struct KpatchObjects {
    objects: Vec<Object>,
    known: HashMap<String, usize>,
}

impl KpatchObjects {
    /// The object whose name the pointer at a place points to, which is added if it is a new one.
    fn at(&mut self, file: &File<'_>, place: Option<Place>) -> Result<&mut Object, String> {
        let name = place
            .and_then(|place| file.pointer(place))
            .and_then(|name| file.string(name))
            .ok_or("the name of an object is not in the file")?;
        let index = match self.known.get(&name) {
            Some(index) => *index,
            None => {
                self.known.insert(name.clone(), self.objects.len());
                self.objects.push(Object {
                    name: (name != "vmlinux").then_some(name),
                    funcs: Some(vec![]),
                    repeated: BTreeSet::new(),
                });
                self.objects.len() - 1
            }
        };
        Ok(&mut self.objects[index])
    }
}

fn kpatch(file: &File<'_>, section: usize) -> Result<Declaration, String> {
    let start = Place { section, offset: 0 };
    let mut all = KpatchObjects::default();
    let mut left = MOST;
    for entry in entries(file, start, kpatch_func::SIZE)? {
        if entry.offset.saturating_add(kpatch_func::SIZE) > file.sections[section].size {
            break;
        }
        let mut func = func_at(
            file,
            entry,
            kpatch_func::NAME,
            kpatch_func::REPLACEMENT,
            kpatch_func::POSITION,
        )?;
        count(&mut left)?;
        let object = all.at(file, entry.plus(kpatch_func::OBJECT))?;
        // That of a module's function is a place in the module's file.
        if object.name.is_none() {
            let address = entry.plus(kpatch_func::ADDRESS);
            let address = address.and_then(|place| file.number::<8>(place));
            func.made_for = address.filter(|address| *address != 0);
        }
        object.funcs.get_or_insert_default().push(func);
    }
    for kind in CALLBACKS {
        kpatch_callbacks(file, kind, &mut all, &mut left)?;
    }
    Ok(Declaration {
        shape: Shape::Kpatch,
        objects: all.objects,
        // The module's code decides, by how it was compiled.
        replace: None,
        // That code has no states.
        states: Some(vec![]),
        sizes: None,
        touched: false,
    })
}

/// Adds the objects that have callbacks of a kind, perhaps nothing else.
fn kpatch_callbacks(
    file: &File<'_>,
    kind: &'static str,
    all: &mut KpatchObjects,
    left: &mut usize,
) -> Result<(), String> {
    let Some(section) = file.section(&format!(".kpatch.callbacks.{kind}")) else {
        return Ok(());
    };
    let mut seen = BTreeSet::new();
    for entry in entries(file, Place { section, offset: 0 }, kpatch_callback::SIZE)? {
        // The linker script puts zeros behind the last one.
        let function = entry.plus(kpatch_callback::FUNCTION);
        if function.is_none_or(|place| file.reloc_at(place).is_none()) {
            break;
        }
        count(left)?;
        let object = all.at(file, entry.plus(kpatch_callback::OBJECT))?;
        if !seen.insert(object.name.clone()) {
            object.repeated.insert(kind);
        }
    }
    Ok(())
}
