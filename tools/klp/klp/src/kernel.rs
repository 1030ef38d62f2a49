// SPDX-License-Identifier: GPL-2.0

//! What is on this machine of a kernel that a module was built for.

use std::{
    collections::HashSet,
    fmt::Display,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use klp_build::UnpackError;
use klp_convert::object_name;
use klp_live::Machine;
use klp_module::Module;
use object::{read::elf::ElfFile64, Endianness, Object, ReadCache};

use crate::{booted::Booted, commands::Result};

/// A kernel, by its release, and where it was built or its headers are.
pub struct Kernel<'a> {
    machine: &'a Machine,
    release: String,
    directory: PathBuf,
    /// Whether the user named its directory or image, which may be that of another build than the one
    /// that runs or is installed.
    by_path: bool,
    /// The file that it is booted from, if the user named that.
    image: Option<PathBuf>,
}

impl<'a> Kernel<'a> {
    /// The kernel of this release.
    pub fn of_release(machine: &'a Machine, release: &str) -> Self {
        Self {
            machine,
            release: release.into(),
            directory: machine.path(format!("/lib/modules/{release}/build")),
            by_path: false,
            image: None,
        }
    }

    /// The kernel that is booted from this file. What else is needed is that of its release.
    ///
    /// # Errors
    ///
    /// The file is not one that a kernel is booted from.
    fn of_image(machine: &'a Machine, image: &Path) -> Result<Self> {
        let release = klp_build::release(image);
        let release = release.map_err(|error| format!("{}: {error}", image.display()))?;
        Ok(Self {
            by_path: true,
            image: Some(image.into()),
            ..Self::of_release(machine, &release)
        })
    }

    /// The kernel that the user names: by its release, or, with a slash, by its build directory or the
    /// file that it is booted from.
    ///
    /// # Errors
    ///
    /// The directory is not one that a kernel was built or prepared in, or the file not one that is
    /// booted.
    pub fn named(machine: &'a Machine, name: &str) -> Result<Self> {
        if !name.contains('/') && !name.starts_with('.') {
            return Ok(Self::of_release(machine, name));
        }
        if Path::new(name).is_file() {
            return Self::of_image(machine, Path::new(name));
        }
        let file = Path::new(name).join("include/config/kernel.release");
        let release = fs::read_to_string(&file).map_err(|error| {
            format!(
                "{}: {error}: is this a kernel's build directory?",
                file.display()
            )
        })?;
        Ok(Self {
            machine,
            release: release.trim_end().into(),
            directory: name.into(),
            by_path: true,
            image: None,
        })
    }

    /// Whether it is the kernel that runs on the machine.
    pub fn is_running(&self) -> bool {
        let running = self.machine.kernel_release();
        !self.by_path && running.is_ok_and(|running| running == self.release)
    }

    /// The options that are set to yes, without `CONFIG_`, if they are found.
    pub fn config(&self) -> Option<HashSet<String>> {
        let Self { release, .. } = self;
        let installed = [
            format!("/boot/config-{release}"),
            format!("/lib/modules/{release}/config"),
        ];
        let installed = installed.iter().map(|path| self.machine.path(path));
        let mut all = [self.directory.join("include/config/auto.conf")]
            .into_iter()
            .chain(installed);
        let text = all.find_map(|path| fs::read_to_string(path).ok())?;
        let options = text.lines().filter_map(|line| {
            let option = line.strip_prefix("CONFIG_")?;
            option.strip_suffix("=y").map(Into::into)
        });
        Some(options.collect())
    }

    /// The names of the modules that the kernel has, if there is a list.
    pub fn modules(&self) -> Option<HashSet<String>> {
        self.names_in("modules.dep")
    }

    /// The names of the modules that are part of the kernel itself.
    pub fn built_in(&self) -> HashSet<String> {
        self.names_in("modules.builtin").unwrap_or_default()
    }

    fn names_in(&self, list: &str) -> Option<HashSet<String>> {
        let text = fs::read_to_string(self.installed().join(list)).ok()?;
        let files = text.lines().filter_map(|line| line.split(':').next());
        Some(files.map(|file| module_name(Path::new(file))).collect())
    }

    /// Where its modules are installed.
    fn installed(&self) -> PathBuf {
        self.machine.path(format!("/lib/modules/{}", self.release))
    }

    /// The file of one of its own modules.
    pub fn first_module(&self) -> Option<PathBuf> {
        let text = fs::read_to_string(self.installed().join("modules.dep")).ok()?;
        let mut files = text.lines().filter_map(|line| line.split(':').next());
        // What is in other directories may come from elsewhere.
        let file = files.find(|file| file.starts_with("kernel/"))?;
        Some(self.installed().join(file))
    }

    /// Its release.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// The exported symbols.
    pub fn module_symvers(&self) -> PathBuf {
        self.directory.join("Module.symvers")
    }

    /// The vmlinux that the user names, which must be that of the kernel if that runs or its image is
    /// named, or one that is found and is. It may have a symbol table, and DWARF.
    ///
    /// # Errors
    ///
    /// The one that the user names is of another build.
    pub fn vmlinux(&self, named: Option<&Path>, image: Option<&Booted>) -> Result<Option<PathBuf>> {
        let found = self.found_vmlinux();
        let Some(path) = named.or(found.as_deref()) else {
            return Ok(None);
        };
        let (what, notes) = match image {
            Some(image) => ("in the image", image.image.build_id().map(Into::into)),
            // The notes of the kernel have others beside the build ID.
            None if self.is_running() => {
                let notes = fs::read(self.machine.path("/sys/kernel/notes"));
                ("that runs", notes.ok())
            }
            None => ("", None),
        };
        let other = match (notes, build_id(path).filter(|id| !id.is_empty())) {
            (Some(notes), Some(id)) => !notes.windows(id.len()).any(|part| part == id),
            _ => false,
        };
        match named {
            Some(_) if other => {
                let path = path.display();
                Err(format!("{path}: not of the kernel {what}, by its build ID").into())
            }
            None if other => Ok(None),
            _ => Ok(Some(path.into())),
        }
    }

