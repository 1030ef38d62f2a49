// SPDX-License-Identifier: GPL-2.0

//! The program `klp` on a machine that is a tree of files.

use std::{
    fs::{self, File},
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt, net::UnixStream},
    },
    process::{Command, Stdio},
};

use rustix::fs::{flock, FlockOperation};
use sha2::{Digest, Sha256};

#[path = "../src/elf.rs"]
mod elf;
mod files;

use elf::elf;
use files::Tree;

const RELEASE: &str = "7.3.4-test";
const KLP: &str = env!("CARGO_BIN_EXE_klp");

impl Tree {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        tree.write("proc/sys/kernel/osrelease", &format!("{RELEASE}\n"));
        tree.write("proc/sys/kernel/random/boot_id", "this-boot\n");
        fs::create_dir_all(tree.path("sys/kernel/livepatch")).unwrap();
        fs::create_dir_all(tree.path("run")).unwrap();
        tree
    }

    fn module(&self, path: &str, name: &str) {
        self.put(path, &elf(name, RELEASE, "livepatch=Y\0"));
    }

    fn patch(&self, name: &str, files: &[(&str, &str)]) {
        for (file, contents) in files {
            let file = format!("sys/kernel/livepatch/{name}/{file}");
            self.write(&file, &format!("{contents}\n"));
        }
    }

    /// Two boots in a row have died with what is in a file.
    fn condemn(&self, name: &str, file: &str) {
        let digest = Sha256::digest(fs::read(self.path(file)).unwrap());
        self.write(
            &format!("var/lib/klp/.boot/{RELEASE}/{name}"),
            &format!("last-boot 1 {digest:x}\n"),
        );
    }

    /// Runs klp, and returns its status and what it prints, standard output first.
    fn klp(&self, arguments: &[&str]) -> (i32, String) {
        self.run(&mut Command::new(KLP), arguments)
    }

    /// The same for somebody to whom the modes of files apply.
    fn klp_without_privileges(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = Command::new(KLP);
        if rustix::process::geteuid().is_root() {
            command = Command::new("setpriv");
            command.args(["--bounding-set=-dac_override,-dac_read_search", KLP]);
        }
        self.run(&mut command, arguments)
    }

    /// The same with a command that runs klp.
    fn run(&self, command: &mut Command, arguments: &[&str]) -> (i32, String) {
        let output = command
            .args(arguments)
            .arg("--root")
            .arg(self.0.path())
            .current_dir(self.0.path())
            .output()
            .unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        let text = text.replace(self.0.path().to_str().unwrap(), "ROOT");
        (output.status.code().unwrap(), text)
    }

    fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }
}

#[test]
fn list_of_nothing() {
    let nothing = "Loaded patch modules:\n\nInstalled patch modules:\n";
    assert_eq!(Tree::new().klp(&["list"]), (0, nothing.into()));
    // Nor where there is no live patching.
    let tree = Tree::new();
    fs::remove_dir_all(tree.path("sys")).unwrap();
    assert_eq!(tree.klp(&["list"]), (0, nothing.into()));
    assert_eq!(tree.klp(&["unload", "--all"]), (0, String::new()));
    assert_eq!(tree.klp(&["signal"]), (0, String::new()));
}

fn tree_with_everything() -> Tree {
    let tree = Tree::new();
    let states = [
        ("a", "1", "0", "1"),
        ("b", "1", "1", "3"),
        ("c", "0", "0", "2"),
    ];
    for (name, enabled, transition, order) in states {
        tree.patch(
            name,
            &[
                ("enabled", enabled),
                ("transition", transition),
                ("stack_order", order),
                ("vmlinux/patched", "1"),
                ("late/patched", "0"),
            ],
        );
    }
    for func in [
        "a/vmlinux/open,1",
        "a/vmlinux/close,2",
        "b/vmlinux/open,1",
        "b/late/nap,1",
    ] {
        fs::create_dir_all(tree.path("sys/kernel/livepatch").join(func)).unwrap();
    }
    for (file, contents) in [
        ("patch_state", "0"),
        ("comm", "cat"),
        ("stack", "[<0>] nap+0x1/0x2"),
    ] {
        tree.write(&format!("proc/12/task/12/{file}"), &format!("{contents}\n"));
    }
    tree.module(&format!("var/lib/klp/{RELEASE}/a.ko"), "a");
    tree.module("var/lib/kpatch/6.1.0/old-fix.ko", "old_fix");
    tree.condemn("a", &format!("var/lib/klp/{RELEASE}/a.ko"));
    tree
}

