// SPDX-License-Identifier: GPL-2.0

//! The installed patches: module files in a directory for each kernel, which are loaded at boot.
//!
//! Ours are in `/var/lib/klp`. Those of packages that `klp package` has made, in `/usr/lib/klp`, and
//! those that kpatch has installed, in `/var/lib/kpatch`, count too. Who changes anything there has
//! the [lock](crate::lock).

use std::{
    cmp::Ordering,
    fs,
    io::{self, Write},
    iter,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use crate::{Error, Machine, Result};

/// Where patches are installed.
pub const DIRECTORY: &str = "/var/lib/klp";
const PACKAGES_DIRECTORY: &str = "/usr/lib/klp";
const KPATCH_DIRECTORY: &str = "/var/lib/kpatch";

/// How the names of files begin that are not complete.
const TEMPORARY: &str = ".klp-";

/// An installed patch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The module's file.
    pub path: PathBuf,
    /// The release of the kernel that it is for.
    pub kernel_release: String,
}

impl Installed {
    /// The name of the file.
    pub fn file_name(&self) -> String {
        name_of(&self.path)
    }

    /// The name of the module, by that of the file.
    pub fn module_name(&self) -> String {
        module_name(&self.file_name())
    }
}

/// The name of the module in a file of this name: without a path and the ending, and with `_` for `-` and `,`.
pub fn module_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or_default();
    [".ko", ".ko.gz", ".ko.xz", ".ko.zst"]
        .iter()
        .find_map(|ending| name.strip_suffix(ending))
        .unwrap_or(name)
        .replace(['-', ','], "_")
}

/// The order of two names of modules, in which numbers count as such: `fix_9` comes before `fix_10`.
/// They have no ending, with which `fix_1.ko` would come before `fix.ko`.
pub fn by_version(a: &str, b: &str) -> Ordering {
    fn words(name: &str) -> impl Iterator<Item = (&str, &str)> {
        let mut rest = name;
        iter::from_fn(move || {
            let digits = rest
                .find(|c: char| c.is_ascii_digit())
                .unwrap_or(rest.len());
            let (text, after) = rest.split_at(digits);
            let end = after
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(after.len());
            let (number, after) = after.split_at(end);
            rest = after;
            (!text.is_empty() || !number.is_empty()).then_some((text, number))
        })
    }
    // Numbers of any size: of two without zeros in front, the longer one is greater.
    let keys = |name| {
        words(name).map(|(text, number)| {
            let number = number.trim_start_matches('0');
            (text, number.len(), number)
        })
    };
    keys(a).cmp(keys(b)).then_with(|| a.cmp(b))
}

/// The installed patches of a machine.
#[derive(Clone, Debug)]
pub struct Store {
    ours: PathBuf,
    packages: PathBuf,
    kpatch: PathBuf,
    has_kpatch_unit: bool,
}

impl Store {
    /// That of this machine.
    pub fn new(machine: &Machine) -> Self {
        Self {
            ours: machine.path(DIRECTORY),
            packages: machine.path(PACKAGES_DIRECTORY),
            kpatch: machine.path(KPATCH_DIRECTORY),
            has_kpatch_unit: machine.has_unit("kpatch.service"),
        }
    }

    /// The patches for this kernel, in the order in which they are loaded: that of their modules'
    /// names [by version](by_version). One that is in several places counts once.
    ///
    /// # Errors
    ///
    /// That of reading the directories; one that is not there is empty.
    pub fn patches(&self, kernel_release: &str) -> Result<Vec<Installed>> {
        self.patches_in(&[&self.ours, &self.packages, &self.kpatch], kernel_release)
    }

    /// The same, but for what `kpatch.service` loads at boot, if there is that unit: whoever disables
    /// it, or stops it by `kpatch.enable=0`, does not want these patches.
    ///
    /// # Errors
    ///
    /// As for [`patches`](Self::patches).
    pub fn patches_at_boot(&self, kernel_release: &str) -> Result<Vec<Installed>> {
        if self.has_kpatch_unit {
            self.patches_in(&[&self.ours, &self.packages], kernel_release)
        } else {
            self.patches(kernel_release)
        }
    }

