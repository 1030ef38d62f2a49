// SPDX-License-Identifier: GPL-2.0

//! Builds live patches from source patches, without building a kernel.
//!
//! The kernel's own way (`scripts/livepatch/klp-build`) builds the whole kernel twice, before and after
//! a patch, and lets `objtool klp diff` find out which functions differ and write them into an object
//! file, with the references to the rest of the kernel as livepatch relocations. Only the second build
//! is quick, and the first one has to be of the very kernel that runs. This crate drives the same
//! programs on the objects that a patch changes, and nothing else:
//!
//! 1. The patches are applied to copies of the files that they change (module `patch`), and the lines of all
//!    other code keep their numbers (`scripts/livepatch/fix-patch-lines`).
//! 2. The kernel's build system compiles the objects that these files go into, as they are
//!    (module `compile`). For a header, these are the objects that include it (module `headers`); for a module,
//!    all of its objects.
//! 3. The same commands, with a section for each function and variable, compile them twice: as they
//!    are, and as they will be.
//! 4. Structures whose layout changes are refused (module `layout`), and fields that are set in another way
//!    are pointed out (module `fields`).
//! 5. The objects of step 2 are found in the kernel's image and compared with it, byte by byte
//!    (module `locate`). The functions of modules are compared with those of the kernel's modules, but
//!    not what they refer to, which is only known when a module is loaded.
//! 6. The objects of step 3 are linked into the two files that `objtool klp diff` compares, with what it
//!    expects of a whole kernel (module `pair`).
//! 7. The result is linked into a module with the kernel's `scripts/livepatch/init.c` (module `module`).
//!    Pointers to functions that the kernel has made uncallable by a pointer are refused (module
//!    `ibt`); `objtool` does not look for them in either way.
//!
//! # Why this is sound, and where that ends
//!
//! What the comparison of whole kernels knows and this one has to find out otherwise:
//!
//! * *That the objects are those of the kernel.* A build of the whole kernel is not compared with the
//!   one that runs. Here it is: all code of an object that the patch changes must be in the image,
//!   with other addresses only, and refer to the symbols that it should refer to. Initial data is not
//!   compared. That functions and variables in sections of their own do not change the code is an
//!   assumption that the kernel's klp-build makes as well.
//! * *Which of several symbols of a name is meant.* An object's sections are found in the image as a
//!   whole, so each static symbol has an address, and the kernel's own table of symbols gives its
//!   position. `objtool` is handed both. A symbol that is not static gets no position from `objtool`: if
//!   its name is not unique, it is refused, since the kernel would refuse the module.
//! * *What the rest of the kernel defines.* It counts as defined by the kernel if the table of symbols
//!   has it as global. What the table cannot tell is checked afterwards: references into init
//!   sections, and weak functions of which the kernel has another definition.
//! * *The kind of such a symbol*, function or variable. `objtool` only looks at it to refuse keys of
//!   static branches and calls that are in modules. Modules are compiled as a whole, so their keys are
//!   as in the kernel's way.
//! * *Objects that change though the patch does not name their files.* Without link-time optimisation,
//!   which is refused, these are the objects that include a changed file. The files are searched for
//!   lines `#include`; the compiler then says which ones are really in an object. Not seen are files
//!   that are only included by a macro that stands for their name. Of assembly that includes a header, the
//!   author is told; a header that goes into a vDSO is refused.
//! * *What a function refers to.* `objtool` compares instructions and names. Tables and other constants
//!   that the compiler makes are compared here (module `constants`), and which ones are meant of
//!   symbols whose names differ in numbers only (module `namesakes`), and what tables have about
//!   its code (module `entries`).
//!
//! # The full way
//!
//! Where a comparison of objects cannot be sound, the patch or the kernel is refused, and nothing less
//! exact is tried. What remains then is the kernel's own way: in a clean tree of the kernel's source,
//! with its `.config`, and built by the compilers that it was built by,
//!
//! ```text
//! scripts/livepatch/klp-build -o livepatch-fix.ko fix.patch
//! ```
//!
//! It builds the whole kernel before and after the patch, and so needs nothing of what is above:
//!
//! * link-time optimisation (`LTO_CLANG`), with which there are no objects;
//! * a header that more files include than are compiled here;
//! * files that a patch adds, and its lines of a `Makefile`;
//! * an object that several modules have, or that cannot be found in the image though source,
//!   configuration and compiler are those of the kernel;
//! * files that are only included by a macro that stands for their name.
//!
//! It does not compare its own build with the kernel that runs: `klp check` of the finished module is
//! the more important. What livepatch itself cannot do (init code, changed data, layouts of structures,
//! assembly, `lib/`, vDSO), and the compiler plugins that this crate refuses too, it does not do either;
//! then the patch has to be written by hand (`klp new`), or the kernel replaced.
//! `tools/testing/compare-ways` drives both ways, and compares their modules.
//!
//! Whether a patch is right is another question: that it changes no function's meaning for callers that
//! are not replaced, that it is safe while some tasks run old code and some new, that data means the
//! same to both. No comparison of code tells.
//!
//! A check of the finished module against the kernel ([`Finished`]) can follow; the command `klp build`
//! lets `klp check` look at it.

