// SPDX-License-Identifier: GPL-2.0

//! The kernel that is to be patched: its source, configuration and image.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{
    error::{in_file, Error, Refusal, Result, FULL_WAY},
    image::Image,
    tools::Tools,
};

/// Options without which live patches cannot be built.
const NEEDED: [&str; 3] = ["LIVEPATCH", "KLP_BUILD", "X86_64"];

/// Options with which two compilations of one file differ, or sections go; the kernel's klp-build
/// refuses the first three too. With link-time optimisation there are no objects to compare.
const UNSUITABLE: [&str; 4] = [
    "GCC_PLUGIN_LATENT_ENTROPY",
    "GCC_PLUGIN_RANDSTRUCT",
    "LD_DEAD_CODE_DATA_ELIMINATION",
    "LTO_CLANG",
];

/// A kernel that `scripts/kernel` has prepared or built.
pub struct Kernel {
    /// The directory that it was prepared or built in.
    pub build: PathBuf,
    /// Its source.
    pub source: PathBuf,
    /// Its release, as `uname -r` prints it.
    pub release: String,
    config: String,
    /// Whether it was asked for as the one that this machine runs.
    running: bool,
}

impl Kernel {
    /// The kernel that the project's scripts find or prepare.
    ///
    /// # Errors
    ///
    /// There is none, or its configuration does not suit.
    pub fn find(tools: &Tools) -> Result<Self> {
        let mut command = tools.script("kernel");
        command.arg("--print-source");
        let output = tools.run("preparing the kernel", &mut command)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut lines = text.lines();
        match (lines.next(), lines.next()) {
            (Some(build), Some(source)) if !source.is_empty() => {
                let mut kernel = Self::open(Path::new(build), Path::new(source))?;
                kernel.running = tools.finds_running(Path::new(build))?;
                Ok(kernel)
            }
            _ => Err(
                "the kernel's source is not known: a kernel that this machine runs must be one \
                      of Debian's, or be prepared with KERNEL=build"
                    .into(),
            ),
        }
    }