    fn patches_in(&self, directories: &[&Path], kernel_release: &str) -> Result<Vec<Installed>> {
        let mut patches = self.files_in(directories, kernel_release)?;
        // It is stable: the place that comes first counts.
        patches.sort_by(|a, b| by_version(&a.module_name(), &b.module_name()));
        patches.dedup_by_key(|patch| patch.module_name());
        Ok(patches)
    }

    fn files_in(&self, directories: &[&Path], kernel_release: &str) -> Result<Vec<Installed>> {
        let mut files = vec![];
        for directory in directories {
            for path in entries(&directory.join(kernel_release))? {
                if path.extension().is_some_and(|ending| ending == "ko") {
                    files.push(Installed {
                        path,
                        kernel_release: kernel_release.into(),
                    });
                }
            }
        }
        Ok(files)
    }

    /// The patches for all kernels, in the order of these, then in that of loading.
    ///
    /// # Errors
    ///
    /// As for [`patches`](Self::patches).
    pub fn all_patches(&self) -> Result<Vec<Installed>> {
        let mut releases = [
            entries(&self.ours)?,
            entries(&self.packages)?,
            entries(&self.kpatch)?,
        ]
        .concat()
        .iter()
        .map(|path| name_of(path))
        .collect::<Vec<_>>();
        releases.sort();
        releases.dedup();
        let patches = releases.iter().map(|release| self.patches(release));
        Ok(patches.collect::<Result<Vec<_>>>()?.concat())
    }

    /// Finds a patch for this kernel by the name of its file or of its module.
    ///
    /// # Errors
    ///
    /// As for [`patches`](Self::patches).
    pub fn find(&self, kernel_release: &str, name: &str) -> Result<Option<Installed>> {
        Ok(self.copies(kernel_release, name)?.into_iter().next())
    }

    /// All files of this patch for this kernel: the one that counts, and those that would count
    /// without it.
    ///
    /// # Errors
    ///
    /// As for [`patches`](Self::patches).
    pub fn copies(&self, kernel_release: &str, name: &str) -> Result<Vec<Installed>> {
        let places = [&*self.ours, &*self.packages, &*self.kpatch];
        let mut files = self.files_in(&places, kernel_release)?;
        let name = module_name(name);
        files.retain(|file| file.module_name() == name);
        Ok(files)
    }

    /// Installs a module file with these contents for this kernel: wholly, on the disk itself, or
    /// not at all.
    ///
    /// # Errors
    ///
    /// That of writing: `EEXIST` if there is a file of this name, `ENOSPC`.
    pub fn install(&self, kernel_release: &str, file: &str, contents: &[u8]) -> Result<PathBuf> {
        let directory = self.ours.join(kernel_release);
        let path = directory.join(file);
        let installed = self.write(&directory, &path, contents);
        if installed.is_err() {
            self.remove_empty(&directory);
        }
        installed.map_err(|source| Error::File {
            path: path.clone(),
            source,
        })?;
        Ok(path)
    }

    fn write(&self, directory: &Path, path: &Path, contents: &[u8]) -> io::Result<()> {
        make_directories(directory)?;
        write_durably(directory, contents, |file| file.persist_noclobber(path))
    }

    /// Removes an installed patch, and the directories that are empty then.
    ///
    /// # Errors
    ///
    /// [`Error::Packaged`], or that of removing the file.
    pub fn uninstall(&self, patch: &Installed) -> Result<()> {
        if patch.path.starts_with(&self.packages) {
            return Err(Error::Packaged(patch.path.clone()));
        }
        let directory = patch.path.parent().unwrap_or(Path::new("/"));
        clean_up(directory);
        fs::remove_file(&patch.path)
            .and_then(|()| sync(directory))
            .map_err(|source| Error::File {
                path: patch.path.clone(),
                source,
            })?;
        self.remove_empty(directory);
        Ok(())
    }

    /// Removes a directory of a kernel, and the one above, if they are empty.
    fn remove_empty(&self, directory: &Path) {
        for directory in directory.ancestors().take(2) {
            // Most often it is not empty.
            if fs::remove_dir(directory).is_err() {
                return;
            }
        }
    }
}

/// Removes files that a program that was killed has not completed. The caller has the lock.
pub(crate) fn clean_up(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            // It is not in the way; the next one tries again.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Makes the directories of this path that are not there. Everybody may look into them, whatever the
/// umask is: what is installed is no secret, and klp list is for everybody.
pub(crate) fn make_directories(directory: &Path) -> io::Result<()> {
    let missing = directory.ancestors().take_while(|path| !path.exists());
    for path in missing.collect::<Vec<_>>().into_iter().rev() {
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => {
                result?;
                fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
            }
        }
    }
    Ok(())
}