mod boot;
mod compile;
mod configured;
mod constants;
mod elf;
mod entries;
mod error;
mod fields;
mod headers;
mod ibt;
mod image;
mod kernel;
mod layout;
mod locate;
mod module;
mod namesakes;
mod pair;
mod patch;
#[cfg(test)]
#[path = "../tests/image/mod.rs"]
mod sample;
mod statics;
mod tables;
mod tools;
mod tree;
mod unpack;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
};

pub use boot::release;
pub use error::{Error, Refusal, Result};
pub use image::Image;
pub use kernel::Kernel;
pub use pair::Changes;
pub use tools::Tools;
pub use unpack::{read_module, Contents, UnpackError};

use klp_check::Types;

use compile::{Object, Owner};
use configured::Configured;
use error::{in_file, read, refuse};
use headers::Includes;
use pair::{Objects, Pair};
use patch::Patched;
use tree::Tree;

/// What is to be built.
#[derive(Clone, Debug)]
pub struct Request {
    /// The patches, in the order in which they apply.
    pub patches: Vec<PathBuf>,
    /// The module's file; else it is named by the patch, in the current directory.
    pub output: Option<PathBuf>,
    /// Whether the patch replaces all that are loaded before it.
    pub replace: bool,
}

/// What was built.
#[derive(Clone, Debug)]
pub struct Built {
    /// The module's file.
    pub module: PathBuf,
    /// What it changes, by object.
    pub changes: Vec<Changes>,
    /// What is patched: `vmlinux` and the names of modules.
    pub patched: Vec<String>,
    /// Its size in bytes.
    pub size: u64,
}

/// A module that is finished, but not yet where it was asked for.
pub struct Finished<'a> {
    /// Its file.
    pub module: &'a Path,
    /// Where it goes.
    pub output: &'a Path,
    /// The symbols of the kernel that it is for, as a `System.map` has them.
    pub system_map: &'a Path,
    /// The kernel's files of the modules that it patches.
    pub targets: Vec<PathBuf>,
}

