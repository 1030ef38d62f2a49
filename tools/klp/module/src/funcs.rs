// SPDX-License-Identifier: GPL-2.0

//! Which functions a patch replaces: in modules that klp-build made, two sections list them.

use object::{
    read::elf::ElfFile64, Endianness, Object, ObjectSection, ObjectSymbol, RelocationTarget,
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

type File<'a> = ElfFile64<'a, Endianness>;

/// The functions that the module in `data` replaces, each with its object.
///
/// # Errors
///
/// What is wrong with the lists, in words.
pub(crate) fn replaced(data: &[u8]) -> Result<Vec<(String, String)>, String> {
    let file = File::parse(data).map_err(|error| error.to_string())?;
    let objects = file.section_by_name(OBJECTS).ok_or("no list of objects")?;
    let contents = objects.data().map_err(|error| error.to_string())?;
    let mut replaced = vec![];
    for (index, object) in contents.chunks_exact(OBJECT_SIZE as usize).enumerate() {
        let start = index as u64 * OBJECT_SIZE;
        let name = match target(&file, OBJECTS, start + OBJECT_NAME) {
            Some((section, offset)) => {
                string(&file, &section, offset).ok_or("an object's name is not in the file")?
            }
            // No pointer: the kernel itself.
            None => "vmlinux".into(),
        };
        let (section, first) = target(&file, OBJECTS, start + OBJECT_FUNCS)
            .ok_or_else(|| format!("{name} has no functions"))?;
        let count = u32::from_le_bytes(
            object[OBJECT_NR_FUNCS..OBJECT_NR_FUNCS + 4]
                .try_into()
                .unwrap_or_default(),
        );
        for number in 0..u64::from(count) {
            let func = number
                .checked_mul(FUNC_SIZE)
                .and_then(|offset| first.checked_add(offset + FUNC_OLD_NAME))
                .filter(|_| section == FUNCS)
                .and_then(|offset| target(&file, FUNCS, offset))
                .and_then(|(section, offset)| string(&file, &section, offset))
                .ok_or_else(|| format!("the functions of {name} are not in the file"))?;
            replaced.push((name.clone(), func));
        }
    }
    Ok(replaced)
}

/// Where the pointer at `offset` in a section points to: a section's name, and an offset in it.
fn target(file: &File<'_>, section: &str, offset: u64) -> Option<(String, u64)> {
    let (_, relocation) = file
        .section_by_name(section)?
        .relocations()
        .find(|(place, _)| *place == offset)?;
    let RelocationTarget::Symbol(index) = relocation.target() else {
        return None;
    };
    let symbol = file.symbol_by_index(index).ok()?;
    let section = file.section_by_index(symbol.section_index()?).ok()?;
    let offset = symbol.address().checked_add_signed(relocation.addend())?;
    Some((section.name().ok()?.into(), offset))
}

/// The string at `offset` in a section.
fn string(file: &File<'_>, section: &str, offset: u64) -> Option<String> {
    let data = file.section_by_name(section)?.data().ok()?;
    let text = data.get(usize::try_from(offset).ok()?..)?;
    let text = &text[..text.iter().position(|byte| *byte == 0)?];
    String::from_utf8(text.to_vec()).ok()
}
