// SPDX-License-Identifier: GPL-2.0

//! Which objects a kernel has, by the makefiles of its source and its configuration.
//!
//! The build system also compiles objects that are not configured, if it is asked to.

use std::{collections::BTreeMap, fs, path::Path};

use crate::{
    error::{in_file, Result},
    kernel::Kernel,
    tools::Tools,
};

/// What a directory's makefile adds to the kernel: objects, and directories below it.
#[derive(Clone, Debug, Default)]
struct Lists {
    objects: Vec<String>,
    directories: Vec<String>,
    /// The objects of modules, each linked of its own.
    modules: Vec<String>,
}

/// Finds out which objects are configured.
pub(crate) struct Configured<'a> {
    tools: &'a Tools,
    kernel: &'a Kernel,
    work: &'a Path,
    known: BTreeMap<String, Lists>,
}

impl<'a> Configured<'a> {
    /// For a kernel, with a directory for a file.
    pub(crate) fn new(tools: &'a Tools, kernel: &'a Kernel, work: &'a Path) -> Self {
        Self {
            tools,
            kernel,
            work,
            known: BTreeMap::new(),
        }
    }

    /// Whether an object, by its path in the build directory, is in the kernel or in a module.
    pub(crate) fn has_object(&mut self, object: &str) -> Result<bool> {
        // A makefile can also name objects in directories that have none.
        for directory in ancestors(object) {
            let lists = self.lists(directory)?;
            if lists.objects.iter().any(|path| path == object) {
                return self.has_directory(directory);
            }
        }
        Ok(false)
    }

    /// The path, without suffix, of the module of this name that an object is linked into. None if it
    /// is linked into several.
    pub(crate) fn module(&mut self, object: &str, name: &str) -> Result<Option<String>> {
        for directory in ancestors(object) {
            let modules = self.lists(directory)?.modules;
            let mut paths = modules.iter().filter_map(|path| path.strip_suffix(".o"));
            let module = paths.find(|path| {
                let (_, last) = path.rsplit_once('/').unwrap_or(("", path));
                // As the build system makes an identifier of it.
                last.replace(['-', ','], "_") == name
            });
            if let Some(module) = module {
                return Ok(Some(module.into()));
            }
        }
        Ok(None)
    }

    /// Whether the build system comes to a directory.
    fn has_directory(&mut self, directory: &str) -> Result<bool> {
        if !directory.contains('/') || directory == "arch/x86" {
            return Ok(true);
        }
        for above in ancestors(directory) {
            let lists = self.lists(above)?;
            if lists.directories.iter().any(|path| path == directory) {
                return self.has_directory(above);
            }
        }
        Ok(false)
    }

    fn lists(&mut self, directory: &str) -> Result<Lists> {
        if let Some(lists) = self.known.get(directory) {
            return Ok(lists.clone());
        }
        let lists = self.ask(directory)?;
        self.known.insert(directory.into(), lists.clone());
        Ok(lists)
    }

    /// Lets make evaluate a directory's makefile as the build system does.
    fn ask(&self, directory: &str) -> Result<Lists> {
        let place = self.kernel.source.join(directory);
        if !["Kbuild", "Makefile"]
            .iter()
            .any(|name| place.join(name).is_file())
        {
            return Ok(Lists::default());
        }
        let makefile = self.work.join("lists.mk");
        let text = "include $(srctree)/scripts/Makefile.build\n\
                    $(info objects $(real-obj-y) $(real-obj-m) $(lib-y))\n\
                    $(info directories $(subdir-ym))\n\
                    $(info modules $(obj-m))\n\
                    klp-lists: ;\n";
        fs::write(&makefile, text).map_err(in_file(&makefile))?;
        let source = self.kernel.source.display();
        let mut command = self.tools.program(&self.kernel.build, "make");
        command
            .args(["-s", "-f"])
            .arg(&makefile)
            .args([format!("srctree={source}"), format!("srcroot={source}")])
            .args([
                "objtree=.",
                "SRCARCH=x86",
                "ARCH=x86",
                "need-builtin=1",
                "need-modorder=1",
            ])
            .arg(format!("obj={directory}"))
            .arg("klp-lists");
        let output = self
            .tools
            .run("asking for the objects of a directory", &mut command)?;
        Ok(parse(&String::from_utf8_lossy(&output.stdout)))
    }
}

fn parse(text: &str) -> Lists {
    let list = |kind: &str| {
        let lines = text.lines().filter_map(|line| line.strip_prefix(kind));
        let words = lines.flat_map(str::split_ascii_whitespace);
        words.map(Into::into).collect()
    };
    Lists {
        objects: list("objects "),
        directories: list("directories "),
        modules: list("modules "),
    }
}

/// The directories that a path is in, innermost first.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    let parent = |path: &str| path.rfind('/');
    std::iter::successors(parent(path).map(|end| &path[..end]), move |path| {
        parent(path).map(|end| &path[..end])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_a_path() {
        assert_eq!(Vec::from_iter(ancestors("a/b/c.o")), ["a/b", "a"]);
        assert_eq!(ancestors("c.o").count(), 0);
    }

    #[test]
    fn lists_of_a_makefile() {
        let lists = parse("objects fs/a.o  fs/b.o \ndirectories fs/c\nmodules fs/d.o\n");
        assert_eq!(lists.objects, ["fs/a.o", "fs/b.o"]);
        assert_eq!(lists.directories, ["fs/c"]);
        assert_eq!(lists.modules, ["fs/d.o"]);
        assert!(parse("objects \n").objects.is_empty());
    }
}
