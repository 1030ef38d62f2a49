// SPDX-License-Identifier: GPL-2.0

//! `klp check` on a machine that is a tree of files: where it looks, and what it says of what it
//! cannot see.

#[path = "../../convert/tests/module/mod.rs"]
mod file;
mod files;

#[path = "../../build/tests/image/mod.rs"]
mod image;

#[path = "../../check/tests/sample/mod.rs"]
mod sample;

use std::{fs, process::Command};

use files::Tree;
use sample::{func, object, Sample, KALLSYMS, SIGNATURE, SITES, SYMVERS};

const RELEASE: &str = "7.3.4";
const TRACING: &str = "sys/kernel/tracing";

impl Tree {
    /// A machine that runs the kernel which the sample fits.
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        tree.write("proc/sys/kernel/osrelease", &format!("{RELEASE}\n"));
        tree.write("proc/uptime", "100.00 100.00\n");
        tree.write("proc/kallsyms", KALLSYMS);
        tree.write("proc/modules", "driver 16384 0 - Live 0x0\n");
        tree.build(
            "include/config/auto.conf",
            "CONFIG_SMP=y\nCONFIG_MODULE_UNLOAD=y\n",
        );
        tree.build("Module.symvers", SYMVERS);
        tree.write(
            &format!("lib/modules/{RELEASE}/modules.dep"),
            "kernel/driver.ko:\n",
        );
        fs::create_dir_all(tree.path("sys/kernel/livepatch")).unwrap();
        tree.write(&format!("{TRACING}/enabled_functions"), "");
        tree.write(
            &format!("{TRACING}/available_filter_functions_addrs"),
            SITES,
        );
        tree.put("fix.ko", &Sample::default().build());
        tree
    }

    /// Writes a file of the kernel's build directory.
    fn build(&self, path: &str, contents: &str) {
        self.write(&format!("lib/modules/{RELEASE}/build/{path}"), contents);
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.path(path)).unwrap();
    }

    /// Checks the patch; returns the status and what is said of it.
    fn check(&self, arguments: &[&str]) -> (i32, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_klp"))
            .args(["check", "fix.ko"])
            .args(arguments)
            .arg("--root")
            .arg(self.0.path())
            .current_dir(self.0.path())
            .output()
            .unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code().unwrap(), text)
    }

    /// A vmlinux in which ftrace can intercept other functions than those of the patch.
    fn compile_vmlinux(&self, option: &str) {
        const SOURCE: &str = "
            int _stext(void) { return 0; }
            int do_nap(void) { return 1; }
            asm(\".pushsection .data; .globl __start_mcount_loc, __stop_mcount_loc; .balign 8;\"
                \"__start_mcount_loc: .quad _stext; __stop_mcount_loc: .popsection\");
        ";
        self.write("vmlinux.c", SOURCE);
        let status = Command::new("gcc")
            .args(["-g", "-O2", "-nostdlib", "-static", "-Wl,-e0", option])
            .args(["vmlinux.c", "-o", "vmlinux"])
            .current_dir(self.0.path())
            .status();
        assert!(status.unwrap().success());
    }
}

#[test]
fn what_ftrace_tells() {
    let tree = Tree::new();
    let fits = "fix.ko: fits 7.3.4, as far as is known: no information on inlined, prototype, \
                structure\n";
    let (status, said) = tree.check(&[]);
    assert!(status == 0 && said.ends_with(fits), "{said}");
    // Before 6.5 it tells names only.
    tree.remove(&format!("{TRACING}/available_filter_functions_addrs"));
    let names = format!("{TRACING}/available_filter_functions");
    tree.write(&names, "do_nap\nprobe [driver]\n");
    let (status, said) = tree.check(&[]);
    assert!(status == 0 && said.ends_with(fits), "{said}");
    tree.write(&names, "twin\nprobe [driver]\n");
    let (status, said) = tree.check(&[]);
    assert_eq!(status, 1);
    assert!(
        said.contains("error[function-traceable]: ftrace cannot intercept do_nap"),
        "{said}"
    );
    tree.remove(&names);
    let (status, said) = tree.check(&[]);
    assert_eq!(status, 2);
    assert!(said.contains("help: run it as root on a machine that runs this kernel, or name a"));
}

