// SPDX-License-Identifier: GPL-2.0

//! Packages for dpkg: deb(5), an ar archive of two tar archives.

use std::io::{self, Write};

use flate2::{write::GzEncoder, Compression};
use klp_module::Architecture;
use md5::{Digest, Md5};
use tar::{Builder, EntryType, Header};

use crate::{
    default_name, ends_with_kernel, scripts, Built, Error, Package, PROVIDES, TOOLS, TOOLS_VERSION,
};

/// A tar archive, compressed.
struct Archive {
    tar: Builder<GzEncoder<Vec<u8>>>,
    date: u32,
}

impl Archive {
    fn new(date: u32) -> Self {
        Self {
            tar: Builder::new(GzEncoder::new(Vec::new(), Compression::best())),
            date,
        }
    }

    /// Adds a file of root, or a directory with `data` empty. The path is relative.
    fn add(&mut self, kind: EntryType, path: &str, mode: u32, data: &[u8]) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(self.date.into());
        header.set_uid(0);
        header.set_gid(0);
        header.set_username("root")?;
        header.set_groupname("root")?;
        header.set_size(data.len() as u64);
        self.tar.append_data(&mut header, path, data)
    }

    fn file(&mut self, path: &str, mode: u32, data: &[u8]) -> io::Result<()> {
        self.add(EntryType::Regular, path, mode, data)
    }

    fn directory(&mut self, path: &str) -> io::Result<()> {
        self.add(EntryType::Directory, path, 0o755, &[])
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        self.tar.into_inner()?.finish()
    }
}

/// Makes the package.
pub fn build(package: &Package) -> Result<Built, Error> {
    let name = match &package.name {
        Some(name) => name.clone(),
        None => default_name(package.patches.kernel(), '_', "-").to_lowercase(),
    };
    check_name(&name)?;
    ends_with_kernel(&name, package.patches.kernel())?;
    let version = format!("{}-{}", package.version.as_str(), package.release.as_str());
    let architecture = architecture(package.patches.architecture());

    let mut files = package
        .patches
        .files()
        .map(|(path, data)| (path, data.to_vec()))
        .collect::<Vec<_>>();
    files.push((
        format!("/usr/share/doc/{name}/copyright"),
        copyright(package, &name).into_bytes(),
    ));

    let mut contents = Archive::new(package.date);
    let mut sums = String::new();
    for directory in directories(files.iter().map(|(path, _)| path.as_str())) {
        contents.directory(&directory)?;
    }
    for (path, data) in &files {
        let path = path.trim_start_matches('/');
        contents.file(path, 0o644, data)?;
        sums += &format!("{:x}  {path}\n", Md5::digest(data));
    }

    // The convention: each file fills whole blocks, and what is not a file counts as one.
    let installed_size = files
        .iter()
        .map(|(_, data)| data.len().div_ceil(1024))
        .sum::<usize>();
    let scripts = scripts::deb(package, &name);
    let mut control = Archive::new(package.date);
    let description = package.description().join("\n  ");
    let fields = format!(
        "Package: {name}
Version: {version}
Architecture: {architecture}
Maintainer: {}
Installed-Size: {installed_size}
Depends: {TOOLS} (>= {TOOLS_VERSION})
Provides: {PROVIDES}
Section: kernel
Priority: optional
Description: {}
 They are loaded when the package is installed, without a reboot, and at every
 boot of that kernel; on other kernels nothing happens.
 .
  {description}
",
        package.maintainer.as_str(),
        package.summary(),
    );
    control.file("control", 0o644, fields.as_bytes())?;
    control.file("md5sums", 0o644, sums.as_bytes())?;
    control.file("postinst", 0o755, scripts.put_on.as_bytes())?;
    control.file("prerm", 0o755, scripts.take_off.as_bytes())?;

    let mut data = b"!<arch>\n".to_vec();
    member(&mut data, "debian-binary", package.date, b"2.0\n")?;
    member(
        &mut data,
        "control.tar.gz",
        package.date,
        &control.finish()?,
    )?;
    member(&mut data, "data.tar.gz", package.date, &contents.finish()?)?;
    Ok(Built {
        file_name: format!("{name}_{version}_{architecture}.deb"),
        name,
        data,
    })
}

/// Adds a member to an ar archive: a line of 60 bytes, and the data, padded to an even length.
fn member(archive: &mut Vec<u8>, name: &str, date: u32, data: &[u8]) -> io::Result<()> {
    let size = data.len();
    writeln!(
        archive,
        "{name:<16}{date:<12}{:<6}{:<6}{:<8}{size:<10}`",
        0, 0, 100644
    )?;
    archive.extend_from_slice(data);
    if size % 2 != 0 {
        archive.push(b'\n');
    }
    Ok(())
}

/// All directories above the files, each before what is in it.
fn directories<'a>(paths: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut directories = Vec::new();
    for path in paths {
        for (index, _) in path.match_indices('/') {
            let directory = format!("./{}", path[..=index].trim_start_matches('/'));
            if !directories.contains(&directory) {
                directories.push(directory);
            }
        }
    }
    directories
}

fn architecture(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Arm64 => "arm64",
        Architecture::LoongArch64 => "loong64",
        Architecture::Ppc64le => "ppc64el",
        Architecture::S390x => "s390x",
        Architecture::X86_64 => "amd64",
    }
}

/// What Debian's policy says of names.
fn check_name(name: &str) -> Result<(), Error> {
    let simple = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let allowed = |c: char| simple(c) || "+-.".contains(c);
    if name.len() >= 2 && name.starts_with(simple) && name.chars().all(allowed) {
        return Ok(());
    }
    Err(Error::Name {
        name: name.into(),
        rule: "two or more small letters, digits, '+', '-' and '.', the first a letter or digit",
    })
}

fn copyright(package: &Package, name: &str) -> String {
    format!(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: {name}

Files: *
Copyright: the authors of Linux and of the patches
License: {license}

License: {license}
 The modules are derived from Linux {kernel}, and say of themselves that this is
 their licence. The text of version 2 of the GNU General Public License is in
 /usr/share/common-licenses/GPL-2.
",
        kernel = package.patches.kernel(),
        license = package.patches.license(),
    )
}
