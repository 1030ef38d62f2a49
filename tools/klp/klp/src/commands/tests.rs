// SPDX-License-Identifier: GPL-2.0

//! What the commands that change patches print and do, on machines that play all cases. Lines on
//! standard error begin with `!`.

use std::{cell::RefCell, fs, rc::Rc, time::Duration};

use klp_live::{guard::Guard, kernel::Signal, lock::Lock, Core};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::{
    boot_ok,
    load::{self, Outcome},
    unload,
};
use crate::{
    elf::elf,
    fake::{no_waits, Fake, RELEASE},
    session::{Session, Waits},
};

/// Checks what was printed against lines without their indentation.
macro_rules! expect {
    ($printed:expr, $($line:literal)*) => {
        assert_eq!($printed, concat!($($line, "\n",)*))
    };
}

fn load(fake: &Fake, name: &str) -> String {
    fake.run(|session| load::by_name(session, name, &mut vec![]))
}

fn load_at_boot(fake: &Fake) -> String {
    fake.run(|session| load::at_boot(session, None, &mut vec![]))
}

fn unload(fake: &Fake, name: &str) -> String {
    fake.run(|session| unload::unload(session, name))
}

fn unload_all(fake: &Fake) -> String {
    fake.run(|session| unload::all(session, &mut vec![]))
}

fn patches(fake: &Fake) -> Vec<String> {
    let patches = fake.machine().patches().unwrap();
    patches.iter().map(|patch| patch.name().into()).collect()
}

#[test]
fn load_and_wait() {
    let fake = Fake::new().transitions_take(&[Some(3)]);
    let file = fake.module("/fix-1.ko", "fix_1");
    expect!(
        load(&fake, &file),
        "loading patch module: ROOT/fix-1.ko"
        "waiting (up to 15 seconds) for patch transition to complete..."
        "transition complete (3 seconds)"
        "done"
    );
    assert!(fake.seconds() < 3.11, "{}", fake.seconds());
    expect!(
        load(&fake, &file),
        "module named fix_1 already loaded and enabled"
        "done"
    );
}

#[test]
fn load_by_the_name_of_what_is_installed() {
    let fake = Fake::new();
    fake.module(&format!("/var/lib/kpatch/{RELEASE}/fix-1.ko"), "fix_1");
    for name in ["fix_1", "fix-1", "fix-1.ko"] {
        assert_eq!(
            load(&fake, name),
            format!("loading patch module: ROOT/var/lib/kpatch/{RELEASE}/fix-1.ko\ndone\n")
        );
        expect!(
            unload(&fake, "fix_1"),
            "disabling patch module: fix_1"
            "unloading patch module: fix_1"
            "done"
        );
    }
    expect!(load(&fake, "other"), "failed: can't find other");
    for path in ["/no/where.ko", "/no/where/fix-1.ko", "./fix_1"] {
        assert_eq!(load(&fake, path), format!("failed: can't find {path}\n"));
    }
}

#[test]
fn a_transition_that_stalls_is_taken_back() {
    let fake = Fake::new().transitions_take(&[None, Some(2)]);
    let file = fake.module("/fix.ko", "fix");
    for (path, contents) in [
        ("12/task/12/patch_state", "0\n"),
        ("12/task/12/comm", "cat\n"),
        (
            "12/task/12/stack",
            "[<0>] nap+0x1/0x2\n[<0>] read+0x3/0x4\n",
        ),
        ("12/task/13/patch_state", "1\n"),
        ("14/task/14/patch_state", "-1\n"),
    ] {
        fake.write(&format!("/proc/{path}"), contents);
    }
    expect!(
        load(&fake, &file),
        "loading patch module: ROOT/fix.ko"
        "waiting (up to 15 seconds) for patch transition to complete..."
        "patch transition has stalled!"
        "! klp: Livepatch process signaling is performed automatically on your system."
        "! klp: Skipping manual process signaling."
        "waiting (up to 60 seconds) for patch transition to complete..."
        ""
        "Stalled processes:"
        "12 cat"
        "stack:"
        "[<0>] nap+0x1/0x2"
        "[<0>] read+0x3/0x4"
        "module fix did not complete its transition, unloading..."
        "disabling patch module: fix"
        "waiting (up to 15 seconds) for patch transition to complete..."
        "transition complete (2 seconds)"
        "unloading patch module: fix"
        "failed: error: failed to load module fix (transition stalled)"
    );
    assert_eq!(patches(&fake), [""; 0]);
    assert!(!fake.path("/sys/module/fix").exists());
}

#[test]
fn old_kernels_are_made_to_signal() {
    let fake = Fake::new().transitions_take(&[Some(20)]);
    let file = fake.module("/fix.ko", "fix");
    fake.write("/sys/kernel/livepatch/fix/signal", "");
    fs::remove_dir_all(fake.path("/sys/module")).unwrap();
    fake.patch("fix", true, true);
    expect!(
        load(&fake, &file),
        "module named fix already loaded and enabled"
        "waiting (up to 15 seconds) for patch transition to complete..."
        "patch transition has stalled!"
        "signaling stalled process(es):"
        "waiting (up to 60 seconds) for patch transition to complete..."
        "transition complete (5 seconds)"
        "done"
    );
    let signal = fs::read(fake.path("/sys/kernel/livepatch/fix/signal")).unwrap();
    assert_eq!(signal, b"1");
}

#[test]
fn what_is_being_disabled_is_turned_round() {
    let fake = Fake::new().transitions_take(&[None, Some(1)]);
    let file = fake.module("/fix.ko", "fix");
    fake.patch("fix", false, true);
    expect!(
        load(&fake, &file),
        "module already loaded, re-enabling"
        "waiting (up to 15 seconds) for patch transition to complete..."
        "transition complete (1 seconds)"
        "done"
    );
    assert_eq!(patches(&fake), ["fix"]);
}

