// SPDX-License-Identifier: GPL-2.0

//! Which objects a kernel has, by the makefiles of its source and its configuration.
//!
//! The build system also compiles objects that are not configured, if it is asked to.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use crate::{
    compile,
    error::{in_file, Result},
    headers,
    kernel::Kernel,
    tools::Tools,
};

/// The directory of the architecture.
const ARCHITECTURE: &str = "arch/x86";

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
    /// The directories whose makefiles name objects in other ones, when that was looked for.
    outward: Option<BTreeSet<String>>,
    /// The directories that the architecture's makefile names.
    of_architecture: Option<BTreeSet<String>>,
}

impl<'a> Configured<'a> {
    /// For a kernel, with a directory for a file.
    pub(crate) fn new(tools: &'a Tools, kernel: &'a Kernel, work: &'a Path) -> Self {
        Self {
            tools,
            kernel,
            work,
            known: BTreeMap::new(),
            outward: None,
            of_architecture: None,
        }
    }

    /// The object that is made of a file of C or assembly, by the path that the build system has for
    /// it, if it is in the kernel or in a module.
    pub(crate) fn object(&mut self, source: &str) -> Result<Option<String>> {
        let stem = [".c", ".S"].iter().find_map(|end| source.strip_suffix(end));
        let Some(stem) = stem else {
            return Ok(None);
        };
        let object = format!("{stem}.o");
        // A makefile can also name objects in directories that have none.
        for directory in ancestors(&object) {
            if self.lists(directory)?.objects.contains(&object) {
                return Ok(Some(object.clone()));
            }
        }
        for directory in self.outward()? {
            let objects = self.lists(&directory)?.objects.into_iter();
            let mut objects = objects.filter(|path| path.contains("/../"));
            if let Some(path) = objects.find(|path| compile::plain(path) == object) {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// The directories whose makefiles name objects beside or above them, such as
    /// `arch/x86/kvm/../../../virt/kvm/kvm_main.o`.
    fn outward(&mut self) -> Result<BTreeSet<String>> {
        if let Some(directories) = &self.outward {
            return Ok(directories.clone());
        }
        let mut makefiles = BTreeMap::new();
        find_makefiles(&self.kernel.source, "", &mut makefiles)?;
        let directories = looking_out(&makefiles);
        self.outward = Some(directories.clone());
        Ok(directories)
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
        if !directory.contains('/')
            || directory == ARCHITECTURE
            || self.of_architecture()?.contains(directory)
        {
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

    /// Whether the build system makes an object in two directories, one below the other, when it is
    /// asked for it: at the same time, unless it does one thing after the other.
    pub(crate) fn is_in_two_directories(&mut self, object: &str) -> Result<bool> {
        let directories = self.of_architecture()?;
        Ok(ancestors(object)
            .any(|directory| directory != ARCHITECTURE && directories.contains(directory)))
    }

    /// The directories that the makefile of the architecture adds to those at the top. Some only if
    /// they are configured; if one is not, no object of it is found in the kernel.
    fn of_architecture(&mut self) -> Result<&BTreeSet<String>> {
        if self.of_architecture.is_none() {
            let path = self.kernel.source.join(ARCHITECTURE).join("Makefile");
            let text = fs::read_to_string(&path).map_err(in_file(&path))?;
            self.of_architecture = Some(added_directories(&text));
        }
        Ok(self.of_architecture.get_or_insert_default())
    }

    /// What a directory's makefile says; nothing if the build system does not come to it. Some are
    /// only included by others, and mean nothing by themselves.
    fn lists(&mut self, directory: &str) -> Result<Lists> {
        if let Some(lists) = self.known.get(directory) {
            return Ok(lists.clone());
        }
        let lists = match self.has_directory(directory)? {
            true => self.ask(directory)?,
            false => Lists::default(),
        };
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
                "BITS=64",
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

/// The directories that an architecture's makefile adds to the kernel.
fn added_directories(makefile: &str) -> BTreeSet<String> {
    let lists = makefile.lines().filter(|line| {
        ["core-", "drivers-", "libs-"]
            .iter()
            .any(|list| line.starts_with(list))
    });
    let words = lists.flat_map(str::split_ascii_whitespace);
    words
        .filter(|word| word.starts_with(ARCHITECTURE))
        .filter_map(|word| word.strip_suffix('/'))
        .map(Into::into)
        .collect()
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

/// Reads the makefiles below a directory of the source, by their paths.
fn find_makefiles(
    source: &Path,
    directory: &str,
    found: &mut BTreeMap<String, String>,
) -> Result<()> {
    let place = source.join(directory);
    for entry in fs::read_dir(&place).map_err(in_file(&place))? {
        let entry = entry.map_err(in_file(&place))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            continue;
        };
        let path = match directory {
            "" => name.to_owned(),
            directory => format!("{directory}/{name}"),
        };
        let kind = entry.file_type().map_err(in_file(&place))?;
        if kind.is_dir() && !headers::is_elsewhere(&path) {
            find_makefiles(source, &path, found)?;
        } else if kind.is_file() && (name.starts_with("Makefile") || name == "Kbuild") {
            let path_there = entry.path();
            let text = fs::read(&path_there).map_err(in_file(&path_there))?;
            found.insert(path, String::from_utf8_lossy(&text).into_owned());
        }
    }
    Ok(())
}

/// The directories whose makefiles, or files that these include, lead out of them where they assign
/// something. More than there are do no harm: make says what the makefiles mean.
fn looking_out(makefiles: &BTreeMap<String, String>) -> BTreeSet<String> {
    let leads_out = |text: &str| {
        let mut lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.any(|line| {
            line.split_once('=').is_some_and(|(_, value)| {
                let mut words = value.split_ascii_whitespace();
                words.any(|word| word.starts_with("../"))
            })
        })
    };
    let mut directories = BTreeSet::new();
    for (path, text) in makefiles {
        let Some((directory, name)) = path.rsplit_once('/') else {
            continue;
        };
        if !leads_out(text) {
            continue;
        }
        if matches!(name, "Makefile" | "Kbuild") {
            directories.insert(directory.to_owned());
            continue;
        }
        let includes = |text: &str| {
            let mut lines = text.lines();
            lines.any(|line| line.starts_with("include ") && line.ends_with(&format!("/{name}")))
        };
        let users = makefiles.iter().filter(|(_, text)| includes(text));
        let users = users.filter_map(|(user, _)| user.rsplit_once('/'));
        directories.extend(users.map(|(directory, _)| directory.to_owned()));
    }
    directories
}

/// The directories that a path is in, innermost first; of one that leads out of a directory, those
/// that it is in before that.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    let path = match path.find("/../") {
        Some(end) => &path[..=end],
        None => path,
    };
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
        assert_eq!(Vec::from_iter(ancestors("a/b/../../c/d.o")), ["a/b", "a"]);
    }

    #[test]
    fn makefiles_that_lead_out_of_their_directories() {
        let makefiles = [
            (
                "a/Makefile",
                "include $(srctree)/v/Makefile.v\nx-y += x.o\n",
            ),
            (
                "b/Makefile",
                "ccflags-y := -I $(src)/../c\n# y-y := ../y.o\n",
            ),
            ("c/Kbuild", "c-$(CONFIG_C)\t+= c.o ../d/e.o\n"),
            ("v/Makefile.v", "V ?= ../v\n"),
        ];
        let makefiles = makefiles.map(|(path, text)| (path.to_owned(), text.to_owned()));
        let directories = looking_out(&BTreeMap::from(makefiles));
        assert_eq!(Vec::from_iter(directories), ["a", "c"]);
    }

    #[test]
    fn directories_of_an_architecture() {
        let makefile = "libs-y  += arch/x86/lib/\ncore-y += arch/x86/\n\
                        drivers-$(CONFIG_PCI)            += arch/x86/pci/\nhead-y := arch/x86/x/\n";
        let directories = Vec::from_iter(added_directories(makefile));
        assert_eq!(directories, ["arch/x86", "arch/x86/lib", "arch/x86/pci"]);
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
