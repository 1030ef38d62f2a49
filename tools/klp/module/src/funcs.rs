// SPDX-License-Identifier: GPL-2.0

//! Which functions a patch replaces: in modules that klp-build made, two sections list them.

use std::collections::HashMap;

use object::{
    read::elf::ElfFile64, Endianness, Object, ObjectSection, ObjectSymbol, RelocationTarget,
    SectionIndex,
};

/// The kernel's `struct klp_object_ext` on 64-bit machines: its size, and where its fields are.
const OBJECT_SIZE: u64 = 64;
const OBJECT_NAME: u64 = 0;
const OBJECT_FUNCS: u64 = 8;
const OBJECT_NR_FUNCS: usize = 56;

/// The same of `struct klp_func_ext`.
const FUNC_SIZE: u64 = 24;
const FUNC_OLD_NAME: u64 = 0;

/// The list of objects.
pub(crate) const OBJECTS: &str = ".init.klp_objects";
const FUNCS: &str = ".init.klp_funcs";

/// The most functions that are read. Nobody replaces so many, but a file may have the same list
/// again and again.
const MOST: usize = 65_536;
/// The kernel takes no names that are as long as that.
const NAME_LIMIT: usize = 512;

type File<'a> = ElfFile64<'a, Endianness>;

/// Where the pointers of a section point to, by their places.
type Pointers = HashMap<u64, (SectionIndex, u64)>;

/// The functions that the module in `data` replaces, each with its object.
///
/// # Errors
///
/// What is wrong with the lists, in words.
pub(crate) fn replaced(data: &[u8]) -> Result<Vec<(String, String)>, String> {
    let file = File::parse(data).map_err(|error| error.to_string())?;
    let objects = file.section_by_name(OBJECTS).ok_or("no list of objects")?;
    let contents = objects.data().map_err(|error| error.to_string())?;
    let of_objects = pointers(&file, OBJECTS);
    let of_funcs = pointers(&file, FUNCS);
    let funcs = file.section_by_name(FUNCS).map(|section| section.index());
    let mut replaced = vec![];
    for (index, object) in contents.chunks_exact(OBJECT_SIZE as usize).enumerate() {
        let start = index as u64 * OBJECT_SIZE;
        let name = match of_objects.get(&(start + OBJECT_NAME)) {
            Some(place) => string(&file, *place).ok_or("an object's name is not in the file")?,
            // No pointer: the kernel itself.
            None => "vmlinux".into(),
        };
        let (section, first) = of_objects
            .get(&(start + OBJECT_FUNCS))
            .ok_or_else(|| format!("{name} has no functions"))?;
        let count = u32::from_le_bytes(
            object[OBJECT_NR_FUNCS..OBJECT_NR_FUNCS + 4]
                .try_into()
                .unwrap_or_default(),
        );
        for number in 0..u64::from(count) {
            if replaced.len() == MOST {
                return Err(format!("it replaces more than {MOST} functions"));
            }
            let func = number
                .checked_mul(FUNC_SIZE)
                .and_then(|offset| first.checked_add(offset + FUNC_OLD_NAME))
                .filter(|_| Some(*section) == funcs)
                .and_then(|offset| of_funcs.get(&offset))
                .and_then(|place| string(&file, *place))
                .ok_or_else(|| format!("the functions of {name} are not in the file"))?;
            replaced.push((name.clone(), func));
        }
    }
    Ok(replaced)
}

/// Where the pointers of a section point to: sections, and offsets in them.
fn pointers(file: &File<'_>, section: &str) -> Pointers {
    let section = file.section_by_name(section);
    let relocations = section.iter().flat_map(|section| section.relocations());
    let mut pointers = Pointers::new();
    for (place, relocation) in relocations {
        let RelocationTarget::Symbol(index) = relocation.target() else {
            continue;
        };
        let target = file.symbol_by_index(index).ok().and_then(|symbol| {
            let offset = symbol.address().checked_add_signed(relocation.addend())?;
            Some((symbol.section_index()?, offset))
        });
        if let Some(target) = target {
            pointers.entry(place).or_insert(target);
        }
    }
    pointers
}

/// The string at a place, if it may be a name.
fn string(file: &File<'_>, (section, offset): (SectionIndex, u64)) -> Option<String> {
    let data = file.section_by_index(section).ok()?.data().ok()?;
    let text = data.get(usize::try_from(offset).ok()?..)?;
    let text = text.get(..NAME_LIMIT).unwrap_or(text);
    let text = &text[..text.iter().position(|byte| *byte == 0)?];
    String::from_utf8(text.to_vec()).ok()
}