#[test]
fn turning_round_may_stall_too() {
    let fake = Fake::new().transitions_take(&[None]);
    let file = fake.module("/fix.ko", "fix");
    fake.patch("fix", false, true);
    let printed = load(&fake, &file);
    assert!(
        printed.ends_with(
            "module fix did not complete its transition, disabling...\n\
             waiting (up to 15 seconds) for patch transition to complete...\n\
             patch transition has stalled!\n\
             ! klp: Livepatch process signaling is performed automatically on your system.\n\
             ! klp: Skipping manual process signaling.\n\
             waiting (up to 60 seconds) for patch transition to complete...\n\
             failed: error: failed to re-enable module fix (transition stalled), patch disabled\n"
        ),
        "{printed}"
    );
}

#[test]
fn a_disabled_patch_of_an_old_kernel_is_enabled_again() {
    let fake = Fake::new();
    let file = fake.module("/fix.ko", "fix");
    fake.write("/sys/kernel/livepatch/fix/signal", "");
    fake.patch("fix", false, false);
    expect!(load(&fake, &file), "module already loaded, re-enabling" "done");
    assert_eq!(patches(&fake), ["fix"]);
}

#[test]
fn a_module_that_is_left_is_replaced() {
    let fake = Fake::new();
    let file = fake.module("/fix.ko", "fix");
    fake.write("/sys/module/fix/taint", "OEK\n");
    fake.write("/sys/module/fix/refcnt", "0\n");
    expect!(load(&fake, &file), "loading patch module: ROOT/fix.ko" "done");
}

#[test]
fn another_transition_is_waited_for() {
    let fake = Fake::new().transitions_take(&[Some(1), Some(0)]);
    let file = fake.module("/fix.ko", "fix");
    fake.patch("other", true, true);
    fake.failures.replace([Errno::BUSY].into());
    expect!(
        load(&fake, &file),
        "loading patch module: ROOT/fix.ko"
        "! klp: failed to load module ROOT/fix.ko: the transition of patch other is going on, \
         and there can be only one"
        "! klp: retrying..."
        "done"
    );
    assert!(fake.seconds() < 1.11, "{}", fake.seconds());
}

#[test]
fn a_busy_kernel_is_tried_five_times() {
    let fake = Fake::new();
    let file = fake.module("/fix.ko", "fix");
    fake.failures.replace([Errno::BUSY; 9].into());
    let printed = load(&fake, &file);
    assert_eq!(printed.matches("retrying...").count(), 4, "{printed}");
    assert!(
        printed.ends_with(
            "failed: failed to load module ROOT/fix.ko: something else has changed one of its \
             functions; the kernel log says why (dmesg)\n"
        ),
        "{printed}"
    );
    assert_eq!(fake.failures.borrow().len(), 4);
    assert_eq!(fake.seconds(), 8.);
}

#[test]
fn the_kernels_errors_are_explained() {
    let fake = Fake::new();
    let file = fake.module("/fix.ko", "fix");
    let foreign = fake.path("/foreign.ko");
    fs::write(&foreign, elf("fix", "6.1.0", "livepatch=Y\0")).unwrap();
    let foreign = foreign.to_str().unwrap();
    fake.write(
        "/sys/kernel/security/lockdown",
        "none [integrity] confidentiality\n",
    );
    for (file, errno, meaning) in [
        (
            &*file,
            Errno::NOKEY,
            "its signature is missing, or not by a key",
        ),
        (
            &file,
            Errno::KEYREJECTED,
            "its signature is missing, or not by a key",
        ),
        (&file, Errno::NOEXEC, "the kernel cannot use this module"),
        (
            foreign,
            Errno::NOEXEC,
            "it is for the kernel 6.1.0, and this one is 7.3.4-test",
        ),
        (&file, Errno::NOENT, "it refers to a symbol that is not in"),
        (
            &file,
            Errno::INVAL,
            "the kernel refuses it; the kernel log says why",
        ),
        (&file, Errno::EXIST, "another module named fix is loaded"),
        (&file, Errno::NOMEM, "Cannot allocate memory"),
    ] {
        fake.failures.replace([errno].into());
        let printed = load(&fake, file);
        let failed = printed.lines().last().unwrap();
        assert!(
            failed.starts_with("failed: failed to load module ROOT/"),
            "{failed}"
        );
        assert!(failed.contains(meaning), "{errno}: {failed}");
    }
    if rustix::process::geteuid().is_root() {
        for (path, contents, meaning) in [
            ("/nothing", "", "the kernel is locked down"),
            (
                "/proc/sys/kernel/modules_disabled",
                "1\n",
                "switched off until the next boot",
            ),
        ] {
            fake.write(path, contents);
            fake.failures.replace([Errno::PERM].into());
            let printed = load(&fake, &file);
            assert!(printed.contains(meaning), "{printed}");
        }
    }
}

#[test]
fn what_keeps_the_kernel_busy_is_told() {
    let fake = Fake::new().transitions_take(&[None]);
    let file = fake.module("/fix.ko", "fix");
    let busy = || {
        fake.failures.replace([Errno::BUSY].into());
        let body = |session: &Session| load::by_name(session, &file, &mut vec![]);
        fake.run_with(&no_waits(), body)
    };
    assert!(busy().contains("something else has changed one of its functions; "));
    fake.write("/proc/sys/kernel/ftrace_enabled", "0\n");
    assert!(busy().contains("sysctl kernel.ftrace_enabled=1 switches it on"));
    fake.patch("other", true, true);
    assert!(busy().contains("the transition of patch other is going on"));
}