/// What the user names counts more than what is found.
#[test]
fn a_vmlinux_that_is_named() {
    let tree = Tree::new();
    tree.compile_vmlinux("-gz=none");
    assert_eq!(tree.check(&[]).0, 0);
    let (status, said) = tree.check(&["--vmlinux", "vmlinux"]);
    assert_eq!(status, 1);
    assert!(
        said.contains("error[function-traceable]: ftrace cannot intercept do_nap"),
        "{said}"
    );
    // One that does not tell what ftrace can do is no better than the kernel itself.
    let stripped = Command::new("objcopy")
        .args(["--strip-symbol=__start_mcount_loc", "vmlinux"])
        .current_dir(tree.0.path())
        .status();
    assert!(stripped.unwrap().success());
    let (status, said) = tree.check(&["--vmlinux", "vmlinux"]);
    assert_eq!(status, 0, "{said}");
    assert!(!said.contains("into which functions of vmlinux"), "{said}");
}

/// What cannot be read keeps nobody from hearing the rest.
#[test]
fn what_cannot_be_read() {
    let tree = Tree::new();
    tree.compile_vmlinux("-gz=zlib");
    tree.build("vmlinux", "");
    fs::copy(
        tree.path("vmlinux"),
        tree.path(&format!("lib/modules/{RELEASE}/build/vmlinux")),
    )
    .unwrap();
    let (status, said) = tree.check(&[]);
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("no information[inlined]"), "{said}");
    assert!(said.contains("its DWARF is compressed"), "{said}");

    let mut sample = Sample::default();
    sample
        .objects
        .push(object(Some("stranger"), vec![func("call", 0)]));
    sample.undefined = vec!["do_nap"];
    tree.put("fix.ko", &sample.build());
    tree.write(
        &format!("lib/modules/{RELEASE}/modules.dep"),
        "kernel/stranger.ko:\n",
    );
    tree.write(
        &format!("lib/modules/{RELEASE}/kernel/stranger.ko"),
        "no module",
    );
    let (status, said) = tree.check(&[]);
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("error[symbol]"), "{said}");
    assert!(
        said.contains("unknown[function-missing]: whether stranger has"),
        "{said}"
    );
    assert!(said.contains("kernel/stranger.ko: "), "{said}");
}

/// To be quick is not to say that all is well.
#[test]
fn what_is_left_out() {
    let tree = Tree::new();
    let (status, said) = tree.check(&["--quick"]);
    assert_eq!(status, 0);
    assert!(said.contains("no information[inlined]: copies that were inlined were not looked for"));
    assert!(
        said.ends_with("no information on inlined, prototype, structure\n"),
        "{said}"
    );
    assert_eq!(tree.check(&["--quick", "--strict"]).0, 2);
    let (_, said) = tree.check(&["--json"]);
    assert!(said.contains("\"refused\": false"), "{said}");
}