/// Makes a file with these contents in `directory`, for everybody to read; `persist` gives it its name. What is there
/// afterwards has them, even if the machine dies. The caller has the lock.
pub(crate) fn write_durably<T>(
    directory: &Path,
    contents: &[u8],
    persist: impl FnOnce(NamedTempFile) -> std::result::Result<T, tempfile::PersistError>,
) -> io::Result<()> {
    clean_up(directory);
    let mut file = tempfile::Builder::new()
        .prefix(TEMPORARY)
        .tempfile_in(directory)?;
    file.write_all(contents)?;
    // The umask does not count for this.
    file.as_file()
        .set_permissions(fs::Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    persist(file).map_err(|error| error.error)?;
    sync(directory)
}

/// Sees that what has become of the names in a directory is on the disk.
pub(crate) fn sync(directory: &Path) -> io::Result<()> {
    fs::File::open(directory)?.sync_all()
}

pub(crate) fn name_of(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into())
        .unwrap_or_default()
}

/// What is in a directory, but for hidden files; nothing if there is no directory.
pub(crate) fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let failed = |source| Error::File {
        path: directory.into(),
        source,
    };
    let entries = match fs::read_dir(directory) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(vec![])
        }
        result => result.map_err(failed)?,
    };
    let mut paths = vec![];
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if !name_of(&path).starts_with('.') {
            paths.push(path);
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELEASE: &str = "7.3.4";

    fn with_store(test: impl FnOnce(&Path, &Store)) {
        let root = tempfile::tempdir().unwrap();
        for file in [
            "kpatch/7.3.4/b-fix.ko",
            "kpatch/7.3.4/a_fix.ko",
            "kpatch/7.3.4/notes.txt",
            "kpatch/7.2.9/old.ko",
            "klp/7.3.4/a-fix.ko",
            "klp/7.3.4/.klp-left",
            "klp/.boot/7.3.4/a-fix.ko",
            "klp/readme",
        ] {
            let path = root.path().join("var/lib").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let store = Store::new(&Machine::with_root(root.path()));
        test(&root.path().join("var/lib"), &store);
    }

    fn files(patches: &[Installed]) -> Vec<String> {
        patches.iter().map(Installed::file_name).collect()
    }

    #[test]
    fn both_places_count_and_ours_comes_first() {
        with_store(|lib, store| {
            let patches = store.patches(RELEASE).unwrap();
            assert_eq!(files(&patches), ["a-fix.ko", "b-fix.ko"]);
            assert_eq!(patches[0].path, lib.join("klp/7.3.4/a-fix.ko"));
            let all = store.all_patches().unwrap();
            assert_eq!(files(&all), ["old.ko", "a-fix.ko", "b-fix.ko"]);
            assert_eq!(all[0].kernel_release, "7.2.9");
        });
    }

    #[test]
    fn numbers_count_as_such() {
        let sorted = [
            "a",
            "a-1",
            "a-02",
            "a-2",
            "a-9",
            "a-10",
            "a-10a",
            "a-99999999999999999999",
            "a-100000000000000000000",
            "b-0",
            "b-1",
        ];
        let mut names = sorted;
        names.sort();
        assert_ne!(names, sorted);
        names.sort_by(|a, b| by_version(a, b));
        assert_eq!(names, sorted);
    }

    #[test]
    fn neither_the_ending_nor_dashes_change_the_order() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("var/lib/klp").join(RELEASE);
        fs::create_dir_all(&place).unwrap();
        let sorted = [
            "fix.ko",
            "fix-1.ko",
            "fix_9.ko",
            "fix-10.ko",
            "klp-7.0.ko",
            "klp-7.0.1.ko",
            "klp-7.0.1-2.ko",
        ];
        for file in sorted {
            fs::write(place.join(file), "").unwrap();
        }
        let store = Store::new(&Machine::with_root(root.path()));
        assert_eq!(files(&store.patches(RELEASE).unwrap()), sorted);
    }

    #[test]
    fn kpatch_loads_its_own_at_boot() {
        with_store(|lib, store| {
            let files = |store: &Store| files(&store.patches_at_boot(RELEASE).unwrap());
            assert_eq!(files(store), ["a-fix.ko", "b-fix.ko"]);
            let root = lib.join("../..");
            let [unit, mask] = ["usr/lib", "etc"]
                .map(|place| root.join(place).join("systemd/system/kpatch.service"));
            fs::create_dir_all(unit.parent().unwrap()).unwrap();
            fs::create_dir_all(mask.parent().unwrap()).unwrap();
            let store = || Store::new(&Machine::with_root(&root));
            fs::write(&unit, "[Service]").unwrap();
            assert_eq!(files(&store()), ["a-fix.ko"]);
            std::os::unix::fs::symlink("/dev/null", &mask).unwrap();
            assert_eq!(files(&store()), ["a-fix.ko"]);
            assert_eq!(store().patches(RELEASE).unwrap().len(), 2);
            // The mask is left of a package that is gone.
            fs::remove_file(&unit).unwrap();
            assert_eq!(files(&store()), ["a-fix.ko", "b-fix.ko"]);
        });
    }

    #[test]
    fn nothing_is_installed_where_there_is_no_directory() {
        let store = Store::new(&Machine::with_root(Path::new("/nowhere")));
        assert_eq!(store.all_patches().unwrap(), []);
        assert_eq!(store.find(RELEASE, "fix").unwrap(), None);
    }

    #[test]
    fn a_patch_is_found_by_file_or_module() {
        with_store(|_, store| {
            for name in ["b-fix.ko", "b_fix", "b-fix", "b_fix.ko"] {
                let patch = store.find(RELEASE, name).unwrap();
                assert_eq!(patch.unwrap().file_name(), "b-fix.ko", "{name}");
            }
            for name in ["fix", "b_fix.k", "old", "notes.txt", ""] {
                assert_eq!(store.find(RELEASE, name).unwrap(), None, "{name}");
            }
        });
    }

    #[test]
    fn installing_cleans_up_and_never_overwrites() {
        with_store(|lib, store| {
            let path = store.install(RELEASE, "c.ko", b"code").unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"code");
            assert!(!lib.join("klp/7.3.4/.klp-left").exists());
            let error = store.install(RELEASE, "c.ko", b"other").unwrap_err();
            assert!(error.to_string().contains("exists"), "{error}");
            assert_eq!(fs::read(&path).unwrap(), b"code");
            assert_eq!(fs::read_dir(lib.join("klp/7.3.4")).unwrap().count(), 2);
        });
    }

    #[test]
    fn what_fails_leaves_no_directory() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(&Machine::with_root(root.path()));
        let name = "x".repeat(300);
        assert!(store.install(RELEASE, &name, b"code").is_err());
        assert!(!root.path().join("var/lib/klp").exists());
    }

    #[test]
    fn packaged_patches_count_and_stay() {
        with_store(|lib, store| {
            let packages = lib.join("../../usr/lib/klp/7.3.4");
            fs::create_dir_all(&packages).unwrap();
            for file in ["a-fix.ko", "b_fix.ko", "c_fix.ko"] {
                fs::write(packages.join(file), "").unwrap();
            }
            let patches = store.patches(RELEASE).unwrap();
            assert_eq!(files(&patches), ["a-fix.ko", "b_fix.ko", "c_fix.ko"]);
            assert_eq!(patches[0].path, lib.join("klp/7.3.4/a-fix.ko"));
            assert!(store.all_patches().unwrap().contains(&patches[2]));
            let copies = store.copies(RELEASE, "a-fix").unwrap();
            // Ours, that of the package, and that of kpatch.
            assert_eq!(files(&copies), ["a-fix.ko", "a-fix.ko", "a_fix.ko"]);
            assert_eq!(copies[0], patches[0]);
            assert_eq!(store.copies(RELEASE, "old").unwrap(), []);
            let error = store.uninstall(&patches[2]).unwrap_err();
            assert!(matches!(error, Error::Packaged(_)), "{error}");
            assert!(patches[2].path.exists());
        });
    }

    #[test]
    fn uninstalling_removes_empty_directories() {
        with_store(|lib, store| {
            let patch = store.find("7.2.9", "old").unwrap().unwrap();
            store.uninstall(&patch).unwrap();
            assert!(!lib.join("kpatch/7.2.9").exists());
            assert!(lib.join("kpatch").exists());
            assert!(store.uninstall(&patch).is_err());
        });
    }
}