#[test]
fn modules_that_can_neither_be_loaded_nor_unloaded() {
    let fake = Fake::new();
    fake.write("/proc/sys/kernel/modules_disabled", "1\n");
    fake.patch("fix", true, false);
    let printed = unload(&fake, "fix");
    let warning =
        "! klp: once patch fix is disabled, it cannot be loaded again: loading and unloading \
                   modules is switched off until the next boot (kernel.modules_disabled)\n";
    assert!(printed.starts_with(warning), "{printed}");
    fake.write("/sys/module/fix/taint", "OEK\n");
    fake.failures.replace([Errno::PERM].into());
    let printed = unload(&fake, "fix");
    let reason = if rustix::process::geteuid().is_root() {
        "modules is switched off"
    } else {
        "must be root"
    };
    assert!(printed.contains(reason), "{printed}");
}

#[test]
fn a_module_that_somebody_else_is_loading_is_waited_for() {
    let fake = Fake::new();
    let file = fake.module("/fix.ko", "fix");
    fake.write("/sys/module/fix/taint", "OEK\n");
    fake.write("/sys/module/fix/initstate", "coming\n");
    let loaded: Box<dyn Fn(&Fake)> = Box::new(|fake| {
        fake.write("/sys/module/fix/initstate", "live\n");
        fake.patch("fix", true, false);
    });
    fake.event.replace(Some((Duration::from_secs(3), loaded)));
    assert_eq!(
        load(&fake, &file),
        "module named fix already loaded and enabled\ndone\n"
    );
    assert_eq!(fake.seconds().round(), 3.);

    fake.write("/sys/module/other/taint", "OEK\n");
    fake.write("/sys/module/other/initstate", "coming\n");
    let printed = unload(&fake, "other");
    assert_eq!(printed, "failed: somebody else is loading module other\n");

    // The Rust core is not in charge before it is initialised.
    fake.write("/sys/module/livepatch/version", "1.0\n");
    fake.write("/sys/module/livepatch/initstate", "coming\n");
    assert_eq!(fake.machine().core().unwrap(), Core::BuiltIn);
    fake.write("/sys/module/livepatch/initstate", "live\n");
    assert!(matches!(fake.machine().core().unwrap(), Core::Rust { .. }));
}

#[test]
fn a_signal_while_a_patch_is_checked_keeps_it_from_being_loaded() {
    let fake = Fake::new();
    let file = fake.module("/fix.ko", "fix");
    // It comes after the first look for one.
    let arrives = |fake: &Fake| fake.signal.set(Some((Duration::ZERO, Signal::Terminate)));
    let first_look = move |fake: &Fake| {
        fake.event
            .replace(Some((Duration::ZERO, Box::new(arrives))));
    };
    fake.event
        .replace(Some((Duration::ZERO, Box::new(first_look))));
    let body = |session: &Session| {
        session.checks.set(true);
        load::by_name(session, &file, &mut vec![])
    };
    let printed = fake.run(body);
    assert!(
        printed.ends_with("interrupted by 15: ROOT/fix.ko is not loaded\n"),
        "{printed}"
    );
    assert!(printed.contains("loading patch module"), "{printed}");
    assert!(patches(&fake).is_empty());
}

#[test]
fn what_is_no_live_patch_is_refused() {
    let fake = Fake::new();
    for (contents, reason) in [
        (b"garbage".to_vec(), "not a kernel module: "),
        (vec![], "not a kernel module: "),
        (elf("fix", RELEASE, ""), "the module is no live patch"),
        (
            elf("livepatch", RELEASE, "livepatch=Y\0"),
            "the module is no live patch",
        ),
    ] {
        fs::write(fake.path("/fix.ko"), contents).unwrap();
        let printed = load(&fake, fake.path("/fix.ko").to_str().unwrap());
        assert!(
            printed.starts_with(&format!("failed: ROOT/fix.ko: {reason}")),
            "{printed}"
        );
    }
}

#[test]
fn a_signal_while_enabling() {
    let fake = Fake::new().transitions_take(&[None]);
    let file = fake.module("/fix.ko", "fix");
    fake.signal
        .set(Some((Duration::from_secs(4), Signal::Interrupt)));
    expect!(
        load(&fake, &file),
        "loading patch module: ROOT/fix.ko"
        "waiting (up to 15 seconds) for patch transition to complete..."
        "interrupted by 2: the kernel goes on enabling patch fix; klp unload fix takes it off again"
    );
    assert_eq!(patches(&fake), ["fix"]);
}

#[test]
fn a_signal_while_disabling_and_going_on() {
    let fake = Fake::new().transitions_take(&[Some(9)]);
    fake.patch("fix", true, false);
    fake.write("/sys/kernel/livepatch/fix/remaining", "3\n");
    fake.signal
        .set(Some((Duration::from_secs(4), Signal::Terminate)));
    expect!(
        unload(&fake, "fix"),
        "disabling patch module: fix"
        "waiting (up to 15 seconds) for patch transition to complete..."
        "interrupted by 15: the kernel goes on disabling patch fix, 3 tasks are left; \
         klp unload fix waits for it again"
    );
    expect!(
        unload(&fake, "fix"),
        "waiting (up to 15 seconds) for patch transition to complete..."
        "transition complete (4 seconds)"
        "unloading patch module: fix"
        "done"
    );
}