    /// A vmlinux that may have its symbol table: from the build, or from a package for debugging.
    fn found_vmlinux(&self) -> Option<PathBuf> {
        let Self { release, .. } = self;
        let installed = [
            format!("/usr/lib/debug/boot/vmlinux-{release}"),
            format!("/usr/lib/debug/lib/modules/{release}/vmlinux"),
            format!("/usr/lib/debug/vmlinux-{release}"),
            format!("/boot/vmlinux-{release}"),
            format!("/lib/modules/{release}/vmlinux"),
        ];
        let installed = installed.iter().map(|path| self.machine.path(path));
        let mut all = [self.directory.join("vmlinux")]
            .into_iter()
            .chain(installed);
        all.find(|path| path.is_file())
    }

    /// The file that it is booted from, if the user named that.
    pub fn image(&self) -> Option<&Path> {
        self.image.as_deref()
    }

    /// The file that it is booted from, if there is one.
    pub fn found_image(&self) -> Option<PathBuf> {
        let Self {
            release, machine, ..
        } = self;
        let built = self.directory.join("arch/x86/boot/bzImage");
        let installed = [
            format!("/boot/vmlinuz-{release}"),
            format!("/lib/modules/{release}/vmlinuz"),
        ];
        let installed = installed.iter().map(|path| machine.path(path));
        // What is installed may be another build than one with a list of its own.
        let listed = self.directory.join("System.map").is_file();
        let mut all = [built].into_iter().chain(installed.filter(|_| !listed));
        all.find(|path| path.is_file())
    }

    /// Lists of the kernel's symbols, best first. Debian installs a System.map that only says where
    /// the real one is.
    pub fn symbol_lists(&self) -> Vec<PathBuf> {
        let Self {
            release, machine, ..
        } = self;
        let mut lists = vec![
            self.directory.join("System.map"),
            machine.path(format!("/boot/System.map-{release}")),
            machine.path(format!("/lib/modules/{release}/System.map")),
            machine.path(format!("/usr/lib/debug/boot/System.map-{release}")),
        ];
        if machine
            .kernel_release()
            .is_ok_and(|running| running == *release)
        {
            lists.push(machine.path("/proc/kallsyms"));
        }
        lists.retain(|path| path.is_file());
        lists
    }

    /// The file of a module by its name; that of a package for debugging if there is one, as it was
    /// not stripped.
    ///
    /// # Errors
    ///
    /// The kernel has no such module.
    pub fn module(&self, name: &str) -> Result<PathBuf> {
        let Self {
            release, machine, ..
        } = self;
        let file = machine
            .module_file(release, name)
            .map_err(|error| format!("module {name}: {error}"))?
            .ok_or_else(|| {
                let list = self.installed().join("modules.dep");
                format!("{} has no module {name}: name its file", list.display())
            })?;
        let plain = file.rsplit_once(".ko").map_or(&*file, |(plain, _)| plain);
        let debug = format!("/usr/lib/debug/lib/modules/{release}/{plain}.ko");
        let debug = machine.path(debug);
        Ok(if debug.is_file() {
            debug
        } else {
            self.installed().join(file)
        })
    }
}

/// The name of the module in a file, compressed or not.
pub fn module_name(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let name = name.rsplit_once(".ko").map_or(&*name, |(name, _)| name);
    object_name(name)
}

/// Whether `module` is the build of the module `name` that is loaded, by their build IDs; [`None`] if
/// one of them has none.
pub fn is_loaded_build(machine: &Machine, name: &str, module: &Module) -> Option<bool> {
    let note = machine.path(format!("/sys/module/{name}/notes/.note.gnu.build-id"));
    Some(module.build_id_note()? == fs::read(note).ok()?)
}

/// The build ID of a vmlinux, if it has one.
fn build_id(path: &Path) -> Option<Vec<u8>> {
    let cache = ReadCache::new(fs::File::open(path).ok()?);
    let file = ElfFile64::<Endianness, _>::parse(&cache).ok()?;
    file.build_id().ok()?.map(Into::into)
}

/// The contents of a module's file, unpacked.
///
/// # Errors
///
/// The file cannot be read or unpacked.
pub fn read_module(file: &Path) -> std::result::Result<Vec<u8>, UnpackError> {
    klp_build::read_module(file, &program)
}

/// The module in a file, which may be packed.
///
/// # Errors
///
/// The file cannot be read or unpacked, or is no kernel module.
pub fn open_module(file: &Path) -> Result<Module> {
    let failed = |error: &dyn Display| format!("{}: {error}", file.display());
    let contents = read_module(file).map_err(|error| failed(&error))?;
    let module = Module::parse(&contents);
    Ok(module.map_err(|reason| failed(&format_args!("not a kernel module: {reason}")))?)
}

/// The command of a program of this machine.
pub fn program(name: &str) -> Command {
    Command::new(name)
}
