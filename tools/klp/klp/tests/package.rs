// SPDX-License-Identifier: GPL-2.0

//! Makes packages of small modules, and reads them with dpkg-deb and the rpm crate. They are
//! installed in the virtual machine.

// Each test file uses another part of it.
#[path = "../../convert/tests/module/mod.rs"]
mod module;

use std::{
    fs,
    io::Cursor,
    os::unix::fs::{symlink, PermissionsExt},
    path::Path,
    process::{Command, Output},
};

use module::{Module, SHF_ALLOC, SHT_PROGBITS};

const KERNEL: &str = "7.3.4+deb13-amd64";
const DATE: &str = "1700000000";

/// A module with this name and these entries in `.modinfo`, with something behind it as if signed.
fn module(name: &str, info: &[&str]) -> Vec<u8> {
    let mut module = Module::default();
    let info = info
        .iter()
        .map(|entry| format!("{entry}\0"))
        .collect::<String>();
    module.section(".modinfo", SHT_PROGBITS, SHF_ALLOC, info.as_bytes());
    let this = [&[0; 24], name.as_bytes(), &[0; 64]].concat();
    module.section(".gnu.linkonce.this_module", SHT_PROGBITS, SHF_ALLOC, &this);
    [module.build().as_slice(), b"~Module signature appended~\n"].concat()
}

/// A live patch for [`KERNEL`].
fn patch(name: &str, more: &[&str]) -> Vec<u8> {
    let vermagic = format!("vermagic={KERNEL} SMP mod_unload ");
    module(
        name,
        &[&["license=GPL", "livepatch=Y", &vermagic], more].concat(),
    )
}

/// A directory with these files.
fn directory(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, contents) in files {
        fs::write(directory.path().join(name), contents).unwrap();
    }
    directory
}

fn run(directory: &Path, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_klp"))
        .arg("package")
        .args(arguments.split(' '))
        .current_dir(directory)
        .env("SOURCE_DATE_EPOCH", DATE)
        .output()
        .unwrap()
}