#[test]
fn signatures() {
    let tree = Tree::new();
    let signed = |signature: &[u8]| {
        let sample = Sample {
            signature: signature.into(),
            ..Sample::default()
        };
        tree.put("fix.ko", &sample.build());
    };
    let enforce = "sys/module/module/parameters/sig_enforce";
    // A kernel without the parameter does not look.
    signed(&[0xff; 4]);
    assert_eq!(tree.check(&[]).0, 0);
    tree.write(enforce, "N\n");
    let (status, said) = tree.check(&[]);
    assert_eq!(status, 1);
    assert!(
        said.contains("error[signature]: the signature of the module is damaged"),
        "{said}"
    );
    signed(&SIGNATURE);
    let (status, said) = tree.check(&[]);
    assert_eq!(status, 0);
    assert!(said.contains("no information[signature]"), "{said}");
    tree.write(enforce, "Y\n");
    assert_eq!(tree.check(&[]).0, 2);
    tree.write(enforce, "N\n");
    tree.write(
        "sys/kernel/security/lockdown",
        "none [integrity] confidentiality\n",
    );
    assert_eq!(tree.check(&[]).0, 2);
    // Not mounted, so that nobody knows whether the kernel is locked down.
    signed(&[]);
    assert_eq!(tree.check(&[]).0, 1);
    tree.remove("sys/kernel/security/lockdown");
    tree.build(
        "include/config/auto.conf",
        "CONFIG_SMP=y\nCONFIG_MODULE_UNLOAD=y\nCONFIG_SECURITY_LOCKDOWN_LSM=y\n",
    );
    let (status, said) = tree.check(&[]);
    assert_eq!(status, 0);
    assert!(
        said.contains("no information[signature]: the module is not signed"),
        "{said}"
    );
    tree.write("sys/kernel/security/lsm", "capability\n");
    assert!(!tree.check(&[]).1.contains("[signature]"));
}

#[test]
fn packed_patches() {
    let tree = Tree::new();
    let plain = fs::read(tree.path("fix.ko")).unwrap();
    for program in ["gzip", "xz", "zstd"] {
        let packed = image::compress(program, &plain);
        tree.put("fix.ko", &packed);
        assert_eq!(tree.check(&[]).0, 0, "{program}");
        tree.put("fix.ko", &packed[..packed.len() - 1]);
        let (status, said) = tree.check(&[]);
        assert_eq!(status, 2);
        let line =
            format!("unknown[module]: fix.ko: damaged: {program} cannot unpack the module in it\n");
        assert!(said.contains(&line), "{said}");
    }
}

/// The other kernel of the tests of images.
const OTHER: &str = "7.4.0-other";

/// What a file has from which that kernel is booted: its symbols, and a list of what ftrace can
/// intercept, which has the function of the patch if `traceable`.
fn booted(program: &str, traceable: bool) -> Vec<u8> {
    let symbols: Vec<_> = KALLSYMS
        .lines()
        .filter(|line| !line.ends_with(']'))
        .map(|line| {
            let words: Vec<_> = line.split(' ').collect();
            let address = u64::from_str_radix(words[0], 16).unwrap();
            (address, format!("{}{}", words[1], words[2]))
        })
        .collect();
    let mut symbols: Vec<_> = symbols
        .iter()
        .map(|(address, name)| (*address, name.as_str()))
        .collect();
    symbols.push((image::BASE, "D__ksymtab_printk"));
    let sites = SITES
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>());
    let sites: Vec<_> = sites
        .filter(|words| words.len() == 2 && (traceable || words[1] != "do_nap"))
        .map(|words| u64::from_str_radix(words[0], 16).unwrap())
        .collect();
    let vermagic = format!("{OTHER} SMP mod_unload ");
    let kernel = image::kernel(&vermagic, &symbols, &sites);
    image::boot_file(
        &format!("{OTHER} (us@here) #1"),
        &image::pack(program, &kernel),
    )
}

/// A machine that has another kernel than the one that it runs, of which it has nothing but the file
/// that is booted, and a patch for that one.
fn with_image() -> Tree {
    let tree = Tree::new();
    tree.put(&format!("boot/vmlinuz-{OTHER}"), &booted("zstd", true));
    // Debian's only says where to find the real one.
    let stub = "ffffffffffffffff B The real System.map is in the linux-image-dbg package\n";
    tree.write(&format!("boot/System.map-{OTHER}"), stub);
    tree.put("fix.ko", &for_other().build());
    tree
}

/// A patch of that kernel's do_nap().
fn for_other() -> Sample {
    let mut sample = Sample::default();
    sample.objects.truncate(1);
    sample.info = sample.info.replace(RELEASE, OTHER);
    sample
}