#[test]
fn list_of_everything() {
    let tree = tree_with_everything();
    let list = format!(
        "Loaded patch modules:\n\
         a [enabled]\n\
         b [enabling...]\n\
         c [disabled]\n\
         \n\
         Stalled processes:\n\
         12 cat\n\
         stack:\n\
         [<0>] nap+0x1/0x2\n\
         \n\
         Installed patch modules:\n\
         old_fix (6.1.0)\n\
         a ({RELEASE}) [skipped at boot: the machine went down twice after loading it]\n\
         \n\
         Currently livepatched functions:\n\
         Module  Object   Function/Occurrence\n\
         a       vmlinux  close/2\n\
         b       vmlinux  open/1\n"
    );
    assert_eq!(tree.klp(&["list"]), (0, list));
    // The kernels before 6.14 do not tell the order.
    fs::remove_file(tree.path("sys/kernel/livepatch/c/stack_order")).unwrap();
    let (status, list) = tree.klp(&["list"]);
    assert_eq!((status, list.contains("Currently")), (0, false));
}

#[test]
fn list_in_json() {
    let tree = tree_with_everything();
    let (status, text) = tree.klp(&["list", "--json"]);
    assert_eq!(status, 0);
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
    let expected = serde_json::json!({
        "schema": "klp/1",
        "command": "list",
        "loaded": [
            { "name": "a", "state": "enabled" },
            { "name": "b", "state": "enabling" },
            { "name": "c", "state": "disabled" },
        ],
        "stalled": [{ "tid": 12, "comm": "cat", "stack": "[<0>] nap+0x1/0x2" }],
        "installed": [
            {
                "name": "old_fix",
                "kernel": "6.1.0",
                "file": "ROOT/var/lib/kpatch/6.1.0/old-fix.ko",
                "skipped_at_boot": false,
                "shadowed": [],
            },
            {
                "name": "a",
                "kernel": RELEASE,
                "file": format!("ROOT/var/lib/klp/{RELEASE}/a.ko"),
                "skipped_at_boot": true,
                "shadowed": [],
            },
        ],
        "functions": [
            { "module": "a", "object": "vmlinux", "function": "close", "occurrence": 2 },
            { "module": "b", "object": "vmlinux", "function": "open", "occurrence": 1 },
        ],
    });
    assert_eq!(answer, expected);
}

#[test]
fn list_of_what_is_shadowed() {
    let tree = Tree::new();
    let places = [
        format!("var/lib/klp/{RELEASE}/fix-1.ko"),
        format!("usr/lib/klp/{RELEASE}/fix_1.ko"),
        format!("var/lib/kpatch/{RELEASE}/fix_1.ko"),
    ];
    let [ours, packages, kpatch] = &places;
    for place in &places {
        tree.module(place, "fix_1");
    }
    tree.module(&format!("usr/lib/klp/{RELEASE}/fix_2.ko"), "fix_2");
    let list = format!(
        "Loaded patch modules:\n\nInstalled patch modules:\n\
         fix_1 ({RELEASE}) [ROOT/{ours} comes before ROOT/{packages}] \
         [ROOT/{ours} comes before ROOT/{kpatch}]\n\
         fix_2 ({RELEASE})\n"
    );
    assert_eq!(tree.klp(&["list"]), (0, list));
    let (_, text) = tree.klp(&["list", "--json"]);
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
    let shadowed = [packages, kpatch].map(|place| format!("ROOT/{place}"));
    assert_eq!(
        answer["installed"][0]["shadowed"],
        serde_json::json!(shadowed)
    );
}