#[test]
fn a_signal_between_attempts() {
    let fake = Fake::new();
    let file = fake.module("/fix.ko", "fix");
    fake.failures.replace([Errno::BUSY].into());
    fake.signal
        .set(Some((Duration::from_secs(1), Signal::Interrupt)));
    let printed = load(&fake, &file);
    assert!(
        printed.ends_with("interrupted by 2: failed to load module ROOT/fix.ko\n"),
        "{printed}"
    );
    assert_eq!(patches(&fake), [""; 0]);
}

#[test]
fn a_signal_between_patches() {
    let fake = Fake::new();
    install(&fake, "a");
    install(&fake, "b");
    fake.patch("c", true, false);
    fake.signal.set(Some((Duration::ZERO, Signal::Interrupt)));
    let place = format!("ROOT/var/lib/klp/{RELEASE}");
    assert_eq!(
        load_at_boot(&fake),
        format!("interrupted by 2: {place}/a.ko is not loaded\n")
    );
    fake.signal.set(Some((Duration::ZERO, Signal::Terminate)));
    expect!(unload_all(&fake), "interrupted by 15: c is not unloaded");
}

#[test]
fn a_kernel_without_live_patching() {
    let fake = Fake::new();
    let file = fake.module("/fix.ko", "fix");
    fs::remove_dir(fake.path("/sys/kernel/livepatch")).unwrap();
    expect!(
        load(&fake, &file),
        "failed: this kernel has no live patching: there is no ROOT/sys/kernel/livepatch"
    );
}

#[test]
fn unloading_what_is_not_there() {
    let fake = Fake::new();
    expect!(
        unload(&fake, "fix"),
        "failed: patch module fix is not loaded"
    );
    fake.write("/sys/module/ext4/taint", "\n");
    expect!(
        unload(&fake, "ext4"),
        "failed: module ext4 is no live patch"
    );
    assert!(fake.path("/sys/module/ext4").exists());
    // The Rust core taints the kernel as a patch does.
    fake.write("/sys/module/livepatch/taint", "OEK\n");
    expect!(
        unload(&fake, "livepatch"),
        "failed: module livepatch is no live patch"
    );
    assert!(fake.path("/sys/module/livepatch").exists());
}

#[test]
fn unloading_what_is_disabled() {
    let fake = Fake::new();
    fake.write("/sys/module/fix/taint", "OEK\n");
    fake.write("/sys/module/fix/refcnt", "0\n");
    expect!(unload(&fake, "fix"), "unloading patch module: fix" "done");
}

#[test]
fn unloading_what_stalls() {
    let fake = Fake::new().transitions_take(&[None]);
    fake.patch("fix", true, false);
    let printed = unload(&fake, "fix");
    assert!(
        printed.ends_with("failed: transition stalled for fix\n"),
        "{printed}"
    );
    assert!(fake.path("/sys/module/fix").exists());
}

#[test]
fn a_module_in_use_stays() {
    let fake = Fake::new();
    fake.patch("fix", true, false);
    fake.keeps_users.set(true);
    expect!(
        unload(&fake, "fix"),
        "disabling patch module: fix"
        "waiting (up to 15 seconds) for module refcount..."
        "! klp: module fix has no effect any more, but is in use; after a forced transition, only the next boot frees it"
        "failed: failed to unload module fix (refcnt)"
    );
}

#[test]
fn a_module_that_the_kernel_keeps_is_no_error() {
    let fake = Fake::new();
    fake.write("/sys/module/fix/taint", "OEK\n");
    fake.failures.replace([Errno::WOULDBLOCK].into());
    expect!(
        unload(&fake, "fix"),
        "unloading patch module: fix"
        "! klp: module fix stays loaded: it is in use"
        "done"
    );
}

#[test]
fn a_module_that_somebody_else_has_unloaded_is_gone() {
    let fake = Fake::new();
    fake.write("/sys/module/fix/taint", "OEK\n");
    fake.failures.replace([Errno::NOENT].into());
    expect!(unload(&fake, "fix"), "unloading patch module: fix" "done");
}

#[test]
fn unload_all_patches() {
    let fake = Fake::new();
    fake.patch("b", true, false);
    fake.patch("a", true, false);
    expect!(
        unload_all(&fake),
        "disabling patch module: a"
        "unloading patch module: a"
        "disabling patch module: b"
        "unloading patch module: b"
        "done"
    );
    expect!(unload_all(&fake), "done");
}

#[test]
fn old_kernels_want_the_newest_patch_first() {
    let fake = Fake::new();
    fake.patch("a", true, false);
    fake.patch("b", true, false);
    fake.failures.replace([Errno::INVAL].into());
    expect!(
        unload_all(&fake),
        "disabling patch module: a"
        "! klp: failed to disable module a: Invalid argument (os error 22); \
         the kernel log says why (dmesg)"
        "disabling patch module: b"
        "unloading patch module: b"
        "disabling patch module: a"
        "unloading patch module: a"
        "done"
    );
}

#[test]
fn unload_all_says_what_is_left() {
    let fake = Fake::new().transitions_take(&[None]);
    fake.patch("fix", true, false);
    let printed = unload_all(&fake);
    assert!(
        printed.ends_with(
            "! klp: transition stalled for fix\n\
             ! klp: failed to unload module fix\n\
             failed: not all patches could be unloaded\n"
        ),
        "{printed}"
    );
}

fn install(fake: &Fake, name: &str) {
    fake.module(&format!("/var/lib/klp/{RELEASE}/{name}.ko"), name);
}

fn marker(name: &str) -> String {
    format!("/var/lib/klp/.boot/{RELEASE}/{name}")
}

