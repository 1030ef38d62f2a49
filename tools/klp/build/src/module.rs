// SPDX-License-Identifier: GPL-2.0

//! Linking a patch module, as the kernel's klp-build does.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    error::{in_file, Result},
    kernel::Kernel,
    tools::Tools,
    tree::Tree,
};

/// The longest name of a module (`MODULE_NAME_LEN` without the final NUL).
const NAME_LENGTH: usize = 55;

/// The name of the module that is made from these patches, as the kernel's klp-build chooses it.
pub(crate) fn name(patches: &[PathBuf], output: Option<&Path>) -> String {
    let stem = |path: &Path| {
        path.file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let name = match (output, patches) {
        (Some(output), _) => stem(output),
        (None, [patch]) => format!("livepatch-{}", stem(patch)),
        (None, _) => "livepatch-patch".into(),
    };
    let valid = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-');
    let name = name
        .chars()
        .map(|char| if valid(char) { char } else { '-' });
    name.take(NAME_LENGTH).collect()
}

/// Links the module `name` from object files, by their paths in the build directory. The result is
/// its file.
pub(crate) fn link(
    tools: &Tools,
    kernel: &Kernel,
    tree: &Tree,
    work: &Path,
    name: &str,
    objects: &[(String, PathBuf)],
    replace: bool,
) -> Result<PathBuf> {
    let directory = work.join("module");
    fs::create_dir_all(&directory).map_err(in_file(&directory))?;
    let write = |file: &str, contents: &str| {
        let path = directory.join(file);
        fs::write(&path, contents).map_err(in_file(&path))
    };
    let init = kernel.source.join("scripts/livepatch/init.c");
    fs::copy(&init, directory.join("init.c")).map_err(in_file(&init))?;
    let mut list = String::from("init.o");
    for (path, file) in objects {
        let target = directory.join(path);
        let parent = target.parent().unwrap_or(&directory);
        fs::create_dir_all(parent).map_err(in_file(parent))?;
        // The build system makes an object that comes with the source out of this file.
        for copy in [path.clone(), format!("{path}_shipped")] {
            fs::copy(file, directory.join(copy)).map_err(in_file(file))?;
        }
        // modpost reads from which source each object is.
        let command = match path.rsplit_once('/') {
            Some((parent, name)) => format!("{parent}/.{name}.cmd"),
            None => format!(".{path}.cmd"),
        };
        write(&command, "")?;
        list.push(' ');
        list.push_str(path);
    }
    write(
        "Kbuild",
        &format!("obj-m := {name}.o\n{name}-y := {list}\n"),
    )?;

    let flags = match replace {
        true => "-ffunction-sections -fdata-sections",
        false => "-ffunction-sections -fdata-sections -DKLP_NO_REPLACE",
    };
    let mut command = tools.script("kmake");
    command
        .args(["-s", "-C"])
        .arg(&kernel.build)
        .arg(format!("M={}", directory.display()))
        .arg(format!("KCFLAGS={flags}"))
        .arg("modules");
    tools.run("linking the module", &mut command)?;
    let module = format!("{name}.ko");
    // Its types are not those of the whole kernel.
    let mut command = tools.program(&directory, "objcopy");
    command
        .args(["--remove-section=.BTF", "--strip-debug"])
        .arg(&module);
    tools.run("finishing the module", &mut command)?;
    let mut command = tools.program(&directory, tree.objtool());
    command.args(["klp", "post-link"]).arg(&module);
    tools.run("making livepatch relocations", &mut command)?;
    Ok(directory.join(module))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_modules() {
        let name = |patches: &[&str], output: Option<&str>| {
            let patches: Vec<_> = patches.iter().map(PathBuf::from).collect();
            super::name(&patches, output.map(Path::new))
        };
        assert_eq!(name(&["x/fix.patch"], None), "livepatch-fix");
        assert_eq!(name(&["0001-a b.c.patch"], None), "livepatch-0001-a-b-c");
        assert_eq!(name(&["a", "b"], None), "livepatch-patch");
        assert_eq!(name(&["a"], Some("y/my-fix.ko")), "my-fix");
        let long = "x".repeat(100);
        assert_eq!(name(&[&long], None).len(), 55);
    }
}