#[test]
fn install_and_uninstall() {
    let tree = Tree::new();
    tree.module("fix-1.ko", "fix_1");
    tree.write(&format!("var/lib/klp/.boot/{RELEASE}/fix_1"), "last-boot\n");
    let installing = format!("installing fix-1.ko ({RELEASE})\n");
    assert_eq!(tree.klp(&["install", "fix-1.ko"]), (0, installing));
    let path = format!("var/lib/klp/{RELEASE}/fix-1.ko");
    assert_eq!(
        fs::read(tree.path(&path)).unwrap(),
        fs::read(tree.path("fix-1.ko")).unwrap()
    );
    let mode = fs::metadata(tree.path(&path)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    // What another file of this name did is forgotten.
    assert!(!tree.exists("var/lib/klp/.boot"));

    let again = (1, "klp: fix-1.ko is already installed\n".into());
    assert_eq!(tree.klp(&["install", "fix-1.ko"]), again);
    // It is the same module by another name, too, and where kpatch has it.
    tree.module("fix_1.ko", "fix_1");
    let again = (1, "klp: fix_1.ko is already installed\n".into());
    assert_eq!(tree.klp(&["install", "fix_1.ko"]), again);

    let uninstalling = (0, format!("uninstalling fix_1 ({RELEASE})\n"));
    assert_eq!(tree.klp(&["uninstall", "fix_1"]), uninstalling);
    assert!(!tree.exists("var/lib/klp"));
    let missing = format!("klp: fix_1 is not installed for kernel {RELEASE}\n");
    assert_eq!(tree.klp(&["uninstall", "fix_1"]), (1, missing));

    tree.module(&format!("var/lib/kpatch/{RELEASE}/fix-1.ko"), "fix_1");
    assert_eq!(tree.klp(&["install", "fix_1.ko"]), again);
    assert_eq!(tree.klp(&["uninstall", "fix_1"]), uninstalling);
    assert!(!tree.exists("var/lib/kpatch"));
}

#[test]
fn uninstall_leaves_nothing_that_would_be_loaded_instead() {
    let tree = Tree::new();
    let places = ["var/lib/klp", "var/lib/kpatch", "usr/lib/klp"]
        .map(|place| format!("{place}/{RELEASE}/fix-1.ko"));
    let other = "var/lib/klp/6.1.0/fix_1.ko";
    let install = |files: &[&str]| files.iter().for_each(|file| tree.module(file, "fix_1"));
    let uninstalling = format!("uninstalling fix_1 ({RELEASE})\n");
    let stays = "klp: fix_1 stays installed for 6.1.0: name one with -k to uninstall it there\n";

    // By kpatch too, and for another kernel, for which it stays.
    install(&[&places[0], &places[1], other]);
    let (status, text) = tree.klp(&["uninstall", "fix_1"]);
    assert_eq!((status, text), (0, uninstalling.clone() + stays));
    assert!(!places.iter().any(|file| tree.exists(file)) && tree.exists(other));
    let missing = format!(
        "klp: fix_1 is not installed for kernel {RELEASE}, but for 6.1.0: name one with -k\n"
    );
    assert_eq!(tree.klp(&["uninstall", "fix_1"]), (1, missing));
    let (status, _) = tree.klp(&["uninstall", "-k", "6.1.0", "fix_1"]);
    assert_eq!((status, tree.exists(other)), (0, false));

    // What belongs to a package stays.
    install(&places.each_ref().map(|place| &**place));
    let (status, text) = tree.klp(&["uninstall", "fix_1"]);
    let packaged = format!(
        "klp: ROOT/{} belongs to a package: remove that\n",
        places[2]
    );
    assert_eq!((status, text), (1, uninstalling + &packaged));
    assert!(!tree.exists(&places[0]) && !tree.exists(&places[1]) && tree.exists(&places[2]));

    install(&[&places[0], &places[1]]);
    let (status, text) = tree.klp(&["uninstall", "--json", "fix_1"]);
    let start = text.rfind("\n}\n").map_or(0, |end| end + 3);
    let answer: serde_json::Value = serde_json::from_str(&text[..start]).unwrap();
    assert_eq!(status, 1);
    assert_eq!(answer["file"], format!("ROOT/{}", places[0]));
    assert_eq!(answer["others"][0], format!("ROOT/{}", places[1]));
}

#[test]
fn everybody_may_look_whatever_the_umask_is() {
    let tree = Tree::new();
    tree.module("fix.ko", "fix");
    fs::create_dir_all(tree.path("var/lib")).unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", "umask 077 && exec \"$0\" \"$@\"", KLP]);
    let (status, text) = tree.run(&mut shell, &["install", "fix.ko"]);
    assert_eq!(status, 0, "{text}");
    for (path, mode) in [
        ("var/lib/klp".to_string(), 0o755),
        (format!("var/lib/klp/{RELEASE}"), 0o755),
        (format!("var/lib/klp/{RELEASE}/fix.ko"), 0o644),
    ] {
        let permissions = fs::metadata(tree.path(&path)).unwrap().permissions();
        assert_eq!(permissions.mode() & 0o777, mode, "{path}");
    }
}

