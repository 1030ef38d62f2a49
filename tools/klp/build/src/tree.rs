// SPDX-License-Identifier: GPL-2.0

//! What is kept between builds for a kernel: a second tree of its source to be patched, `objtool`
//! with `klp`, and the kernel as it lies in memory.

use std::{
    fmt::Write,
    fs::{self, File},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::{
    boot,
    error::{in_file, Result},
    image::Image,
    kernel::Kernel,
    patch::Patched,
    tools::{lock, Tools},
};

/// What a directory is made by; it changes with everything that would make it differently.
const RECIPE: &str = "2";

/// The list of files in the second tree that are not those of the source.
const CHANGED: &str = "changed";

/// A directory of the cache for a kernel, locked while it is in use.
pub(crate) struct Tree {
    directory: PathBuf,
    _lock: File,
}

impl Tree {
    /// The directory for a kernel, made if it is not there. It is named by everything that
    /// compiling depends on: release, configuration with the compiler's version, and source.
    pub(crate) fn prepare(tools: &Tools, kernel: &Kernel, say: &dyn Fn(&str)) -> Result<Self> {
        let mut hash = Sha256::new();
        for part in [
            RECIPE.as_bytes(),
            kernel.release.as_bytes(),
            kernel.config().as_bytes(),
            kernel.source.as_os_str().as_encoded_bytes(),
            kernel.build.as_os_str().as_encoded_bytes(),
            // A kernel that is built here again is another one.
            &fs::read(kernel.build.join(".complete")).unwrap_or_default(),
            &kernel.image_age(),
        ] {
            hash.update(part);
            hash.update([0]);
        }
        let key = hash.finalize()[..6]
            .iter()
            .fold(String::new(), |mut key, byte| {
                // Writing to a string does not fail.
                let _ = write!(key, "{byte:02x}");
                key
            });
        let directory = tools.cache()?.join("klp-build").join(key);
        fs::create_dir_all(&directory).map_err(in_file(&directory))?;
        let tree = Self {
            _lock: lock(&directory.join("lock"))?,
            directory,
        };
        tools.log_to(&tree.path("log"))?;
        if !tree.path("complete").exists() {
            say("Preparing to build for this kernel (once)");
            tree.make(tools, kernel)?;
            let complete = tree.path("complete");
            fs::write(&complete, &kernel.release).map_err(in_file(&complete))?;
        }
        Ok(tree)
    }

    fn make(&self, tools: &Tools, kernel: &Kernel) -> Result<()> {
        tools.install()?;
        let objtool = self.path("objtool");
        fs::create_dir_all(&objtool).map_err(in_file(&objtool))?;
        let mut command = tools.program(&self.directory, "make");
        command
            .arg("-s")
            .arg("-C")
            .arg(kernel.source.join("tools/objtool"))
            .arg(format!("O={}", objtool.display()))
            .arg(format!("srctree={}", kernel.source.display()));
        tools.run("building objtool", &mut command)?;

        let image = kernel.images();
        let image = image.first().ok_or_else(|| {
            format!(
                "the image of {} is not there: install linux-image-{}",
                kernel.release, kernel.release
            )
        })?;
        let data = boot::unpacked(image, &|program| tools.program(&self.directory, program))
            .map_err(|error| format!("{}: {error}", image.display()))?;
        let unpacked = self.path("image");
        fs::write(&unpacked, data).map_err(in_file(&unpacked))?;

        let source = self.source();
        if source.exists() {
            fs::remove_dir_all(&source).map_err(in_file(&source))?;
        }
        let mut command = tools.program(&self.directory, "sh");
        // Links to the files are enough, as patching replaces a file; they need the same file system.
        command
            .args([
                "-euc",
                "cp -al \"$1\" \"$2\" || { rm -rf \"$2\"; cp -a \"$1\" \"$2\"; }",
                "sh",
            ])
            .arg(&kernel.source)
            .arg(&source);
        tools.run("making a second tree of the source", &mut command)?;
        Ok(())
    }

    /// A file or directory in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The tree of the source that is patched.
    pub(crate) fn source(&self) -> PathBuf {
        self.path("source")
    }

    /// The program `objtool`.
    pub(crate) fn objtool(&self) -> PathBuf {
        self.path("objtool/objtool")
    }

    /// The kernel as it lies in memory.
    pub(crate) fn image(&self) -> Result<Image> {
        let path = self.path("image");
        let data = fs::read(&path).map_err(in_file(&path))?;
        Image::parse(data).map_err(|error| format!("{}: {error}", path.display()).into())
    }

    /// An empty directory for the files of a build.
    pub(crate) fn work(&self) -> Result<PathBuf> {
        let work = self.path("work");
        if work.exists() {
            fs::remove_dir_all(&work).map_err(in_file(&work))?;
        }
        fs::create_dir(&work).map_err(in_file(&work))?;
        Ok(work)
    }

    /// Puts the patched files into the second tree.
    pub(crate) fn put(&self, kernel: &Kernel, patched: &Patched) -> Result<()> {
        self.restore(kernel)?;
        let list = self.path(CHANGED);
        fs::write(&list, patched.files.join("\n")).map_err(in_file(&list))?;
        for file in &patched.files {
            replace(&patched.directory.join(file), &self.source().join(file))?;
        }
        Ok(())
    }

    /// Takes what an earlier build has put there away again.
    fn restore(&self, kernel: &Kernel) -> Result<()> {
        let list = self.path(CHANGED);
        let Ok(files) = fs::read_to_string(&list) else {
            return Ok(());
        };
        for file in files.lines() {
            replace(&kernel.source.join(file), &self.source().join(file))?;
        }
        fs::remove_file(&list).map_err(in_file(&list))
    }
}

/// Replaces a file, at once, and leaves other links to it alone.
fn replace(from: &Path, to: &Path) -> Result<()> {
    let new = to.with_extension("klp-build-new");
    fs::copy(from, &new).map_err(in_file(from))?;
    fs::rename(&new, to).map_err(in_file(to))
}