/// Its standard output, of a command that succeeds.
fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn made(directory: &Path, arguments: &str) -> Vec<u8> {
    let output = run(directory, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert_eq!(errors, "");
    let name = String::from_utf8(output.stdout).unwrap();
    fs::read(directory.join(name.trim_end())).unwrap()
}

/// The only line that a command says when it fails with this status.
fn error(directory: &Path, arguments: &str) -> String {
    let output = run(directory, arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments}");
    assert!(output.stdout.is_empty(), "{arguments}");
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(errors.lines().count(), 1, "{errors}");
    errors.trim_end().into()
}

#[test]
fn a_deb_has_everything() {
    let fix = patch("fix_2", &["description=Two\nlines", "version=2.1"]);
    let directory = directory(&[("b.ko", fix.clone()), ("a.ko", patch("fix_1", &[]))]);
    let directory = directory.path();
    let name = format!("./klp-patch-{KERNEL}_2.1-1_amd64.deb");
    let answer = output(
        Command::new(env!("CARGO_BIN_EXE_klp"))
            .args(["package", "b.ko", "a.ko", "--deb"])
            .current_dir(directory)
            .env("SOURCE_DATE_EPOCH", DATE),
    );
    assert_eq!(answer, format!("{name}\n"));

    let dpkg = |action: &str, more: &[&str]| {
        let mut command = Command::new("dpkg-deb");
        output(
            command
                .args([action, &name])
                .args(more)
                .current_dir(directory),
        )
    };
    assert_eq!(
        dpkg("--field", &[]),
        format!(
            "Package: klp-patch-{KERNEL}
Version: 2.1-1
Architecture: amd64
Maintainer: klp <root@localhost>
Installed-Size: 3
Depends: livepatch-tools (>= {})
Provides: klp-patch
Section: kernel
Priority: optional
Description: live patches of Linux {KERNEL}
 They are loaded when the package is installed, without a reboot, and at every
 boot of that kernel; on other kernels nothing happens.
 .
  fix_1
  fix_2: Two lines
",
            env!("CARGO_PKG_VERSION")
        )
    );
    let contents = dpkg("--contents", &[]);
    let modes = contents
        .lines()
        .map(|line| {
            let words = line.split_whitespace().collect::<Vec<_>>();
            assert_eq!(words[3], "2023-11-14", "{line}");
            format!("{} {} {}", words[0], words[1], words[5])
        })
        .collect::<Vec<_>>();
    let doc = format!("usr/share/doc/klp-patch-{KERNEL}/");
    let expected = [
        "drwxr-xr-x root/root ./".into(),
        "drwxr-xr-x root/root usr/".into(),
        "drwxr-xr-x root/root usr/lib/".into(),
        "drwxr-xr-x root/root usr/lib/klp/".into(),
        format!("drwxr-xr-x root/root usr/lib/klp/{KERNEL}/"),
        "drwxr-xr-x root/root usr/share/".into(),
        "drwxr-xr-x root/root usr/share/doc/".into(),
        format!("drwxr-xr-x root/root {doc}"),
        format!("-rw-r--r-- root/root usr/lib/klp/{KERNEL}/fix_1.ko"),
        format!("-rw-r--r-- root/root usr/lib/klp/{KERNEL}/fix_2.ko"),
        format!("-rw-r--r-- root/root {doc}copyright"),
    ];
    assert_eq!(modes, expected);

    dpkg("--raw-extract", &["tree"]);
    let tree = directory.join("tree");
    let sums = tree.join("DEBIAN/md5sums");
    let checked = output(
        Command::new("md5sum")
            .arg("-c")
            .arg(sums)
            .current_dir(&tree),
    );
    assert_eq!(checked.matches(": OK").count(), 3, "{checked}");
    let unpacked = tree.join(format!("usr/lib/klp/{KERNEL}/fix_2.ko"));
    assert_eq!(fs::read(unpacked).unwrap(), fix);
    for script in ["postinst", "prerm"] {
        let path = tree.join("DEBIAN").join(script);
        output(Command::new("sh").arg("-n").arg(&path));
        let text = fs::read_to_string(path).unwrap();
        assert!(text.contains("\npatches='fix_1 fix_2'\n"), "{text}");
    }
}

#[test]
fn an_rpm_has_everything() {
    let fix = patch("fix", &[]);
    let directory = directory(&[("fix.ko", fix.clone())]);
    let data = made(
        directory.path(),
        "fix.ko --rpm --version 3 --release 2.el10 --maintainer Ada",
    );
    let package = rpm::Package::parse(&mut Cursor::new(&data)).unwrap();
    package.verify_digests().unwrap();
    let metadata = &package.metadata;
    assert_eq!(metadata.get_name().unwrap(), "klp-patch-7_3_4+deb13-amd64");
    assert_eq!(metadata.get_version().unwrap(), "3");
    assert_eq!(metadata.get_release().unwrap(), "2.el10");
    assert_eq!(metadata.get_arch().unwrap(), "x86_64");
    assert_eq!(metadata.get_license().unwrap(), "GPL-2.0-only");
    assert_eq!(metadata.get_vendor().unwrap(), "Ada");
    assert_eq!(metadata.get_build_time().unwrap(), 1_700_000_000);
    let names = |dependencies: Vec<rpm::Dependency>| {
        dependencies
            .into_iter()
            .map(|it| it.name)
            .collect::<Vec<_>>()
    };
    let recommends = metadata.get_recommends().unwrap();
    let tools = recommends.iter().find(|it| it.name == "livepatch-tools");
    assert_eq!(tools.unwrap().version, env!("CARGO_PKG_VERSION"));
    assert!(tools.unwrap().flags.contains(rpm::DependencyFlags::GE));
    let requires = names(metadata.get_requires().unwrap());
    assert!(requires.contains(&"/bin/sh".into()), "{requires:?}");
    // There is no such rpm.
    assert!(
        !requires.contains(&"livepatch-tools".into()),
        "{requires:?}"
    );
    let provides = names(metadata.get_provides().unwrap());
    assert!(provides.contains(&"klp-patch".into()), "{provides:?}");
    let files = package
        .files()
        .unwrap()
        .map(|file| file.unwrap())
        .filter(|file| !file.content.is_empty())
        .collect::<Vec<_>>();
    assert_eq!(files.len(), 1);
    let place = format!("/usr/lib/klp/{KERNEL}/fix.ko");
    assert_eq!(files[0].metadata.path, Path::new(&place));
    assert_eq!(files[0].metadata.mode.raw_mode(), 0o100_644);
    assert_eq!(files[0].content, fix);
}

/// A machine for the script after the installation, on which a package's kernel runs.
struct Installation(tempfile::TempDir);

impl Installation {
    fn new() -> Self {
        let this = Self(directory(&[("fix_1.ko", patch("fix_1", &[]))]));
        let root = this.0.path();
        for place in ["bin", "package"] {
            fs::create_dir(root.join(place)).unwrap();
        }
        for program in ["find", "sed"] {
            symlink(
                Path::new("/usr/bin").join(program),
                root.join("bin").join(program),
            )
            .unwrap();
        }
        this.program("uname", &format!("echo '{KERNEL}'"));
        this.program("readlink", "echo 'pid:[4026531836]'");
        this.program("stat", "echo 1:2");
        made(root, "fix_1.ko --deb");
        let deb = format!("klp-patch-{KERNEL}_1-1_amd64.deb");
        let mut unpack = Command::new("dpkg-deb");
        output(
            unpack
                .args(["--control", &deb, "package"])
                .current_dir(root),
        );
        this
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.0.path().join("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// What the script says, which succeeds.
    fn run(&self) -> String {
        let root = self.0.path();
        let script = fs::read_to_string(root.join("package/postinst")).unwrap();
        let script = ["/var/lib", "/run/systemd"]
            .iter()
            .fold(script, |script, place| {
                script.replace(place, &format!("{}{place}", root.display()))
            });
        let mut shell = Command::new("/bin/sh");
        let output = shell
            .args(["-c", &script, "postinst", "configure"])
            .env("PATH", root.join("bin"))
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        said.replace(root.to_str().unwrap(), "ROOT")
    }
}

#[test]
fn what_the_boot_does_not_load_is_said() {
    let machine = Installation::new();
    let file = format!("/usr/lib/klp/{KERNEL}/fix_1.ko");
    let not_at_boot = format!("klp-patch-{KERNEL}: no boot of {KERNEL} loads {file}: ");
    let failed =
        format!("klp-patch-{KERNEL}: the patch is not loaded, and what was loaded before stays; ");
    let by_hand = format!("{failed}what tries it again is: klp load {file}\n");

    let said = machine.run();
    assert!(
        said.contains(&format!("{not_at_boot}there is no klp (")),
        "{said}"
    );
    assert!(said.ends_with(&by_hand), "{said}");

    machine.program("klp", "true");
    assert_eq!(machine.run(), "");
    fs::create_dir_all(machine.0.path().join("run/systemd/system")).unwrap();
    machine.program("systemctl", "exit 4");
    let not_enabled = format!("{not_at_boot}klp.service is not enabled\n");
    assert_eq!(machine.run(), not_enabled);
    machine.program("klp", "false");
    assert_eq!(machine.run(), not_enabled + &by_hand);
    machine.program("systemctl", "true");
    let at_boot =
        format!("{failed}the next boot of {KERNEL} tries it again, and so does: klp load {file}\n");
    assert_eq!(machine.run(), at_boot);

    // The administrator has one of the same module.
    let installed = machine.0.path().join("var/lib/klp").join(KERNEL);
    fs::create_dir_all(&installed).unwrap();
    fs::write(installed.join("fix_12.ko"), "").unwrap();
    assert_eq!(machine.run(), at_boot);
    fs::write(installed.join("fix-1.ko"), "").unwrap();
    let shadowed = format!(
        "{not_at_boot}ROOT/var/lib/klp/{KERNEL}/fix-1.ko comes first; \
         \"klp uninstall -k {KERNEL} fix_1\" removes that\n"
    );
    assert_eq!(machine.run(), shadowed.clone() + &by_hand);
    machine.program("klp", "true");
    assert_eq!(machine.run(), shadowed);
}

#[test]
fn the_same_modules_make_the_same_package() {
    let directory = directory(&[("a.ko", patch("a", &[])), ("b.ko", patch("b", &[]))]);
    for format in ["--deb", "--rpm"] {
        let first = made(directory.path(), &format!("a.ko b.ko {format}"));
        let again = made(directory.path(), &format!("b.ko a.ko {format}"));
        assert!(first == again, "{format}");
    }
}

#[test]
fn patches_have_the_order_of_the_boot() {
    let files = ["fix_10", "fix", "fix_9"];
    let directory = directory(&files.map(|name| (name, patch(name, &[]))));
    let output = run(directory.path(), "fix_10 fix fix_9 --deb --json");
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        answer["packages"][0]["patches"],
        serde_json::json!(["fix", "fix_9", "fix_10"])
    );
}

#[test]
fn both_formats_at_once_in_json() {
    let directory = directory(&[("a.ko", patch("a", &[]))]);
    let output = run(
        directory.path(),
        "a.ko --rpm --deb --json --name my-fix-7.3.4+deb13-amd64",
    );
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        answer,
        serde_json::json!({
            "schema": "klp/1",
            "command": "package",
            "packages": [
                {
                    "format": "deb", "name": "my-fix-7.3.4+deb13-amd64", "version": "1", "release": "1",
                    "kernel": KERNEL, "patches": ["a"], "file": "./my-fix-7.3.4+deb13-amd64_1-1_amd64.deb",
                },
                {
                    "format": "rpm", "name": "my-fix-7.3.4+deb13-amd64", "version": "1", "release": "1",
                    "kernel": KERNEL, "patches": ["a"], "file": "./my-fix-7.3.4+deb13-amd64-1-1.x86_64.rpm",
                },
            ],
        })
    );
}

#[test]
fn unsuitable_modules_are_refused() {
    let mut other_machine = patch("other", &[]);
    // RISC-V, in the ELF header.
    other_machine[18] = 243;
    let mut arm = patch("arm", &[]);
    arm[18] = 183;
    let directory = directory(&[
        ("good.ko", patch("good", &[])),
        ("same.ko", patch("good", &["description=another"])),
        ("plain.ko", module("plain", &["vermagic=7.3.4 SMP "])),
        ("core.ko", patch("livepatch", &[])),
        ("no-kernel.ko", module("no_kernel", &["livepatch=Y"])),
        (
            "other.ko",
            module("other", &["livepatch=Y", "vermagic=7.2.0 SMP "]),
        ),
        (
            "path.ko",
            module("path", &["livepatch=Y", "vermagic=7/../.. SMP "]),
        ),
        (
            "quote.ko",
            module("quote", &["livepatch=Y", "vermagic=7';reboot' SMP "]),
        ),
        ("machine.ko", other_machine),
        ("arm.ko", arm),
        ("odd-version.ko", patch("odd", &["version=v2"])),
        ("core.ko", patch("livepatch", &[])),
        ("text.ko", b"not a module".to_vec()),
    ]);
    let directory = directory.path();
    for (files, message) in [
        (
            "absent.ko",
            "absent.ko: No such file or directory (os error 2)",
        ),
        ("text.ko", "text.ko: not a kernel module: "),
        ("plain.ko", "plain.ko: it is not a live patch"),
        ("core.ko", "core.ko: it is not a live patch"),
        (
            "no-kernel.ko",
            "no-kernel.ko: it does not say which kernel it is for",
        ),
        (
            "path.ko",
            "path.ko: \"7/../..\" is not the release of a kernel",
        ),
        (
            "quote.ko",
            "quote.ko: \"7';reboot'\" is not the release of a kernel",
        ),
        (
            "machine.ko",
            "machine.ko: it is for an architecture without live patching",
        ),
        ("good.ko same.ko", "same.ko: two modules have the name good"),
        ("good.ko good.ko", "good.ko: two modules have the name good"),
        (
            "good.ko other.ko",
            "other.ko: it is for the kernel 7.2.0, the first module for 7.3.4+deb13-amd64",
        ),
        (
            "good.ko arm.ko",
            "arm.ko: it is for another architecture than the first module",
        ),
        (
            "odd-version.ko",
            "the module's version \"v2\" cannot be that of a package, ",
        ),
    ] {
        let said = error(directory, &format!("{files} --deb --rpm"));
        let expected = format!("klp package: {message}");
        assert!(said.starts_with(&expected), "{said}");
    }
    assert_eq!(fs::read_dir(directory).unwrap().count(), 12);
}

#[test]
fn bad_names_are_refused() {
    let directory = directory(&[("a.ko", patch("a", &[]))]);
    for (format, name) in [
        ("--deb", "Fix"),
        ("--deb", "my_fix"),
        ("--deb", "f"),
        ("--rpm", "-fix"),
        ("--rpm", "../fix"),
        ("--rpm", "fix'"),
        ("--deb", "fix"),
        ("--rpm", "fix"),
        ("--deb", "fix-17.3.4+deb13-amd64"),
        ("--rpm", "fix7.3.4+deb13-amd64"),
        ("--rpm", ""),
    ] {
        let said = error(directory.path(), &format!("a.ko {format} --name={name}"));
        assert!(said.contains("cannot be the name of a package"), "{said}");
    }
    // None of two if one of them cannot be made.
    error(directory.path(), "a.ko --rpm --deb --name my_fix");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn bad_usage_has_status_two() {
    let directory = directory(&[("a.ko", patch("a", &[]))]);
    for arguments in [
        "a.ko",
        "--deb",
        "a.ko --deb --version 1-2",
        "a.ko --deb --version=",
        "a.ko --deb --release x",
        "a.ko --deb --maintainer=",
    ] {
        let output = run(directory.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments}");
    }
}

#[test]
fn a_failed_write_leaves_nothing() {
    let directory = directory(&[("a.ko", patch("a", &[]))]);
    let said = error(directory.path(), "a.ko --deb --output absent");
    assert!(said.contains("No such file or directory"), "{said}");
    // In the place of the package.
    let name = format!("klp-patch-{KERNEL}_1-1_amd64.deb");
    fs::create_dir_all(directory.path().join(&name).join("full")).unwrap();
    error(directory.path(), "a.ko --deb");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn a_bad_date_is_refused() {
    let directory = directory(&[("a.ko", patch("a", &[]))]);
    let output = Command::new(env!("CARGO_BIN_EXE_klp"))
        .args(["package", "a.ko", "--deb"])
        .current_dir(directory.path())
        .env("SOURCE_DATE_EPOCH", "yesterday")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("SOURCE_DATE_EPOCH"));
}
