// SPDX-License-Identifier: GPL-2.0

//! `klp check` on a machine that is a tree of files: where it looks, and what it says of what it
//! cannot see.

#[path = "../../convert/tests/module/mod.rs"]
mod file;
mod files;

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