#[test]
fn symbols_of_an_image() {
    let tree = with_image();
    let image = format!("boot/vmlinuz-{OTHER}");
    let by_path = format!("./{image}");
    for kernel in [OTHER, &by_path] {
        let (status, said) = tree.check(&["--kernel", kernel]);
        assert_eq!(status, 0, "{said}");
        assert!(said.contains(&format!("fix.ko: fits {OTHER}, ")), "{said}");
        assert!(!said.contains("function-"), "{said}");
    }
    tree.put(&image, &booted("gzip", false));
    for kernel in [OTHER, &by_path] {
        let (status, said) = tree.check(&["--kernel", kernel]);
        assert_eq!(status, 1, "{said}");
        let line = "error[function-traceable]: ftrace cannot intercept do_nap";
        assert!(said.contains(line), "{said}");
    }
    // What the user names counts more.
    tree.write("listed", KALLSYMS);
    let (status, said) = tree.check(&["--kernel", OTHER, "--system-map", "listed"]);
    assert_eq!(status, 2, "{said}");
    assert!(said.contains("unknown[function-traceable]"), "{said}");
    // The kernel that runs tells more than its image, which may be another one.
    tree.put(&format!("boot/vmlinuz-{RELEASE}"), &booted("gzip", false));
    tree.put("fix.ko", &Sample::default().build());
    assert_eq!(tree.check(&[]).0, 0);
}

#[test]
fn functions_that_an_image_lacks() {
    let tree = with_image();
    let mut sample = for_other();
    sample.funcs(0)[0].name = Some("do_naps");
    tree.put("fix.ko", &sample.build());
    let (status, said) = tree.check(&["--kernel", OTHER]);
    assert_eq!(status, 1, "{said}");
    assert!(
        said.contains("error[function-missing]: vmlinux has no function do_naps"),
        "{said}"
    );
    let path = format!(
        "= looked at {}\n",
        tree.path(&format!("boot/vmlinuz-{OTHER}")).display()
    );
    assert!(said.contains(&path), "{said}");
}

#[test]
fn images_that_are_damaged() {
    let tree = with_image();
    let image = format!("boot/vmlinuz-{OTHER}");
    let good = booted("gzip", true);
    let not_whole = "damaged: the kernel in it is not whole";
    let cannot_unpack = "damaged: gzip cannot unpack the kernel in it";
    let no_release = "damaged: it does not say which release it is";
    let no_image = "no file that a kernel is booted from (vmlinuz, bzImage)";
    let mut flipped = good.clone();
    let middle = (0x828 + good.len()) / 2;
    flipped[middle] ^= 0x55;
    let mut unnamed = good.clone();
    unnamed[0x300..0x310].fill(0);
    let empty = image::boot_file(&format!("{OTHER} x"), &image::pack("gzip", b"\x7fELF"));
    let truncated = "Invalid ELF header size or alignment";
    for (data, text, named) in [
        (&good[..good.len() - 1], not_whole, not_whole),
        (&flipped[..], cannot_unpack, cannot_unpack),
        (&unnamed[..], no_release, no_release),
        (&b""[..], no_image, no_image),
        (&empty[..], truncated, truncated),
    ] {
        tree.put(&image, data);
        let (status, said) = tree.check(&["--kernel", &format!("./{image}")]);
        assert_eq!(status, 2, "{said}");
        assert_eq!(said, format!("klp check: ./{image}: {named}\n"));
        let (status, said) = tree.check(&["--kernel", OTHER]);
        assert_eq!(status, 2, "{said}");
        assert!(said.contains("unknown[function-missing]"), "{said}");
        let path = tree.path(&image);
        assert!(
            said.contains(&format!("= {}: {text}\n", path.display())),
            "{said}"
        );
    }
    // Another list does as well.
    tree.write(&format!("boot/System.map-{OTHER}"), KALLSYMS);
    let (status, said) = tree.check(&["--kernel", OTHER]);
    assert_eq!(status, 2, "{said}");
    assert!(said.contains("unknown[function-traceable]"), "{said}");
}
