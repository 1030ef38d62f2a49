// SPDX-License-Identifier: GPL-2.0

//! `klp convert` with what it finds of the kernel, on machines that are made here.

#[path = "../../build/tests/image/mod.rs"]
mod image;
#[path = "../../convert/tests/module/mod.rs"]
mod module;

use std::{
    fs,
    process::{Command, Output},
};

use module::*;

const RELEASE: &str = "7.3.4-test";
const FUNCTION: u8 = 2;

/// A machine that runs the kernel, with its headers, a module, and a patch `x.ko` in its root.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        let this = Self(tempfile::tempdir().unwrap());
        let modules = format!("lib/modules/{RELEASE}");
        this.file("proc/sys/kernel/osrelease", format!("{RELEASE}\n"));
        this.file("proc/kallsyms", "0 T _stext\n8 t hidden\n10 d other\n");
        this.file(
            &format!("{modules}/build/Module.symvers"),
            "0\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n",
        );
        this.file(
            &format!("{modules}/build/include/config/kernel.release"),
            RELEASE,
        );
        // As Debian has it.
        this.file(
            &format!("boot/System.map-{RELEASE}"),
            "ffffffffffffffff B The real System.map is in the linux-image-dbg package\n",
        );
        this.file(
            &format!("{modules}/modules.dep"),
            "kernel/a.ko.xz:\nkernel/drivers/some-target.ko: kernel/a.ko.xz\n",
        );
        let mut target = Module::new();
        target.symbol_at("in_target", FUNCTION, 2, 0, 16);
        this.file(
            &format!("{modules}/kernel/drivers/some-target.ko"),
            target.build(),
        );
        this.file("x.ko", patch(RELEASE).build());
        this
    }

    fn file(&self, path: &str, contents: impl AsRef<[u8]>) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.0.path().join(path)).unwrap();
    }

    fn path(&self, path: &str) -> String {
        self.0.path().join(path).to_string_lossy().into()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_klp"));
        command
            .args(["--root", "."])
            .arg("convert")
            .args(arguments)
            .arg("x.ko")
            .current_dir(self.0.path());
        command
    }

    fn convert(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Converts, and returns the names of the symbols in the module and the messages.
    fn converted(&self, arguments: &[&str]) -> (Vec<String>, String) {
        let output = self.convert(arguments);
        assert!(output.status.success(), "{}", message(&output));
        let (_, symbols) = read(&fs::read(self.0.path().join("x.ko")).unwrap());
        let names = symbols.into_iter().map(|(name, _)| name);
        let names = names.filter_map(|name| Some(name.strip_prefix(".klp.sym.")?.to_owned()));
        (names.collect(), message(&output))
    }

    /// Does not convert, and returns the message.
    fn refused(&self, arguments: &[&str]) -> String {
        let before = fs::read(self.0.path().join("x.ko")).unwrap();
        let output = self.convert(arguments);
        assert_eq!(output.status.code(), Some(1), "{}", message(&output));
        assert_eq!(fs::read(self.0.path().join("x.ko")).unwrap(), before);
        let message = message(&output);
        assert!(message.starts_with("klp convert: "), "{message}");
        message
    }
}

