// SPDX-License-Identifier: GPL-2.0

//! Packages for rpm.

use klp_module::Architecture;
use rpm::{
    BuildConfig, CompressionType, Dependency, DependencyFlags, FileMode, FileOptions,
    PackageBuilder, Scriptlet,
};

use crate::{
    default_name, ends_with_kernel, scripts, Built, Error, Package, DIRECTORY, PROVIDES, TOOLS,
    TOOLS_VERSION,
};

/// Makes the package.
pub fn build(package: &Package) -> Result<Built, Error> {
    let patches = &package.patches;
    let name = match &package.name {
        Some(name) => name.clone(),
        None => default_name(patches.kernel(), '.', "_"),
    };
    check_name(&name)?;
    ends_with_kernel(&name, patches.kernel())?;
    let version = package.version.as_str();
    let release = package.release.as_str();
    let architecture = architecture(patches.architecture());
    let scripts = scripts::rpm(package, &name);
    let description = format!(
        "klp loads them when the package is installed, without a reboot, and at every boot of\n\
        that kernel; on other kernels nothing happens.\n\n{}",
        package.description().join("\n"),
    );

    let mut builder = PackageBuilder::new(
        &name,
        version,
        &patches.license(),
        architecture,
        &package.summary(),
    )
    // The one compression that every rpm has.
    .using_config(BuildConfig::v4().compression(CompressionType::Gzip))
    .release(release)
    .description(description)
    .vendor(package.maintainer.as_str())
    .source_date(package.date)
    .provides(Dependency::any(PROVIDES))
    .provides(Dependency::eq(&name, format!("{version}-{release}")))
    // No distribution has an rpm of it, and whoever has installed klp otherwise need make none. The
    // scripts say what happens without it.
    .recommends(Dependency::greater_eq(TOOLS, TOOLS_VERSION))
    .requires(Dependency {
        flags: DependencyFlags::SCRIPT_POST | DependencyFlags::SCRIPT_PREUN,
        ..Dependency::any(SHELL)
    })
    .post_trans_script(scriptlet(scripts.put_on))
    .pre_uninstall_script(scriptlet(scripts.take_off));
    // The upper one is that of all packages.
    for path in [DIRECTORY, &patches.directory()] {
        builder =
            builder.with_file_contents("", FileOptions::new(path).mode(FileMode::dir(0o755)))?;
    }
    for (path, data) in patches.files() {
        builder = builder
            .with_file_contents(data, FileOptions::new(path).mode(FileMode::regular(0o644)))?;
    }

    let mut data = Vec::new();
    builder.build()?.write(&mut data)?;
    Ok(Built {
        file_name: format!("{name}-{version}-{release}.{architecture}.rpm"),
        name,
        data,
    })
}

const SHELL: &str = "/bin/sh";

fn scriptlet(script: String) -> Scriptlet {
    Scriptlet::new(script).prog(vec![SHELL])
}

fn architecture(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Arm64 => "aarch64",
        Architecture::LoongArch64 => "loongarch64",
        Architecture::Ppc64le => "ppc64le",
        Architecture::S390x => "s390x",
        Architecture::X86_64 => "x86_64",
    }
}

/// The names that every distribution takes.
fn check_name(name: &str) -> Result<(), Error> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "+-._".contains(c);
    if name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(allowed) {
        return Ok(());
    }
    Err(Error::Name {
        name: name.into(),
        rule: "letters, digits, '+', '-', '.' and '_', the first a letter or digit",
    })
}
