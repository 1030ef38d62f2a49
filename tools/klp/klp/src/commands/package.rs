// SPDX-License-Identifier: GPL-2.0

//! `klp package`: makes a package of patch modules, for dpkg or rpm.

use std::{
    env, fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::UNIX_EPOCH,
};

use clap::Args;
use klp_package::{Built, Format, Package, Patches, Text, Word};
use serde::Serialize;

use super::{print, Result};
use crate::{context::Context, json};

/// Make a package of one or more patch modules, for dpkg or rpm.
///
/// All modules must be for one kernel. The package loads them when it is installed, if that kernel
/// is running, and klp does at each of its boots; on other kernels nothing happens. Removing the
/// package takes the patches off. The files are packaged as they are, with their signatures.
///
/// A newer version of the package is loaded before the older one goes, so that no task is without
/// a patch if the newer patch is cumulative. For that, the modules of each version need names of
/// their own; and if there are several in a package, they must not replace each other (.replace),
/// which their files do not tell.
///
/// klp has to be on the machine where the package is installed. For dpkg, the package depends on
/// livepatch-tools. There is no rpm of that: the program as /usr/bin/klp and its units are
/// installed by hand, as README.md says. Without them, the package puts the files in place and says
/// that they are not loaded.
///
/// Prints the name of each package's file. The same modules and options make the same package,
/// byte for byte. Its date is that of the newest module, or SOURCE_DATE_EPOCH in the environment.
#[derive(Args)]
pub struct Arguments {
    /// The modules. They are loaded in the order of their names, as at boot: fix-9 comes before fix-10.
    #[arg(required = true, value_name = "FILE")]
    modules: Vec<PathBuf>,

    /// Make a package for dpkg.
    #[arg(long, required_unless_present = "rpm")]
    deb: bool,

    /// Make a package for rpm.
    #[arg(long)]
    rpm: bool,

    /// The package's name; by default klp-patch- and the kernel's release. It must end with
    /// this release. Packages of different names do not replace each other.
    #[arg(long)]
    name: Option<String>,

    /// The package's version; by default that of the first module that has one, else 1.
    #[arg(long)]
    version: Option<Word>,

    /// The package's release: counts the packages of one version.
    #[arg(long, default_value = "1")]
    release: Word,

    /// Who answers for the package.
    #[arg(
        long,
        value_name = "NAME <ADDRESS>",
        default_value = "klp <root@localhost>"
    )]
    maintainer: Text,

    /// The directory for the packages; by default the current one.
    #[arg(
        long,
        value_name = "DIRECTORY",
        default_value = ".",
        hide_default_value = true
    )]
    output: PathBuf,
}

/// The answer in JSON.
#[derive(Serialize)]
struct Answer<'a> {
    packages: Vec<AnsweredPackage<'a>>,
}

/// A package in [`Answer`].
#[derive(Serialize)]
struct AnsweredPackage<'a> {
    /// `deb` or `rpm`.
    format: &'static str,
    name: &'a str,
    version: &'a str,
    release: &'a str,
    /// The release of the kernel that the patches are for.
    kernel: &'a str,
    /// The modules' names.
    patches: Vec<&'a str>,
    file: PathBuf,
}

/// Makes the packages: all that were asked for, or none.
pub fn run(arguments: &Arguments, context: &Context) -> Result {
    let patches = Patches::open(&arguments.modules)?;
    let package = Package {
        name: arguments.name.clone(),
        version: match &arguments.version {
            Some(version) => version.clone(),
            None => version(&patches)?,
        },
        release: arguments.release.clone(),
        maintainer: arguments.maintainer.clone(),
        date: date(&patches)?,
        patches,
    };
    let formats = [(arguments.deb, Format::Deb), (arguments.rpm, Format::Rpm)];
    let built = formats
        .into_iter()
        .filter(|(wanted, _)| *wanted)
        .map(|(_, format)| Ok((format, package.build(format)?)))
        .collect::<Result<Vec<_>>>()?;

    let mut answer = Answer {
        packages: Vec::new(),
    };
    for (format, built) in &built {
        answer.packages.push(AnsweredPackage {
            format: match format {
                Format::Deb => "deb",
                Format::Rpm => "rpm",
            },
            name: &built.name,
            version: package.version.as_str(),
            release: package.release.as_str(),
            kernel: package.patches.kernel(),
            patches: package
                .patches
                .modules()
                .map(|module| module.name())
                .collect(),
            file: write(&arguments.output, built)?,
        });
    }
    if context.json {
        json::print("package", &answer)?;
    } else {
        for package in &answer.packages {
            print(&format!("{}\n", package.file.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The version that a module has, else 1.
fn version(patches: &Patches) -> Result<Word> {
    let version = patches.modules().find_map(|module| module.info("version"));
    let version = version.unwrap_or("1");
    version.parse().map_err(|rule| {
        format!("the module's version {version:?} cannot be that of a package, give one: {rule}")
            .into()
    })
}

/// The date of the package, in seconds since 1970.
fn date(patches: &Patches) -> Result<u32> {
    const VARIABLE: &str = "SOURCE_DATE_EPOCH";
    match env::var_os(VARIABLE) {
        Some(value) => value
            .to_str()
            .and_then(|value| value.parse().ok())
            .ok_or_else(|| format!("{VARIABLE} is no number of seconds since 1970").into()),
        None => Ok(patches
            .modified()
            .duration_since(UNIX_EPOCH)?
            .as_secs()
            .try_into()?),
    }
}

/// Writes a package into the directory, at once or not at all.
fn write(directory: &Path, built: &Built) -> Result<PathBuf> {
    let path = directory.join(&built.file_name);
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut file = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(directory)
        .map_err(failed)?;
    file.write_all(&built.data).map_err(failed)?;
    file.persist(&path).map_err(|error| failed(error.error))?;
    Ok(path)
}