#[test]
fn what_only_root_may_see_does_not_hide_the_rest() {
    let tree = tree_with_everything();
    let markers = tree.path("var/lib/klp/.boot");
    fs::set_permissions(&markers, fs::Permissions::from_mode(0o000)).unwrap();
    let klp = |arguments: &[&str]| {
        let (status, text) = tree.klp_without_privileges(arguments);
        assert_eq!(status, 0, "{arguments:?}: {text}");
        text
    };
    let list = klp(&["list"]);
    assert!(list.contains(&format!("\na ({RELEASE})\n")), "{list}");
    let list = serde_json::from_str::<serde_json::Value>(&klp(&["list", "--json"])).unwrap();
    assert_eq!(
        list["installed"][1]["skipped_at_boot"],
        serde_json::Value::Null
    );
    tree.write("proc/uptime", "100.00 100.00\n");
    let metrics = klp(&["metrics"]);
    assert!(!metrics.contains("skipped_at_boot"), "{metrics}");
    assert!(klp(&["status"]).contains("\na "));
    let (_, findings) = tree.klp_without_privileges(&["doctor"]);
    assert!(
        findings.contains("skipped at boot cannot be seen"),
        "{findings}"
    );
    fs::set_permissions(&markers, fs::Permissions::from_mode(0o755)).unwrap();

    // Who holds a transition up.
    let state = tree.path("proc/12/task/12/patch_state");
    fs::set_permissions(&state, fs::Permissions::from_mode(0o000)).unwrap();
    assert!(klp(&["list"]).contains("\nStalled processes:\n"));
    let list = serde_json::from_str::<serde_json::Value>(&klp(&["list", "--json"])).unwrap();
    assert_eq!(list.get("stalled"), Some(&serde_json::Value::Null));
}