fn message(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A patch that uses `printk`, `hidden` and `other`, for this kernel.
fn patch(release: &str) -> Module {
    let mut module = example();
    module.sections[0].data =
        format!("license=GPL\0livepatch=Y\0vermagic={release} SMP\0").into_bytes();
    module.section(
        ".gnu.linkonce.this_module",
        SHT_PROGBITS,
        SHF_ALLOC,
        b"\0\0x\0\0",
    );
    module
}

#[test]
fn automatically_on_the_machine_that_runs_the_kernel() {
    let (symbols, said) = Machine::new().converted(&["--auto"]);
    assert_eq!(symbols, ["vmlinux.hidden,0", "vmlinux.other,0"]);
    assert_eq!(
        said,
        "klp convert: x.ko: vmlinux:hidden, used by .text+0x8, .text+0x20\n\
         klp convert: x.ko: vmlinux:other, used by .text+0x18, .data+0x0\n\
         klp convert: x.ko: 4 relocations against 2 symbols converted\n"
    );
    let (symbols, said) = Machine::new().converted(&["--auto", "--quiet"]);
    assert_eq!((symbols.len(), said.as_str()), (2, ""));
}

#[test]
fn kernels_by_release_and_directory() {
    let machine = Machine::new();
    let directory = machine.path(&format!("lib/modules/{RELEASE}/build"));
    for kernel in [RELEASE, &directory] {
        let (symbols, _) = Machine::new().converted(&["--auto", "--kernel", kernel]);
        assert_eq!(symbols.len(), 2);
    }
    let said = machine.refused(&["--auto", "--kernel", "./nowhere"]);
    assert!(
        said.contains("is this a kernel's build directory?"),
        "{said}"
    );
    let said = machine.refused(&["--auto", "--kernel", "7.2.0"]);
    assert!(
        said.contains("x.ko was built for the kernel 7.3.4-test, and 7.2.0 is 7.2.0"),
        "{said}"
    );
}

#[test]
fn unknown_kernels() {
    let machine = Machine::new();
    machine.file("x.ko", example().build());
    let said = machine.refused(&["--auto"]);
    assert!(
        said.contains("x.ko does not say which kernel it is for"),
        "{said}"
    );
    let (symbols, _) = machine.converted(&["--auto", "--kernel", RELEASE]);
    assert_eq!(symbols.len(), 2);

    // Another one runs, and nothing but the headers is here.
    let machine = Machine::new();
    machine.file("proc/sys/kernel/osrelease", "6.1.0\n");
    let said = machine.refused(&["--auto"]);
    assert!(
        said.contains("--auto needs the symbols of the kernel 7.3.4-test, and there are none here")
            && said.contains("install linux-image-7.3.4-test, or name a file with --kernel, "),
        "{said}"
    );
    // What the user names is done, and it is said that nothing was checked.
    let (symbols, said) = machine.converted(&["--unexported=hidden", "--unexported=other"]);
    assert_eq!(symbols, ["vmlinux.hidden,0", "vmlinux.other,0"]);
    assert!(said.contains("only insmod will tell"), "{said}");

    let machine = Machine::new();
    machine.remove(&format!("lib/modules/{RELEASE}/build/Module.symvers"));
    let said = machine.refused(&["--auto"]);
    assert!(said.contains("install linux-headers-7.3.4-test"), "{said}");
    let said = machine.refused(&["--unexported=hidden", "--exports=x"]);
    assert!(
        said.contains("of no use without the Module.symvers"),
        "{said}"
    );
}

#[test]
fn what_is_forgotten_is_said() {
    let machine = Machine::new();
    let said = machine.refused(&["--unexported=hidden"]);
    assert_eq!(
        said,
        "klp convert: x.ko: other is undefined, and no Module.symvers exports it\n    \
             used by  .text+0x18\n             \
                      .data+0x0\n    \
             found    vmlinux 1. 0000000000000010 data\n    \
             write    --unexported other\n"
    );
    machine.file("more.symvers", "0\tother\tsome\tEXPORT_SYMBOL\t\n");
    let (symbols, _) = machine.converted(&["--unexported=hidden", "--exports=more.symvers"]);
    assert_eq!(symbols, ["vmlinux.hidden,0"]);
}

/// A vmlinux with two functions `hidden` of two files.
fn vmlinux() -> Module {
    let mut module = Module::new();
    for (file, address) in [("a.c", 0x20), ("b.c", 0x10)] {
        module.symbol_at(file, 4, 0xfff1, 0, 0);
        module.symbol_at("hidden", FUNCTION, 2, address, 16);
    }
    module.symbol_at("other", GLOBAL | 1, 2, 0x40, 8);
    module
}

const TWICE: &str = "10 T _stext\n10 t hidden\n20 t hidden\n30 d other\n";

#[test]
fn vmlinux_is_found_and_chooses() {
    for place in [
        format!("lib/modules/{RELEASE}/build/vmlinux"),
        format!("usr/lib/debug/boot/vmlinux-{RELEASE}"),
        format!("usr/lib/debug/lib/modules/{RELEASE}/vmlinux"),
    ] {
        let machine = Machine::new();
        machine.file("proc/kallsyms", TWICE);
        machine.file(&place, vmlinux().build());
        let said = machine.refused(&["--auto"]);
        assert!(said.contains("--from b.c for number 1"), "{said}");
        let (symbols, _) = machine.converted(&["--auto", "--from", "a.c"]);
        assert_eq!(symbols, ["vmlinux.hidden,2", "vmlinux.other,0"]);
    }

    // One that was stripped is no help, but is only wrong if the user names it.
    let machine = Machine::new();
    machine.file("stripped", Module::new().build());
    machine.file(&format!("boot/vmlinux-{RELEASE}"), Module::new().build());
    let said = machine.refused(&["--auto", "--vmlinux=stripped"]);
    assert!(said.contains("stripped: no symbol table"), "{said}");
    assert_eq!(machine.converted(&["--auto"]).0.len(), 2);

    let machine = Machine::new();
    machine.file("debug", vmlinux().build());
    let said = machine.refused(&["--auto", "--vmlinux=debug", "--from=a.c"]);
    assert!(said.contains("they are not of the same kernel"), "{said}");
    let said = machine.refused(&["--auto", "--vmlinux=absent"]);
    assert!(said.contains("absent: No such file"), "{said}");
}

/// The file that a kernel of a release is booted from, which has these symbols.
fn booted(release: &str, symbols: &[(u64, &str)]) -> Vec<u8> {
    let kernel = image::kernel(&format!("{release} SMP "), symbols, &[]);
    image::boot_file(
        &format!("{release} (us@here) #1"),
        &image::pack("zstd", &kernel),
    )
}

const SYMBOLS: [(u64, &str); 4] = [
    (image::BASE, "T_stext"),
    (image::BASE + 0x30, "thidden"),
    (image::BASE + 0x20, "thidden"),
    (image::BASE + 0x40, "dother"),
];

/// A machine that runs another kernel, and has the one of the patch as an image in a place.
fn machine_with_image(place: &str) -> Machine {
    let machine = Machine::new();
    machine.file("proc/sys/kernel/osrelease", "6.1.0\n");
    machine.file(place, booted(RELEASE, &SYMBOLS));
    machine
}

#[test]
fn symbols_of_an_image() {
    let installed = format!("boot/vmlinuz-{RELEASE}");
    let directory = format!("./lib/modules/{RELEASE}/build");
    let built = format!("{directory}/arch/x86/boot/bzImage");
    let by_path = format!("./{installed}");
    for (place, named) in [
        (installed.as_str(), None),
        (installed.as_str(), Some(RELEASE)),
        (installed.as_str(), Some(by_path.as_str())),
        ("elsewhere", Some("./elsewhere")),
        (built.as_str(), Some(directory.as_str())),
        (built.as_str(), Some(built.as_str())),
    ] {
        let machine = machine_with_image(place);
        let mut arguments = vec!["--auto"];
        arguments.extend(named.into_iter().flat_map(|named| ["--kernel", named]));
        let said = machine.refused(&arguments);
        let list = "the kernel has 2 symbols hidden: say which with --position vmlinux:hidden=N\n";
        assert!(said.contains(list), "{said}");
        assert!(
            said.contains(
                "found    vmlinux 1. ffffffff82200020 function\n             \
                          vmlinux 2. ffffffff82200030 function\n"
            ),
            "{said}"
        );
        arguments.extend(["--from", "a.c"]);
        let said = machine.refused(&arguments);
        assert!(said.contains("no source files are known"), "{said}");
        arguments.truncate(arguments.len() - 2);
        arguments.extend(["--unexported", "hidden=2"]);
        let (symbols, _) = machine.converted(&arguments);
        assert_eq!(symbols, ["vmlinux.hidden,2", "vmlinux.other,0"]);
    }
}

#[test]
fn what_an_image_tells_is_checked() {
    let place = format!("boot/vmlinuz-{RELEASE}");
    let named = format!("--kernel=./{place}");
    // It is enough for symbols that are named, without any file of the build.
    let machine = machine_with_image(&place);
    machine.remove(&format!("lib/modules/{RELEASE}/build/Module.symvers"));
    let said = machine.refused(&[&named, "--unexported=hidden=3"]);
    assert!(said.contains("number 3 is asked for"), "{said}");
    machine.file("list", "0\tnowhere\tvmlinux\tx\n0\tother\tvmlinux\tx\n");
    let (symbols, said) = machine.converted(&[&named, "--symbols=list", "--unexported=hidden=1"]);
    assert_eq!(symbols, ["vmlinux.hidden,1", "vmlinux.other,0"]);
    assert!(!said.contains("insmod"), "{said}");

    // The one that is named counts, not the kernel that runs, which may be another build.
    let machine = machine_with_image(&place);
    machine.file("proc/sys/kernel/osrelease", RELEASE);
    assert_eq!(machine.converted(&["--auto"]).0.len(), 2);
    let machine = machine_with_image(&place);
    machine.file("proc/sys/kernel/osrelease", RELEASE);
    let said = machine.refused(&["--auto", &named]);
    assert!(said.contains("the kernel has 2 symbols hidden"), "{said}");
    // Other files that are named must agree with it.
    machine.file("listed", "0 T _stext\n8 t hidden\n10 d other\n");
    let said = machine.refused(&["--auto", &named, "--system-map=listed"]);
    assert!(said.contains("they are not of the same kernel"), "{said}");
}

#[test]
fn images_of_no_use() {
    let place = format!("boot/vmlinuz-{RELEASE}");
    let path = format!("./{place}");
    let good = booted(RELEASE, &SYMBOLS);
    let cut = &good[..good.len() - 1];
    let whole = "damaged: the kernel in it is not whole";
    let empty = booted(RELEASE, &SYMBOLS[1..]);
    let none = "no symbols of a kernel";
    let no_image = "no file that a kernel is booted from (vmlinuz, bzImage)";
    let other = booted("7.4.0", &SYMBOLS);
    let is_other =
        "x.ko was built for the kernel 7.3.4-test, and ./boot/vmlinuz-7.3.4-test is 7.4.0";
    for (data, found, named) in [
        (cut, whole, format!("{path}: {whole}")),
        (&empty[..], none, format!("{path}: {none}")),
        (&b"text"[..], no_image, format!("{path}: {no_image}")),
        (&other[..], "the kernel in it is 7.4.0", is_other.into()),
    ] {
        let machine = machine_with_image(&place);
        machine.file(&place, data);
        let said = machine.refused(&["--auto", "--kernel", &path]);
        assert_eq!(said, format!("klp convert: {named}\n"));
        let said = machine.refused(&["--auto"]);
        let reason = format!("there are none here ({path}: {found}): run it on a machine");
        assert!(said.contains(&reason), "{said}");
        // A list of symbols does as well.
        machine.file("listed", "0 T _stext\n8 t hidden\n10 d other\n");
        let arguments = ["--auto", "--system-map=listed", "--output=y.ko"];
        assert!(machine.convert(&arguments).status.success());
        // What is named is done, and it is said why nothing was checked.
        let (symbols, said) = machine.converted(&["--unexported=hidden", "--unexported=other"]);
        assert_eq!(symbols.len(), 2);
        let reason = format!("are not known here ({path}: {found}), so only insmod will tell");
        assert!(said.contains(&reason), "{said}");
    }
    let machine = machine_with_image(&place);
    assert_eq!(
        without_programs(machine.command(&["--auto", "--kernel", &path])),
        format!("klp convert: {path}: the kernel in it is packed, and zstd is missing\n")
    );
}

/// What a command says where there are no programs.
fn without_programs(mut command: Command) -> String {
    let output = command.env("PATH", "/nowhere").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    message(&output)
}

/// A vmlinux of a build.
fn vmlinux_of(build: &[u8; 16]) -> Vec<u8> {
    let mut module = vmlinux();
    module.section(".notes", 7, SHF_ALLOC, &image::build_id(build));
    module.build()
}

#[test]
fn vmlinux_of_another_build() {
    let place = format!("boot/vmlinuz-{RELEASE}");
    let named = format!("--kernel=./{place}");
    for (arguments, what) in [
        (vec![], "that runs"),
        (vec![named.as_str()], "in the image"),
    ] {
        for installed in [true, false] {
            let machine = machine_with_image(&place);
            machine.file("proc/sys/kernel/osrelease", RELEASE);
            machine.file("proc/kallsyms", TWICE);
            machine.file("sys/kernel/notes", image::build_id(&image::BUILD_ID));
            let vmlinux = if installed {
                format!("usr/lib/debug/boot/vmlinux-{RELEASE}")
            } else {
                "debug".into()
            };
            let mut arguments = [&["--auto", "--from=a.c"][..], &arguments].concat();
            if !installed {
                arguments.push("--vmlinux=debug");
            }
            machine.file(&vmlinux, vmlinux_of(&[8; 16]));
            let said = machine.refused(&arguments);
            let expected = if installed {
                "no source files are known".into()
            } else {
                format!("debug: not of the kernel {what}, by its build ID\n")
            };
            assert!(said.contains(&expected), "{said}");
            machine.file(&vmlinux, vmlinux_of(&image::BUILD_ID));
            let (symbols, _) = machine.converted(&arguments);
            assert_eq!(symbols, ["vmlinux.hidden,2", "vmlinux.other,0"]);
        }
    }
}

#[test]
fn from_without_vmlinux() {
    let machine = Machine::new();
    machine.file("proc/kallsyms", TWICE);
    let said = machine.refused(&["--auto", "--from", "a.c"]);
    assert!(said.contains("no source files are known"), "{said}");
    // A position always helps, with any way to name the symbols.
    machine.file("list", "0\thidden\tvmlinux\tx\n0\tother\tvmlinux\tx\n");
    let arguments = [
        "--symbols=list",
        "--position=vmlinux:hidden=2",
        "--kernel",
        RELEASE,
    ];
    let (symbols, _) = machine.converted(&arguments);
    assert_eq!(symbols, ["vmlinux.hidden,2", "vmlinux.other,0"]);
}

/// A patch that uses a function of the target.
fn machine_with_target() -> Machine {
    let machine = Machine::new();
    let mut module = patch(RELEASE);
    let in_target = module.symbol("in_target", GLOBAL, 0);
    module.section(".text.more", SHT_PROGBITS, SHF_ALLOC | 4, &[0; 16]);
    module.relas(".text.more", &[(4, in_target, 4, -4)]);
    machine.file("x.ko", module.build());
    machine
}

#[test]
fn targets_by_name_and_file() {
    let expected = [
        "vmlinux.hidden,0",
        "vmlinux.other,0",
        "some_target.in_target,0",
    ];
    let file = format!("lib/modules/{RELEASE}/kernel/drivers/some-target.ko");
    for target in ["some-target", "some_target", &file] {
        let (symbols, _) = machine_with_target().converted(&["--auto", "--target", target]);
        assert_eq!(symbols, expected, "{target}");
    }
    let machine = machine_with_target();
    let said = machine.refused(&["--auto"]);
    assert!(
        said.contains("in_target is undefined") && said.contains("write    --target MODULE, if"),
        "{said}"
    );
    let said = machine.refused(&["--auto", "--target", "another"]);
    assert!(
        said.contains("modules.dep has no module another: name its file"),
        "{said}"
    );
    let said = machine.refused(&["--auto", "--target", "./absent.ko"]);
    assert!(said.contains("absent.ko: No such file"), "{said}");
    machine.file("x.ko", example().build());
    let said = machine.refused(&["--unexported=hidden", "--target", "another"]);
    assert!(said.contains("for which kernel?"), "{said}");
}

#[test]
fn compressed_targets() {
    let file = format!("lib/modules/{RELEASE}/kernel/drivers/some-target.ko");
    for (program, ending) in [("xz", "xz"), ("gzip", "gz"), ("zstd", "zst")] {
        let machine = machine_with_target();
        let status = Command::new(program)
            .args(["-q", &machine.path(&file)])
            .status();
        assert!(status.unwrap().success(), "{program}");
        machine.file(
            &format!("lib/modules/{RELEASE}/modules.dep"),
            format!("kernel/drivers/some-target.ko.{ending}:\n"),
        );
        let (symbols, _) = machine.converted(&["--auto", "--target", "some-target"]);
        assert_eq!(symbols.len(), 3, "{program}");
    }
    let machine = machine_with_target();
    machine.file("broken.ko.xz", b"\xfd7zXZ\0broken");
    let said = machine.refused(&["--auto", "--target", "broken.ko.xz"]);
    assert_eq!(
        said,
        "klp convert: broken.ko.xz: damaged: xz cannot unpack the module in it\n"
    );
    assert_eq!(
        without_programs(machine.command(&["--auto", "--target", "broken.ko.xz"])),
        "klp convert: broken.ko.xz: the module in it is packed, and xz is missing\n"
    );
}

#[test]
fn targets_from_a_package_for_debugging() {
    let machine = machine_with_target();
    let mut target = Module::new();
    target.symbol_at("a.c", 4, 0xfff1, 0, 0);
    target.symbol_at("in_target", FUNCTION, 2, 0, 16);
    target.symbol_at("b.c", 4, 0xfff1, 0, 0);
    target.symbol_at("in_target", FUNCTION, 2, 16, 16);
    machine.file(
        &format!("usr/lib/debug/lib/modules/{RELEASE}/kernel/drivers/some-target.ko"),
        target.build(),
    );
    // Also if it is loaded.
    machine.file(
        "proc/kallsyms",
        "0 T _stext\n8 t hidden\n10 d other\n\
         20 t in_target\t[some_target]\n30 t in_target\t[some_target]\n",
    );
    let arguments = ["--auto", "--target=some-target", "--from=b.c"];
    let (symbols, _) = machine.converted(&arguments);
    assert!(
        symbols.contains(&"some_target.in_target,2".into()),
        "{symbols:?}"
    );
}

#[test]
fn nothing_is_looked_for_without_need() {
    let machine = Machine::new();
    machine.file("list", "0\thidden\tvmlinux\tx\n");
    // The other symbol is left to modpost, as it was before there was anything else.
    let (symbols, said) = machine.converted(&["--symbols=list"]);
    assert_eq!(symbols, ["vmlinux.hidden,0"]);
    assert!(!said.contains("insmod"), "{said}");
}

#[test]
fn answers_in_json() {
    let machine = Machine::new();
    let answer = |arguments: &[&str]| -> serde_json::Value {
        let output = machine.convert(arguments);
        assert!(output.status.success() && output.stderr.is_empty());
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let first = answer(&["--auto", "--json"]);
    assert_eq!(first["schema"], "klp/1");
    assert_eq!(first["command"], "convert");
    assert_eq!(first["module"], "x.ko");
    assert_eq!(first["relocations"], 4);
    assert_eq!(
        first["symbols"][0],
        serde_json::json!({
            "object": "vmlinux",
            "name": "hidden",
            "position": 0,
            "uses": [".text+0x8", ".text+0x20"],
        })
    );
    let second = answer(&["--auto", "--json"]);
    assert_eq!(second["relocations"], 0);
    assert_eq!(second["symbols"], serde_json::json!([]));
}