/// The last boots have died with what is installed, one more than this number.
fn die(fake: &Fake, name: &str, deaths: u32) {
    let file = fs::read(fake.path(&format!("/var/lib/klp/{RELEASE}/{name}.ko"))).unwrap();
    let text = format!("last-boot {deaths} {:x}\n", Sha256::digest(file));
    fake.write(&marker(name), &text);
}

#[test]
fn a_patch_with_which_the_machine_died_twice_is_skipped() {
    let fake = Fake::new();
    for name in ["bad", "good", "once"] {
        install(&fake, name);
    }
    fake.write("/dev/kmsg", "");
    die(&fake, "bad", 1);
    die(&fake, "once", 0);
    let place = format!("ROOT/var/lib/klp/{RELEASE}");
    assert_eq!(
        load_at_boot(&fake),
        format!(
            "! klp: patch bad is not loaded: the machine died at two boots in a row after it was \
             loaded; \"klp load bad\" tries it again\n\
             loading patch module: {place}/good.ko\n\
             ! klp: the machine died at the last boot after patch once was loaded; it is loaded \
             once more\n\
             loading patch module: {place}/once.ko\n\
             failed: not loaded: bad\n"
        )
    );
    let log = fs::read_to_string(fake.path("/dev/kmsg")).unwrap();
    assert!(
        log.starts_with("<4>klp: patch bad is not loaded: "),
        "{log}"
    );
    for (name, start) in [
        ("bad", "last-boot 1 "),
        ("good", "this-boot 0 "),
        ("once", "this-boot 1 "),
    ] {
        let text = fs::read_to_string(fake.path(&marker(name))).unwrap();
        assert!(text.starts_with(start), "{text}");
    }

    let printed = load(&fake, "bad");
    assert!(printed.ends_with("bad.ko\ndone\n"), "{printed}");
    assert!(!fake.path(&marker("bad")).exists());
}

#[test]
fn another_file_of_the_name_is_not_suspected() {
    let fake = Fake::new();
    install(&fake, "fix");
    fake.write(&marker("fix"), "last-boot 5 other\n");
    fake.write(&marker("gone"), "last-boot 5 other\n");
    let printed = load_at_boot(&fake);
    assert!(printed.ends_with("fix.ko\ndone\n"), "{printed}");
    assert!(!fake.path(&marker("gone")).exists());
    // Nor does loading another file by hand clear the one that is installed.
    unload(&fake, "fix");
    die(&fake, "fix", 1);
    let other = fake.path("/fix.ko");
    fs::write(&other, elf("fix", RELEASE, "livepatch=Y\0version=2\0")).unwrap();
    load(&fake, other.to_str().unwrap());
    assert!(fake.path(&marker("fix")).exists());
}

#[test]
fn a_patch_that_may_have_killed_the_machine_is_not_loaded_unguarded() {
    let fake = Fake::new();
    install(&fake, "a");
    install(&fake, "b");
    // It may say that the last boot died, and cannot be written anew.
    fs::create_dir_all(fake.path(&marker("a"))).unwrap();
    let mut loaded = vec![];
    let printed = fake.run(|session| load::at_boot(session, None, &mut loaded));
    let outcomes = loaded.iter().map(|patch| patch.outcome).collect::<Vec<_>>();
    assert_eq!(outcomes, [Outcome::Skipped, Outcome::Loaded]);
    assert_eq!(patches(&fake), ["b"]);
    assert!(
        printed.starts_with("! klp: patch a is not loaded: the machine died at the last boot"),
        "{printed}"
    );
    assert!(printed.contains("cannot be noted: ROOT/"), "{printed}");
    assert!(printed.ends_with("failed: not loaded: a\n"), "{printed}");
    assert!(load(&fake, "a").contains("loading patch module: "));
    assert_eq!(patches(&fake), ["a", "b"]);
}

#[test]
fn a_patch_that_fails_by_hand_stays_under_suspicion() {
    let fake = Fake::new();
    install(&fake, "bad");
    die(&fake, "bad", 1);
    fake.failures.replace([Errno::INVAL].into());
    assert!(load(&fake, "bad").contains("the kernel refuses it"));
    assert!(fake.path(&marker("bad")).exists());
}

#[test]
fn what_the_boot_has_loaded_stays_on_probation() {
    let fake = Fake::new();
    install(&fake, "fix");
    load_at_boot(&fake);
    expect!(load(&fake, "fix"), "module named fix already loaded and enabled" "done");
    assert!(fake.path(&marker("fix")).exists());
    fake.run(|session| load::all(session, &mut vec![]));
    assert!(fake.path(&marker("fix")).exists());
    unload(&fake, "fix");
    load(&fake, "fix");
    assert!(fake.path(&marker("fix")).exists());
}

#[test]
fn a_load_that_was_interrupted_is_completed_and_trusted() {
    let fake = Fake::new().transitions_take(&[Some(9)]);
    install(&fake, "bad");
    die(&fake, "bad", 1);
    fake.signal
        .set(Some((Duration::from_secs(4), Signal::Interrupt)));
    assert!(load(&fake, "bad").contains("interrupted by 2"));
    assert!(fake.path(&marker("bad")).exists());
    let printed = load(&fake, "bad");
    assert!(printed.ends_with("done\n"), "{printed}");
    assert!(!fake.path(&marker("bad")).exists());
}

#[test]
fn a_patch_that_does_not_come_into_effect_leaves_no_marker() {
    let fake = Fake::new();
    install(&fake, "fix");
    fake.failures.replace([Errno::INVAL].into());
    load_at_boot(&fake);
    assert!(!fake.path(&marker("fix")).exists());
}