#[test]
fn the_tasks_of_others_may_be_hidden() {
    let tree = tree_with_everything();
    tree.write("proc/uptime", "100.00 100.00\n");
    tree.module("fix.ko", "fix");
    let task = tree.path("proc/12/task");
    fs::set_permissions(&task, fs::Permissions::from_mode(0o000)).unwrap();
    for command in ["list", "status"] {
        let (status, text) = tree.klp_without_privileges(&[command]);
        assert_eq!(status, 0, "{text}");
        assert!(text.contains("b [enabling...]"), "{text}");
    }
    let (_, findings) = tree.klp_without_privileges(&["doctor"]);
    assert!(findings.contains("tasks cannot be seen"), "{findings}");
    let (_, findings) = tree.klp_without_privileges(&["check", "fix.ko"]);
    assert!(findings.contains("does not fit"), "{findings}");
    assert!(!findings.contains("proc/12"), "{findings}");
    fs::set_permissions(&task, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn install_for_another_kernel() {
    let tree = Tree::new();
    tree.put("fix.ko", &elf("fix", "6.1.0", "livepatch=Y\0"));
    let wrong = format!("klp: invalid module version 6.1.0 for kernel {RELEASE}\n");
    assert_eq!(tree.klp(&["install", "fix.ko"]), (1, wrong));
    // No running kernel need be known.
    fs::remove_dir_all(tree.path("proc")).unwrap();
    let installing = "installing fix.ko (6.1.0)\n".into();
    assert_eq!(
        tree.klp(&["install", "-k", "6.1.0", "fix.ko"]),
        (0, installing)
    );
    assert!(tree.exists("var/lib/klp/6.1.0/fix.ko"));
    let uninstalling = "uninstalling fix.ko (6.1.0)\n".into();
    let arguments = ["uninstall", "--kernel-version=6.1.0", "fix.ko"];
    assert_eq!(tree.klp(&arguments), (0, uninstalling));
}

#[test]
fn what_cannot_be_installed() {
    let tree = Tree::new();
    tree.write("garbage.ko", "garbage");
    tree.put("driver.ko", &elf("driver", RELEASE, ""));
    tree.module("core.ko", "livepatch");
    tree.module("fix.o", "fix");
    tree.module("fix-2.ko", "fix_1");
    tree.module(".fix.ko", "fix");
    fs::create_dir(tree.path("directory.ko")).unwrap();
    tree.module("fix.ko", "fix");
    let pack = Command::new("xz").arg(tree.path("fix.ko")).status();
    assert!(pack.unwrap().success());
    fs::rename(tree.path("fix.ko.xz"), tree.path("packed.ko")).unwrap();
    for (arguments, message) in [
        (&["install", "no.ko"][..], "klp: no.ko doesn't exist\n"),
        (&["install", "fix.o"], "klp: fix.o isn't a .ko file\n"),
        (
            &["install", "packed.ko"],
            "klp: packed.ko is compressed: unpack it first, such as by xz -dk or zstd -dk\n",
        ),
        (
            &["install", "driver.ko"],
            "klp: driver.ko is no live patch\n",
        ),
        (&["install", "core.ko"], "klp: core.ko is no live patch\n"),
        (
            &["install", "fix-2.ko"],
            "klp: fix-2.ko doesn't have the name of its module, which is fix_1\n",
        ),
        (
            &["install", ".fix.ko"],
            "klp: .fix.ko doesn't have the name of its module, which is fix\n",
        ),
        (
            &["install", "garbage.ko"],
            "klp: garbage.ko is not a kernel module: ",
        ),
        (
            &["install", "directory.ko"],
            "klp: directory.ko cannot be read: ",
        ),
        (
            &["uninstall", "./fix.ko"],
            "klp: please supply patch module name without path\n",
        ),
    ] {
        let (status, text) = tree.klp(arguments);
        assert_eq!((status, text.starts_with(message)), (1, true), "{text}");
    }
    assert!(!tree.exists("var"));
    // What it says about one that is packed.
    let (status, text) = tree.klp(&["info", "packed.ko", "--json"]);
    assert!(status == 0 && text.contains("\"name\": \"fix\""), "{text}");
}

#[test]
fn patches_whose_names_have_dots() {
    let tree = Tree::new();
    tree.module("fix-1.2.ko", "fix_1.2");
    assert_eq!(tree.klp(&["install", "fix-1.2.ko"]).0, 0);
    tree.patch("fix_1.2", &[("enabled", "1"), ("transition", "0")]);
    let (status, text) = tree.klp(&["list"]);
    assert_eq!(status, 0);
    assert!(text.contains("fix_1.2 [enabled]\n"), "{text}");
    assert!(text.contains(&format!("fix_1.2 ({RELEASE})\n")), "{text}");
}

#[test]
fn what_is_done_does_not_depend_on_who_reads_the_answer() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    for json in [&[][..], &["--json"]] {
        let tree = Tree::new();
        tree.patch("fix", &[("enabled", "1"), ("transition", "1")]);
        let reverse = Command::new(KLP)
            .arg("reverse")
            .args(json)
            .arg("--root")
            .arg(tree.0.path())
            .stdout(full())
            .output()
            .unwrap();
        assert!(reverse.status.success());
        let text = String::from_utf8(reverse.stderr).unwrap();
        assert!(text.contains("but it is done"), "{text}");
        let enabled = fs::read_to_string(tree.path("sys/kernel/livepatch/fix/enabled"));
        assert_eq!(enabled.unwrap(), "0\n");
    }
    let tree = Tree::new();
    let load = Command::new(KLP)
        .args(["load", "missing", "--json", "--root"])
        .arg(tree.0.path())
        .stdout(full())
        .output()
        .unwrap();
    let text = String::from_utf8(load.stderr).unwrap();
    assert!(text.contains("can't find missing"), "{text}");
    // A message that nobody can read is no crash.
    let info = Command::new(KLP)
        .args(["info", "missing", "--root"])
        .arg(tree.0.path())
        .stderr(full())
        .status();
    assert_eq!(info.unwrap().code(), Some(1));
}

#[test]
fn where_nothing_can_be_written() {
    let tree = Tree::new();
    tree.module("fix.ko", "fix");
    tree.write("var/lib", "");
    let (status, text) = tree.klp(&["install", "fix.ko"]);
    assert_eq!(status, 1);
    let (installing, error) = text.split_once('\n').unwrap();
    assert_eq!(installing, format!("installing fix.ko ({RELEASE})"));
    assert!(error.starts_with("klp: ROOT/var/lib/klp/"), "{error}");
}

#[test]
fn info_of_a_file_and_of_what_is_installed() {
    let tree = Tree::new();
    tree.module("fix.ko", "fix");
    let (status, text) = tree.klp(&["info", "fix.ko", "--json"]);
    assert_eq!(status, 0);
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["name"], "fix");
    assert_eq!(answer["livepatch"], true);
    assert_eq!(answer["kernel"], RELEASE);
    assert_eq!(answer["info"][0], serde_json::json!(["license", "GPL"]));

    let (status, text) = tree.klp(&["info", "fix.ko"]);
    assert_eq!(status, 0, "{text}");
    let start = "Patch information for fix.ko:\nfilename:       ROOT/fix.ko\n";
    assert!(text.starts_with(start), "{text}");
    assert!(text.contains("livepatch:      Y\n"), "{text}");

    tree.module(&format!("var/lib/kpatch/{RELEASE}/fix-2.ko"), "fix_2");
    assert_eq!(tree.klp(&["info", "fix_2"]).0, 0);
    tree.write("garbage.ko", "garbage");
    let (status, text) = tree.klp(&["info", "garbage.ko"]);
    assert_eq!(status, 1);
    assert!(
        text.contains("klp: failed to get info for module garbage.ko: modinfo: "),
        "{text}"
    );

    for name in ["other", "/no/where/fix-2.ko"] {
        let missing = format!("klp: can't find {name}\n");
        assert_eq!(tree.klp(&["info", name]), (1, missing));
    }
}