    /// The kernel in a build directory.
    ///
    /// # Errors
    ///
    /// It is none, or its configuration does not suit.
    pub fn open(build: &Path, source: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = build.join(name);
            fs::read_to_string(&path).map_err(in_file(&path))
        };
        let kernel = Self {
            build: build.canonicalize().map_err(in_file(build))?,
            source: source.canonicalize().map_err(in_file(source))?,
            release: read("include/config/kernel.release")?.trim_end().into(),
            config: read(".config")?,
            running: false,
        };
        kernel.check()?;
        Ok(kernel)
    }

    /// A kernel with this configuration, for tests.
    #[cfg(test)]
    pub(crate) fn of(config: &str) -> Self {
        Self {
            build: "/build".into(),
            source: "/source".into(),
            release: "7.3.4-test".into(),
            config: config.into(),
            running: false,
        }
    }

    fn check(&self) -> Result<()> {
        let release = &self.release;
        if let Some(option) = NEEDED.iter().find(|name| !self.is_set(name)) {
            return Err(
                format!("{release} was built without {option}, which live patches need").into(),
            );
        }
        if let Some(option) = UNSUITABLE.iter().find(|name| self.is_set(name)) {
            let way_out = match *option {
                "LTO_CLANG" => FULL_WAY,
                _ => "write the patch by hand (klp new)",
            };
            return Err(Refusal::new(
                release,
                format!("it was built with {option}"),
                "with this option, objects cannot be compared with those of the kernel",
                way_out,
            )
            .into());
        }
        if self.build.starts_with(&self.source) {
            return Err(format!(
                "{}: build the kernel outside of its source (O=)",
                self.build.display()
            )
            .into());
        }
        Ok(())
    }

    /// The value of an option, without quotation marks.
    pub(crate) fn option(&self, name: &str) -> Option<&str> {
        self.config.lines().find_map(|line| {
            let value = line.strip_prefix("CONFIG_")?.strip_prefix(name)?;
            Some(value.strip_prefix('=')?.trim_matches('"'))
        })
    }

    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.option(name) == Some("y")
    }

    /// Its whole configuration.
    pub(crate) fn config(&self) -> &str {
        &self.config
    }

    /// What has to be LOCALVERSION so that make does not change the release.
    pub(crate) fn local_version(&self) -> Result<String> {
        let path = self.source.join("Makefile");
        let makefile = fs::read_to_string(&path).map_err(in_file(&path))?;
        let value = |name: &str| {
            let mut lines = makefile.lines();
            lines.find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(" =")?.trim()))
        };
        let part = |name| value(name).unwrap_or_default();
        let version = format!(
            "{}.{}.{}{}{}",
            part("VERSION"),
            part("PATCHLEVEL"),
            part("SUBLEVEL"),
            part("EXTRAVERSION"),
            self.option("LOCALVERSION").unwrap_or_default(),
        );
        let rest = self.release.strip_prefix(&version);
        rest.map(Into::into).ok_or_else(|| {
            Error::Failed(format!(
                "{} is the source of {version}, and the kernel is {}",
                self.source.display(),
                self.release
            ))
        })
    }

    /// The files that can have the kernel as it lies in memory, best first: plain, or to be booted.
    pub(crate) fn images(&self) -> Vec<PathBuf> {
        let release = &self.release;
        let mut images = vec![
            self.build.join("vmlinux"),
            self.build.join("arch/x86/boot/bzImage"),
            PathBuf::from(format!("/boot/vmlinuz-{release}")),
            PathBuf::from(format!("/lib/modules/{release}/vmlinuz")),
        ];
        images.retain(|path| path.is_file());
        images
    }

    /// Whether this machine runs it, or should: it was asked for as such.
    pub(crate) fn is_running(&self) -> bool {
        let release = rustix::system::uname();
        self.running && release.release().to_bytes() == self.release.as_bytes()
    }

    /// Refuses an image that is not of the kernel that runs, of which these are the notes
    /// (`/sys/kernel/notes`).
    pub(crate) fn check_build(&self, image: &Image, notes: &[u8]) -> Result<()> {
        let Some(id) = image.build_id().filter(|id| !id.is_empty()) else {
            return Err(format!(
                "the image of {} has no build ID, by which it could be compared with the kernel \
                 that runs",
                self.release
            )
            .into());
        };
        // The notes have others beside the build ID.
        if notes.windows(id.len()).any(|window| window == id) {
            return Ok(());
        }
        Err(format!(
            "the kernel that runs is another build of {} than the one that is installed, by their \
             build IDs: boot the installed one, or name the one that is meant with --kernel",
            self.release
        )
        .into())
    }

    /// The size of the image and when it was written, which tell one that was built again.
    pub(crate) fn image_age(&self) -> Vec<u8> {
        let Some(image) = self.images().into_iter().next() else {
            return Vec::new();
        };
        let Ok(image) = image.metadata() else {
            return Vec::new();
        };
        [
            image.size(),
            image.mtime() as u64,
            image.mtime_nsec() as u64,
        ]
        .map(u64::to_le_bytes)
        .concat()
    }

    /// The file of a module by its path in the build directory, without suffix.
    pub(crate) fn module(&self, module: &str) -> Option<PathBuf> {
        let installed = format!("lib/modules/{}/kernel/{module}.ko", self.release);
        let places = [
            self.build.join(format!("{module}.ko")),
            self.build.join("image").join(&installed),
            Path::new("/").join(&installed),
        ];
        let mut files = places.iter().flat_map(|place| {
            let compressed = ["", ".xz", ".zst", ".gz"];
            compressed.map(|suffix| PathBuf::from(format!("{}{suffix}", place.display())))
        });
        files.find(|file| file.is_file())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "CONFIG_LIVEPATCH=y\nCONFIG_KLP_BUILD=y\nCONFIG_X86_64=y\n";

    #[test]
    fn options() {
        let kernel = Kernel::of("CONFIG_A=y\nCONFIG_AB=\"text\"\n# CONFIG_C is not set\n");
        assert!(kernel.is_set("A") && !kernel.is_set("AB") && !kernel.is_set("C"));
        assert_eq!(kernel.option("AB"), Some("text"));
    }

    #[test]
    fn another_build_runs() {
        let kernel = Kernel::of(GOOD);
        let image = |id: &[u8]| Image::of(&[], &[]).with_build_id(id);
        assert!(kernel.check_build(&image(b"1234"), b"xx1234xx").is_ok());
        let message = |id| {
            let error = kernel.check_build(&image(id), b"xx1234xx");
            error.unwrap_err().to_string()
        };
        assert!(
            message(b"1235").starts_with("the kernel that runs is another build of 7.3.4-test ")
        );
        assert!(message(b"").starts_with("the image of 7.3.4-test has no build ID"));
    }

    #[test]
    fn kernels_that_do_not_suit() {
        assert!(Kernel::of(GOOD).check().is_ok());
        let message = |config: &str| Kernel::of(config).check().unwrap_err().to_string();
        let without = GOOD.replace("CONFIG_KLP_BUILD=y", "");
        assert_eq!(
            message(&without),
            "7.3.4-test was built without KLP_BUILD, which live patches need"
        );
        let with = format!("{GOOD}CONFIG_GCC_PLUGIN_RANDSTRUCT=y\n");
        let said = message(&with);
        assert!(said.starts_with("7.3.4-test: it was built with GCC_PLUGIN_RANDSTRUCT\n"));
        assert!(said.ends_with("\n    way out  write the patch by hand (klp new)"));
        let said = message(&format!("{GOOD}CONFIG_LTO_CLANG=y\n"));
        assert!(said.ends_with(&format!("\n    way out  {FULL_WAY}")));
    }
}