#[test]
fn a_shutdown_while_patches_are_loaded_is_no_death() {
    let fake = Fake::new().transitions_take(&[None]);
    install(&fake, "fix");
    fake.signal
        .set(Some((Duration::from_secs(4), Signal::Terminate)));
    let printed = load_at_boot(&fake);
    assert!(printed.contains("interrupted by 15"), "{printed}");
    assert!(!fake.path("/var/lib/klp/.boot").exists());
}

#[test]
fn the_core_is_guarded_as_a_patch_is() {
    let fake = Fake::new();
    let modules = format!("/lib/modules/{RELEASE}");
    let core = format!("{modules}/updates/dkms/livepatch.ko.xz");
    let at_boot = || fake.run(|session| load::at_boot(session, Some("livepatch"), &mut vec![]));
    let reboot = |boot| {
        fake.write("/proc/sys/kernel/random/boot_id", boot);
        fs::remove_dir_all(fake.path("/sys/module/livepatch")).unwrap();
    };
    let missing = format!("failed: the Rust core is not installed for kernel {RELEASE}\n");
    assert_eq!(at_boot(), missing);
    fake.write(&core, "core");
    fake.write(
        &format!("{modules}/modules.dep"),
        "kernel/a.ko.xz: kernel/b.ko.xz\nupdates/dkms/livepatch.ko.xz:\n",
    );
    fake.write("/dev/kmsg", "");

    // What could not be loaded has not killed the machine.
    fake.failures.replace([Errno::BUSY].into());
    assert_eq!(
        at_boot(),
        format!(
            "loading the Rust core: ROOT{core}\n\
             ! klp: failed to load module livepatch: Device or resource busy (os error 16); \
             the kernel log says why (dmesg)\n\
             failed: not loaded: livepatch\n"
        )
    );
    assert!(!fake.path("/var/lib/klp").exists());
    fake.patch("fix", true, false);
    for (errno, advice) in [(Errno::BUSY, true), (Errno::KEYREJECTED, false)] {
        fake.failures.replace([errno].into());
        let printed = at_boot();
        assert_eq!(printed.contains("klp unload --all"), advice, "{printed}");
    }
    fs::remove_dir_all(fake.path("/sys/kernel/livepatch/fix")).unwrap();

    let loading = format!("loading the Rust core: ROOT{core}\ndone\n");
    assert_eq!(at_boot(), loading);
    // The patches come later, and leave it on probation; so does loading it by hand.
    expect!(load_at_boot(&fake), "done");
    expect!(load(&fake, "livepatch"), "module named livepatch already loaded" "done");
    assert!(fake.path(&marker("livepatch")).exists());
    reboot("second");
    let warning = "! klp: the machine died at the last boot after the Rust core was loaded; it is \
                   loaded once more\n";
    assert_eq!(at_boot(), warning.to_string() + &loading);
    reboot("third");
    let skipped =
        "the Rust core is not loaded: the machine died at two boots in a row after it was \
                   loaded; \"klp load livepatch\" tries it again";
    assert_eq!(
        at_boot(),
        format!("! klp: {skipped}\nfailed: not loaded: livepatch\n")
    );
    let log = fs::read_to_string(fake.path("/dev/kmsg")).unwrap();
    assert!(log.ends_with(&format!("<4>klp: {skipped}\n")), "{log}");
    assert!(!fake.path("/sys/module/livepatch").exists());
    let guard = Guard::new(&fake.machine(), RELEASE);
    assert_eq!(guard.suspects().unwrap().unwrap(), ["livepatch"]);

    // Another build is not under suspicion, and one that somebody has loaded is no longer.
    fake.write(&core, "another core");
    assert_eq!(at_boot(), loading);
    reboot("fourth");
    fake.write(&core, "core");
    assert_eq!(load(&fake, "livepatch"), loading);
}

#[test]
fn a_core_that_is_gone_leaves_no_marker() {
    let fake = Fake::new();
    fake.write(&marker("livepatch"), "last-boot 1 x\n");
    expect!(load_at_boot(&fake), "done");
    assert!(!fake.path("/var/lib/klp").exists());
}

#[test]
fn the_boot_is_well_after_five_minutes_or_a_shutdown() {
    let fake = Fake::new();
    install(&fake, "fix");
    let well = |when_proven| {
        fake.run(|session| {
            assert_eq!(boot_ok::boot_ok(session, when_proven).unwrap(), ["fix"]);
            Ok(())
        })
    };
    load_at_boot(&fake);
    expect!(well(true), "done");
    assert_eq!(fake.seconds(), 300.);
    load_at_boot(&fake);
    fake.signal
        .set(Some((Duration::from_secs(310), Signal::Terminate)));
    expect!(well(true), "done");
    load_at_boot(&fake);
    // Who has the lock is not waited for.
    let lock = Lock::take(&fake.machine(), "klp load x").unwrap();
    let before = fake.seconds();
    expect!(well(false), "done");
    assert_eq!(fake.seconds(), before);
    drop(lock);
}

#[test]
fn a_patch_that_somebody_takes_back_is_not_loaded() {
    let fake = Fake::new().transitions_take(&[None, Some(0)]);
    let file = fake.module("/fix.ko", "fix");
    fake.patch("old", true, false);
    fake.write("/sys/kernel/livepatch/old/replace", "1\n");
    fake.event.replace(Some((
        Duration::from_secs(2),
        Box::new(|fake| fake.disable("fix")),
    )));
    let printed = load(&fake, &file);
    assert!(
        printed.ends_with(
            "failed: patch fix was taken back while it was being enabled; somebody else has \
             disabled it\n"
        ),
        "{printed}"
    );
}