/// How the build goes on, for people.
pub enum Progress<'a> {
    /// A step begins.
    Step(&'a str),
    /// What is changed in an object.
    Changed(&'a Changes),
    /// Something that the author should know, but that is no obstacle.
    Note(&'a str),
}

/// Builds a live patch. `check` sees the finished module, and says what is wrong with it.
///
/// # Errors
///
/// The patch cannot be made to a running kernel, a step did not work, or `check` has failed.
pub fn build(
    tools: &Tools,
    kernel: &Kernel,
    request: &Request,
    progress: &dyn Fn(Progress<'_>),
    check: &dyn Fn(&Finished<'_>) -> Result<(), String>,
) -> Result<Built> {
    let say = |text: &str| progress(Progress::Step(text));
    if let Some(output) = &request.output {
        if output.extension().is_none_or(|suffix| suffix != "ko") {
            return Err(format!("{}: a module's name ends in .ko", output.display()).into());
        }
    }
    let name = module::name(&request.patches, request.output.as_deref());
    let output = request
        .output
        .clone()
        .unwrap_or_else(|| format!("{name}.ko").into());
    let tree = Tree::prepare(tools, kernel, &say)?;
    let work = tree.work()?;
    let image = tree.image()?;
    if kernel.is_running() {
        let notes = Path::new("/sys/kernel/notes");
        kernel.check_build(&image, &fs::read(notes).map_err(in_file(notes))?)?;
    }

    say("Testing patch file(s)");
    let note = |text: &str| progress(Progress::Note(text));
    let patched = patch::apply(tools, kernel, &request.patches, &work, &note)?;
    let build = Build {
        tools,
        kernel,
        tree: &tree,
        work: &work,
        progress,
    };
    let objects = build.objects(&patched)?;
    say("Compiling the original source");
    let sources = build.compile(&objects, &patched)?;
    build.check_objects(&sources, &image)?;
    build.note_fields(&objects, &sources, &patched)?;
    say("Comparing it with the kernel");
    let locations = build.locate(&objects, &image)?;
    say("Comparing original and patched objects");
    let Compared {
        outputs,
        changes,
        effective,
    } = build.compare(&objects, &sources, &image, &locations)?;
    if changes.iter().all(|changes| changes.changed.is_empty()) {
        return Err("the patches change no function of this kernel".into());
    }
    build.note_no_effect(&objects, &patched, &effective);
    say(&format!("Building patch module: {}", output.display()));
    let files: Vec<_> = outputs
        .iter()
        .map(|(owner, file)| (object_path(owner), file.clone()))
        .collect();
    let module = module::link(tools, kernel, &tree, &work, &name, &files, request.replace)?;
    build.check_pointers(&image, &outputs, &sources.after, &module)?;
    let system_map = work.join("System.map");
    fs::write(&system_map, image.system_map()).map_err(in_file(&system_map))?;
    say("Checking the module");
    check(&Finished {
        module: &module,
        output: &output,
        system_map: &system_map,
        targets: build.targets(&outputs).into_values().collect(),
    })?;
    let size = fs::metadata(&module).map_err(in_file(&module))?.len();
    // At once, or not at all.
    let new = output.with_extension("ko.new");
    fs::copy(&module, &new).map_err(in_file(&new))?;
    fs::rename(&new, &output).map_err(in_file(&output))?;
    Ok(Built {
        module: output,
        changes,
        patched: outputs
            .iter()
            .map(|(owner, _)| patched_name(owner))
            .collect(),
        size,
    })
}

/// The object file of an owner, in the build directory.
fn object_path(owner: &Owner) -> String {
    match owner {
        Owner::Vmlinux => "vmlinux.o".into(),
        Owner::Module(module) => format!("{module}.o"),
    }
}

/// The name by which livepatch knows an owner.
fn patched_name(owner: &Owner) -> String {
    match owner {
        Owner::Vmlinux => "vmlinux".into(),
        Owner::Module(module) => {
            let (_, name) = module.rsplit_once('/').unwrap_or(("", module));
            name.replace('-', "_")
        }
    }
}

/// A build that is going on.
struct Build<'a> {
    tools: &'a Tools,
    kernel: &'a Kernel,
    tree: &'a Tree,
    work: &'a Path,
    progress: &'a dyn Fn(Progress<'_>),
}

/// What the comparison has found.
struct Compared {
    /// The object files for the module, and what is patched.
    outputs: Vec<(Owner, PathBuf)>,
    /// What changes in which object.
    changes: Vec<Changes>,
    /// The objects of which something gets into the patch.
    effective: BTreeSet<String>,
}

/// The files of all objects, compiled with sections.
struct Compiled {
    before: Objects,
    after: Objects,
}

impl Build<'_> {
    fn note(&self, text: &str) {
        (self.progress)(Progress::Note(text));
    }

    /// The objects that the patched files go into, and all others of the same modules.
    fn objects(&self, patched: &Patched) -> Result<Vec<Object>> {
        let includes = Includes::read(self.tree, &self.kernel.source)?;
        let exists = |path: &str| self.kernel.source.join(path).is_file();
        let mut configured = Configured::new(self.tools, self.kernel, self.work);
        let mut candidates = BTreeSet::new();
        let mut refusals = Vec::new();
        for file in &patched.files {
            candidates.insert(file.clone());
            let users = includes.users(file, &exists);
            if let Some(refusal) = headers::too_many(file, &users.c) {
                refusals.push(refusal);
                continue;
            }
            for user in users.c.iter().chain(&users.assembly) {
                // Some of the files there are the kernel's own part.
                if patch::is_in_vdso(user) && configured.object(user)?.is_none() {
                    refusals.push(patch::also_in_vdso(file, user));
                    break;
                }
            }
            let mut assembly = Vec::new();
            for user in &users.assembly {
                if configured.object(user)?.is_some() {
                    assembly.push(user.as_str());
                }
            }
            if !assembly.is_empty() {
                self.note(&format!(
                    "{file}: included by assembly, which is not compared: what the patch changes for \
                     it is left out ({})",
                    assembly.join(", ")
                ));
            }
            candidates.extend(users.c);
        }
        refuse(refusals)?;
        let mut there = Vec::new();
        for candidate in candidates {
            there.extend(configured.object(&candidate)?);
        }
        let mut objects = compile::kbuild(self.tools, self.kernel, &mut configured, &there)?;
        objects.retain(|object| patched.files.iter().any(|file| object.is_from(file)));
        for file in &patched.files {
            if !objects.iter().any(|object| object.is_from(file)) {
                return Err(Refusal::new(
                    file,
                    "no object of this kernel is compiled from it",
                    "a patch can only change what is in the kernel or in one of its modules",
                    "leave this file out of the patch",
                )
                .into());
            }
        }
        let modules: BTreeSet<_> = objects
            .iter()
            .filter_map(|object| match &object.owner {
                Owner::Module(module) => Some(module.clone()),
                Owner::Vmlinux => None,
            })
            .collect();
        for module in modules {
            let mut all = compile::of_module(self.tools, self.kernel, &module)?;
            all.retain(|path| !objects.iter().any(|object| object.path == *path));
            let all = compile::kbuild(self.tools, self.kernel, &mut configured, &all)?;
            objects.extend(all);
        }
        Ok(objects)
    }

    /// Compiles all objects as they are, and those that change as they will be.
    fn compile(&self, objects: &[Object], patched: &Patched) -> Result<Compiled> {
        let all: Vec<_> = objects.iter().collect();
        let changed: Vec<_> = objects
            .iter()
            .filter(|object| patched.files.iter().any(|file| object.is_from(file)))
            .collect();
        let directory = self.work.join("1");
        let before = compile::with_sections(self.tools, self.kernel, &all, &directory, None)?.files;
        (self.progress)(Progress::Step("Compiling the patched source"));
        self.tree.put(self.kernel, patched)?;
        let (directory, source) = (self.work.join("2"), self.tree.source());
        let source = Some(source.as_path());
        let compiled =
            compile::with_sections(self.tools, self.kernel, &changed, &directory, source)?;
        for warning in &compiled.warnings {
            self.note(warning);
        }
        let mut after = before.clone();
        after.extend(compiled.files);
        Ok(Compiled { before, after })
    }

    /// Refuses structures whose layout changes, variables that would be mixed up, and what would be
    /// left out.
    fn check_objects(&self, compiled: &Compiled, image: &Image) -> Result<()> {
        let mut refusals = Vec::new();
        let types = image.section(".BTF").map(|(_, data)| Types::parse(data));
        let types = types.transpose()?;
        for (path, before) in &compiled.before {
            let after = &compiled.after[path];
            if before != after {
                let (old, new) = (read(before)?, read(after)?);
                refusals.extend(layout::compare(path, &old, &new, types.as_ref())?);
                refusals.extend(statics::compare(path, &old, &new)?);
                refusals.extend(tables::compare(path, &old, &new)?);
            }
        }
        refuse(refusals)
    }

    /// Tells of fields that the patch sets in another way.
    fn note_fields(
        &self,
        objects: &[Object],
        compiled: &Compiled,
        patched: &Patched,
    ) -> Result<()> {
        for (file, field) in fields::set_otherwise(&patched.diff) {
            let Some(object) = objects.iter().find(|object| object.is_from(&file)) else {
                continue;
            };
            let path = &compiled.before[&object.path];
            let data = fs::read(path).map_err(in_file(path))?;
            let place = match &layout::with_member(&data, &field)?[..] {
                [structure] => format!("{field} of {structure}"),
                _ => field,
            };
            self.note(&format!(
                "{file}: the patch sets {place} in another way. Instances that exist when it is \
                 loaded were set by the old code: if the value means something else now, mark new \
                 instances with a shadow variable (samples/README.md), or convert the old ones in a \
                 callback"
            ));
        }
        Ok(())
    }

    /// Finds the objects of the kernel itself in its image, and so the addresses of their symbols.
    fn locate(
        &self,
        objects: &[Object],
        image: &Image,
    ) -> Result<BTreeMap<String, HashMap<String, u64>>> {
        let mut locations = BTreeMap::new();
        let arguments = self.objtool_arguments()?;
        let modules: BTreeSet<_> = objects
            .iter()
            .filter_map(|object| match &object.owner {
                Owner::Module(module) => Some(module),
                Owner::Vmlinux => None,
            })
            .collect();
        for module in modules {
            self.compare_module(module)?;
        }
        for object in objects {
            if object.owner != Owner::Vmlinux {
                continue;
            }
            let plain = self.kernel.build.join(&object.path);
            let copy = self.work.join("plain").join(&object.path);
            let directory = copy.parent().unwrap_or(self.work);
            fs::create_dir_all(directory).map_err(in_file(directory))?;
            fs::copy(&plain, &copy).map_err(in_file(&plain))?;
            let mut command = self.tools.program(directory, self.tree.objtool());
            command.args(&arguments).arg("--link").arg(&copy);
            self.tools.run("running objtool", &mut command)?;
            let data = fs::read(&copy).map_err(in_file(&copy))?;
            let location = locate::locate(&elf::File::parse(&data)?, image).map_err(|error| {
                format!(
                    "{}: compiled here, it is not what is in the kernel: {error}. Source, \
                     configuration or compiler are not those of the kernel",
                    object.path
                )
            })?;
            locations.insert(object.path.clone(), location.addresses);
        }
        Ok(locations)
    }

    /// Where a module of the kernel is when it was compared.
    fn kernel_module(&self, module: &str) -> PathBuf {
        self.work.join("kernel").join(format!("{module}.ko"))
    }

    /// The kernel's files of the modules that are patched, by the modules' names.
    fn targets(&self, outputs: &[(Owner, PathBuf)]) -> BTreeMap<String, PathBuf> {
        let modules = outputs.iter().filter_map(|(owner, _)| match owner {
            Owner::Module(path) => Some((patched_name(owner), self.kernel_module(path))),
            Owner::Vmlinux => None,
        });
        modules.collect()
    }

    /// Refuses pointers to functions that cannot be called by one, in the finished module.
    fn check_pointers(
        &self,
        image: &Image,
        outputs: &[(Owner, PathBuf)],
        after: &Objects,
        module: &Path,
    ) -> Result<()> {
        let taken = ibt::taken(image, &self.targets(outputs), module)?;
        if taken.is_empty() {
            return Ok(());
        }
        let definitions = pair::definitions(after)?;
        let place = |name: &str| pair::in_object(name, &definitions, &definitions);
        refuse(taken.iter().map(|taken| taken.refusal(place)).collect())
    }

    /// Compares a module, compiled here as a whole, with the kernel's.
    fn compare_module(&self, module: &str) -> Result<()> {
        let file = self.kernel.module(module).ok_or_else(|| {
            format!(
                "the kernel's module {module}.ko is not there: install linux-modules-{}",
                self.kernel.release
            )
        })?;
        let copy = self.kernel_module(module);
        let directory = copy.parent().unwrap_or(self.work);
        fs::create_dir_all(directory).map_err(in_file(directory))?;
        let kernel = read_module(&file, &|program| self.tools.program(self.work, program))
            .map_err(|error| format!("{}: {error}", file.display()))?;
        fs::write(&copy, &kernel).map_err(in_file(&copy))?;
        let object = self.kernel.build.join(format!("{module}.o"));
        let object = fs::read(&object).map_err(in_file(&object))?;
        let (object, kernel) = (elf::File::parse(&object)?, elf::File::parse(&kernel)?);
        locate::same_functions(&object, &kernel).map_err(|error| {
            format!(
                "{module}.ko: compiled here, it is not what the kernel has: {error}. Source, \
                 configuration or compiler are not those of the kernel"
            )
        })?;
        Ok(())
    }

    /// Compares the objects of each owner, before and after.
    fn compare(
        &self,
        objects: &[Object],
        compiled: &Compiled,
        image: &Image,
        locations: &BTreeMap<String, HashMap<String, u64>>,
    ) -> Result<Compared> {
        let arguments = self.objtool_arguments()?;
        let pair = Pair {
            tools: self.tools,
            kernel: self.kernel,
            tree: self.tree,
            work: self.work,
            objtool: &arguments,
            note: &|text| self.note(text),
        };
        let owners: BTreeSet<_> = objects.iter().map(|object| &object.owner).collect();
        let (mut outputs, mut all) = (Vec::new(), Vec::new());
        let mut refusals = Vec::new();
        let mut effective = BTreeSet::new();
        for owner in owners {
            let of_owner = |files: &Objects| -> Objects {
                let objects = objects.iter().filter(|object| object.owner == *owner);
                objects
                    .filter_map(|object| {
                        Some((object.path.clone(), files.get(&object.path)?.clone()))
                    })
                    .collect()
            };
            let (before, after) = (of_owner(&compiled.before), of_owner(&compiled.after));
            let output = match owner {
                Owner::Vmlinux => pair.vmlinux(image, &before, &after, locations)?,
                Owner::Module(module) => {
                    let order = compile::of_module(self.tools, self.kernel, module)?;
                    pair.module(module, &order, &before, &after)?
                }
            };
            let changed = before
                .iter()
                .filter(|(path, before)| after[*path] != **before);
            let Some(output) = output else {
                // For objtool nothing changes; what it does not compare may do so all the same.
                for (path, before) in changed {
                    let none = Changes {
                        object: path.clone(),
                        ..Changes::default()
                    };
                    refusals.extend(constants::compare(&none, before, &after[path])?);
                    refusals.extend(namesakes::compare(&none, before, &after[path])?);
                }
                continue;
            };
            for (path, before) in changed {
                let after = &after[path];
                let changes = pair::changes(path, before, after, &output)?;
                (self.progress)(Progress::Changed(&changes));
                if pair::has_effect(&changes, before, after, &output)? {
                    effective.insert(path.clone());
                }
                refusals.extend(constants::compare(&changes, before, after)?);
                refusals.extend(namesakes::compare(&changes, before, after)?);
                refusals.extend(pair::check_clones(&changes, before, after)?);
                refusals.extend(pair::check_traceable(&changes, before)?);
                refusals.extend(pair::check_addresses(&changes, before)?);
                if let Some(addresses) = locations.get(path) {
                    refusals.extend(pair::check_weak(&changes, before, addresses)?);
                }
                all.push(changes);
            }
            refusals.extend(namesakes::check(&before, &after, &output)?);
            let of_vmlinux = match owner {
                Owner::Vmlinux => &all[..],
                Owner::Module(_) => &[],
            };
            refusals.extend(pair::check_references(image, of_vmlinux, &after, &output)?);
            outputs.push((owner.clone(), output));
        }
        refuse(refusals)?;
        Ok(Compared {
            outputs,
            changes: all,
            effective,
        })
    }

    /// Tells of patched files that contribute nothing to the patch.
    fn note_no_effect(&self, objects: &[Object], patched: &Patched, effective: &BTreeSet<String>) {
        for file in &patched.files {
            let mut from = objects.iter().filter(|object| object.is_from(file));
            if !from.any(|object| effective.contains(&object.path)) {
                self.note(&format!(
                    "{file}: what the patch changes here has no effect: the code of all functions \
                     stays as it is, for instance because of the kernel's configuration"
                ));
            }
        }
    }

    /// The arguments with which the kernel's build system calls objtool, but for those that depend on
    /// what it works on.
    fn objtool_arguments(&self) -> Result<Vec<String>> {
        let makefile = self.work.join("objtool.mk");
        let text = "include include/config/auto.conf\n\
                    include $(srctree)/scripts/Kbuild.include\n\
                    include $(srctree)/scripts/Makefile.lib\n\
                    $(info $(objtool-args-y))\n\
                    all: ;\n";
        fs::write(&makefile, text).map_err(in_file(&makefile))?;
        let mut command = self.tools.program(&self.kernel.build, "make");
        command
            .args(["-s", "-f"])
            .arg(&makefile)
            .arg(format!("srctree={}", self.kernel.source.display()))
            .arg("objtree=.");
        let output = self
            .tools
            .run("asking for objtool's arguments", &mut command)?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.split_ascii_whitespace().map(Into::into).collect())
    }
}