#[test]
fn signal_where_the_kernel_does_it() {
    let tree = Tree::new();
    assert_eq!(tree.klp(&["signal"]), (0, String::new()));
    tree.patch("fix", &[("enabled", "1"), ("transition", "1")]);
    let warnings = "klp: Livepatch process signaling is performed automatically on your system.\n\
                    klp: Skipping manual process signaling.\n";
    assert_eq!(tree.klp(&["signal"]), (0, warnings.into()));
    tree.patch("fix", &[("signal", "")]);
    // Whoever waits for the tasks has the lock.
    let lock = File::create(tree.path("run/klp.lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let signaling = "signaling stalled process(es):\n".into();
    assert_eq!(tree.klp(&["signal"]), (0, signaling));
    let signal = fs::read(tree.path("sys/kernel/livepatch/fix/signal")).unwrap();
    assert_eq!(signal, b"1");
}

#[test]
fn the_machine_has_come_up_well() {
    let tree = Tree::new();
    tree.module(&format!("var/lib/klp/{RELEASE}/b.ko"), "b");
    for (name, marker) in [
        ("a", "this-boot 1 x\n"),
        ("b", "last-boot 0 x\n"),
        ("gone", "last-boot 0 x\n"),
    ] {
        tree.write(&format!("var/lib/klp/.boot/{RELEASE}/{name}"), marker);
    }
    assert_eq!(tree.klp(&["boot-ok"]), (0, String::new()));
    assert!(!tree.exists(&format!("var/lib/klp/.boot/{RELEASE}/a")));
    assert!(tree.exists(&format!("var/lib/klp/.boot/{RELEASE}/b")));
    assert!(!tree.exists(&format!("var/lib/klp/.boot/{RELEASE}/gone")));
    tree.write(&format!("var/lib/klp/.boot/{RELEASE}/a"), "this-boot 0 x\n");
    let (status, text) = tree.klp(&["boot-ok", "--json"]);
    assert_eq!(status, 0, "{text}");
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["patches"], serde_json::json!(["a"]));
}

#[test]
fn used_wrongly() {
    let tree = Tree::new();
    for arguments in [
        &["load"][..],
        &["load", "a", "b"],
        &["load", "a", "--all"],
        &["load", "--boot"],
        &["unload"],
        &["unload", ""],
        &["unload", ".."],
        &["install", "-k", "../..", "fix.ko"],
        &["uninstall", "-k", "", "fix"],
        &["info"],
        &["install"],
        &["list", "a"],
        &["nonsense"],
    ] {
        assert_eq!(tree.klp(arguments).0, 2, "{arguments:?}");
    }
}

#[test]
fn versions() {
    let version = format!("{}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(Tree::new().klp(&["version"]), (0, version));
    // Nobody reads it.
    for arguments in [&["version"][..], &["version", "--json"]] {
        let (reader, writer) = UnixStream::pair().unwrap();
        drop(reader);
        let output = Command::new(KLP)
            .args(arguments)
            .stdout(OwnedFd::from(writer))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
            .wait_with_output()
            .unwrap();
        assert_eq!((output.status.code(), output.stderr), (Some(1), vec![]));
    }
}