#[test]
fn a_patch_that_another_replaces_was_loaded() {
    for (replace, end) in [
        (Some("1\n"), "done\n"),
        (None, "done\n"),
        (Some("0\n"), "\n"),
    ] {
        let fake = Fake::new().transitions_take(&[None, Some(0)]);
        let file = fake.module("/fix.ko", "fix");
        fake.event.replace(Some((
            Duration::from_secs(2),
            Box::new(move |fake| {
                fake.disable("fix");
                fake.patch("newer", true, false);
                if let Some(replace) = replace {
                    fake.write("/sys/kernel/livepatch/newer/replace", replace);
                }
            }),
        )));
        let printed = load(&fake, &file);
        assert_eq!(printed.contains("taken back"), replace == Some("0\n"));
        assert!(printed.ends_with(end), "{printed}");
    }
}

#[test]
fn another_build_is_not_taken_for_the_one_that_is_loaded() {
    let fake = Fake::new();
    let file = fake.module("/fix.ko", "fix");
    for (enabled, transition) in [(true, false), (false, false)] {
        fake.patch("fix", enabled, transition);
        fake.write("/sys/module/fix/srcversion", "B2\n");
        expect!(
            load(&fake, &file),
            "failed: another build of fix is loaded; \"klp unload fix\" takes it off"
        );
    }
    fake.patch("fix", true, false);
    fs::remove_file(fake.path("/sys/module/fix/srcversion")).unwrap();
    expect!(
        load(&fake, &file),
        "! klp: whether this build of fix is the one that is loaded cannot be told"
        "module named fix already loaded and enabled"
        "done"
    );
}

#[test]
fn what_was_replaced_is_not_loaded_again() {
    let fake = Fake::new();
    for number in [9, 10] {
        fake.module(
            &format!("/var/lib/klp/{RELEASE}/fix-{number}.ko"),
            &format!("fix_{number}"),
        );
    }
    fake.patch("fix_10", true, false);
    fake.write("/sys/module/fix_9/taint", "OEK\n");
    fake.write("/sys/module/fix_9/refcnt", "0\n");
    let all = |session: &Session| load::all(session, &mut vec![]);
    let printed = fake.run(all);
    assert!(
        printed.starts_with("! klp: patch fix_9 is not loaded again: "),
        "{printed}"
    );
    assert!(printed.ends_with("done\n"), "{printed}");
    assert_eq!(patches(&fake), ["fix_10"]);
    assert!(load_at_boot(&fake).starts_with("! klp: patch fix_9 is not loaded again: "));
}

#[test]
fn an_older_patch_is_not_loaded_over_one_that_replaces_it() {
    let fake = Fake::new();
    for name in ["fix_9", "fix_10", "fix_11"] {
        install(&fake, name);
    }
    fake.patch("fix_10", true, false);
    let all = |fake: &Fake| {
        let mut loaded = vec![];
        let printed = fake.run(|session| load::all(session, &mut loaded));
        let outcomes = loaded.iter().map(|patch| patch.outcome).collect::<Vec<_>>();
        assert!(printed.ends_with("done\n"), "{printed}");
        unload(fake, "fix_9");
        unload(fake, "fix_11");
        (outcomes, printed)
    };
    fake.write("/sys/kernel/livepatch/fix_10/replace", "1\n");
    let (outcomes, printed) = all(&fake);
    assert!(
        printed.starts_with("! klp: patch fix_9 is not loaded: patch fix_10 comes after it"),
        "{printed}"
    );
    let newer = [Outcome::AlreadyLoaded, Outcome::Loaded];
    assert_eq!(outcomes, [&[Outcome::Replaced][..], &newer].concat());
    let printed = load_at_boot(&fake);
    assert!(
        printed.starts_with("! klp: patch fix_9 is not loaded: "),
        "{printed}"
    );
    unload(&fake, "fix_11");
    // Another one of its kind does not replace it, nor does one of which that is not known.
    for replace in ["0\n", ""] {
        let file = "/sys/kernel/livepatch/fix_10/replace";
        match replace {
            "" => fs::remove_file(fake.path(file)).unwrap(),
            _ => fake.write(file, replace),
        }
        let (outcomes, _) = all(&fake);
        assert_eq!(outcomes, [&[Outcome::Loaded][..], &newer].concat());
    }
}

#[test]
fn a_patch_that_is_not_in_force_any_more_is_told() {
    let told = "klp: patch a is not in force any more, since patch z has replaced it; a is still \
                installed, and boots load what is installed in the order of names\n";
    let replaces = |fake: &Fake| {
        // In the middle of the second transition.
        let forget = |fake: &Fake| {
            fs::remove_dir_all(fake.path("/sys/kernel/livepatch/a")).unwrap();
        };
        fake.event
            .replace(Some((Duration::from_secs(2), Box::new(forget))));
        fake.write("/dev/kmsg", "");
    };
    let fake = || Fake::new().transitions_take(&[Some(1), Some(3)]);
    let log = |fake: &Fake| fs::read_to_string(fake.path("/dev/kmsg")).unwrap();

    // It may have been the one that was loaded last before the boot.
    let boot = fake();
    install(&boot, "a");
    install(&boot, "z");
    replaces(&boot);
    let mut loaded = vec![];
    let printed = boot.run(|session| load::at_boot(session, None, &mut loaded));
    assert!(printed.ends_with(&format!("! {told}done\n")), "{printed}");
    assert_eq!(log(&boot), format!("<4>{told}"));
    assert!(loaded.iter().all(|patch| patch.outcome == Outcome::Loaded));

    // One that is not installed is not there at the next boot either.
    for is_installed in [true, false] {
        let by_hand = fake();
        let file = by_hand.module("/a.ko", "a");
        let newer = by_hand.module("/z.ko", "z");
        if is_installed {
            install(&by_hand, "a");
        }
        replaces(&by_hand);
        load(&by_hand, &file);
        let printed = load(&by_hand, &newer);
        assert!(printed.ends_with("done\n"), "{printed}");
        assert_eq!(printed.contains(told), is_installed, "{printed}");
        assert_eq!(log(&by_hand), "");
    }
}

#[test]
fn unload_all_goes_on_past_a_module_in_use() {
    let fake = Fake::new();
    fake.patch("a", true, false);
    fake.patch("b", true, false);
    fake.keeps_users.set(true);
    let mut gone = vec![];
    let printed = fake.run(|session| unload::all(session, &mut gone));
    assert_eq!(
        printed.matches("failed to unload module").count(),
        2,
        "{printed}"
    );
    assert!(
        printed.ends_with("failed: not all patches could be unloaded\n"),
        "{printed}"
    );
    assert_eq!(gone, [""; 0]);
    assert_eq!(patches(&fake), [""; 0]);
}

#[test]
fn a_write_that_loses_a_race_is_read_again() {
    let fake = Fake::new();
    fake.patch("fix", true, false);
    fake.failures.replace([Errno::INVAL].into());
    fake.loses_races.set(true);
    expect!(
        unload(&fake, "fix"),
        "disabling patch module: fix"
        "unloading patch module: fix"
        "done"
    );
}

#[test]
fn at_boot_what_fails_does_not_stop_others() {
    let fake = Fake::new();
    install(&fake, "a");
    install(&fake, "b");
    fake.failures.replace([Errno::INVAL].into());
    let printed = load_at_boot(&fake);
    assert_eq!(patches(&fake), ["b"]);
    assert!(printed.ends_with("failed: not loaded: a\n"), "{printed}");
    // Started twice, it has nothing more to do.
    fs::remove_file(fake.path(&format!("/var/lib/klp/{RELEASE}/a.ko"))).unwrap();
    expect!(load_at_boot(&fake), "module named b already loaded and enabled" "done");
}

#[test]
fn a_full_disk_does_not_keep_patches_away_at_boot() {
    let fake = Fake::new();
    fake.module(&format!("/var/lib/kpatch/{RELEASE}/fix.ko"), "fix");
    fake.write("/var/lib/klp", "");
    let printed = load_at_boot(&fake);
    assert!(
        printed.starts_with("! klp: patch fix is loaded unguarded: "),
        "{printed}"
    );
    assert_eq!(patches(&fake), ["fix"]);
}

#[test]
fn patches_of_kpatch_are_left_to_its_unit_if_there_is_one() {
    let fake = Fake::new();
    fake.module(&format!("/var/lib/kpatch/{RELEASE}/fix.ko"), "fix");
    let unit = "/usr/lib/systemd/system/kpatch.service";
    fake.write(unit, "[Service]\n");
    let left = "! klp: left to kpatch.service: fix\ndone\n";
    assert_eq!(load_at_boot(&fake), left);
    // The administrator has masked it.
    let mask = fake.path("/etc/systemd/system/kpatch.service");
    fs::create_dir_all(mask.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/dev/null", &mask).unwrap();
    assert_eq!(load_at_boot(&fake), left);
    // The package is gone, and the mask is left.
    fs::remove_file(fake.path(unit)).unwrap();
    load_at_boot(&fake);
    assert_eq!(patches(&fake), ["fix"]);
}

#[test]
fn at_boot_the_lock_is_waited_for() {
    let fake = Fake::new();
    let lock = Rc::new(RefCell::new(Lock::take(&fake.machine(), "klp load x").ok()));
    let given_up = Rc::clone(&lock);
    let give_up = move |_: &Fake| drop(given_up.take());
    fake.event
        .replace(Some((Duration::from_secs(100), Box::new(give_up))));
    let printed = fake.run(|session| session.lock_within("x", Duration::MAX).map(drop));
    assert!(printed.ends_with("...\ndone\n"), "{printed}");
    assert_eq!(fake.seconds().round(), 100.);
}

#[test]
fn who_has_the_lock_is_told() {
    let fake = Fake::new();
    let lock = Lock::take(&fake.machine(), "klp load x").unwrap();
    let take = |session: &Session| session.lock("klp list").map(drop);
    let pid = std::process::id();
    assert_eq!(
        fake.run(take),
        format!(
            "! klp: waiting for \"klp load x\" (process {pid})...\n\
             failed: \"klp load x\" (process {pid}) is changing patches; try again when it is done\n"
        )
    );
    assert_eq!(fake.seconds(), 8.);
    fake.signal
        .set(Some((Duration::from_secs(9), Signal::Terminate)));
    assert!(fake
        .run(take)
        .ends_with("interrupted by 15: nothing is changed\n"));
    drop(lock);
    expect!(fake.run(take), "done");
    expect!(fake.run_with(&no_waits(), take), "done");
}

#[test]
fn seconds_are_read_and_shown() {
    use clap::{Args, Command, FromArgMatches};
    let parse = |value: &str| {
        let command = Waits::augment_args(Command::new("klp"));
        let matches = command.try_get_matches_from(["klp", "--wait", value]);
        matches.map(|matches| Waits::from_arg_matches(&matches).unwrap().wait.to_string())
    };
    assert_eq!(parse("15").unwrap(), "15");
    assert_eq!(parse("0.50").unwrap(), "0.5");
    for wrong in ["-1", "x", "", "nan", "inf", "1e300"] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}
