// SPDX-License-Identifier: GPL-2.0

//! Builds a tree with the sysfs and procfs of a machine with live patches.

use std::{fs, path::Path};

/// A machine in a temporary directory.
pub struct Tree(tempfile::TempDir);

/// A task to put into a tree.
#[derive(Clone, Copy)]
pub struct TaskFiles<'a> {
    /// The process that it belongs to.
    pub pid: u32,
    /// Its thread ID.
    pub tid: u32,
    /// Its name.
    pub comm: &'a str,
    /// The letter of its state.
    pub state: char,
    /// Whether it is a kernel thread.
    pub kthread: bool,
    /// Its patch state.
    pub patch_state: i32,
    /// The lines of its stack.
    pub stack: &'a str,
}

impl Tree {
    /// A machine that has been up for 100 s, on the built-in core, without patches.
    pub fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        tree.directory("sys/kernel/livepatch");
        tree.file("proc/sys/kernel/osrelease", "7.3.4-test\n");
        tree.file("proc/uptime", "100.55 180.20\n");
        tree.file("proc/loadavg", "0.00 0.01 0.05 1/40 222\n");
        tree
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn directory(&self, path: &str) {
        fs::create_dir_all(self.path().join(path)).unwrap();
    }

    /// A file with these contents, at once for those who read it already.
    pub fn file(&self, path: &str, contents: &str) {
        let path = self.path().join(path);
        let new = self.path().join("new");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&new, contents).unwrap();
        fs::rename(new, path).unwrap();
    }

    /// Puts the Rust core in charge.
    pub fn rust_core(&self, version: &str) {
        self.file("sys/module/livepatch/version", &format!("{version}\n"));
        self.file("sys/module/livepatch/taint", "OK\n");
    }

    /// A patch, enabled or being enabled, of one function of `object`.
    pub fn patch(&self, name: &str, enabled: bool, transition: bool, object: &str, func: &str) {
        let directory = format!("sys/kernel/livepatch/{name}");
        let flag = |flag| if flag { "1\n" } else { "0\n" };
        self.file(&format!("{directory}/enabled"), flag(enabled));
        self.file(&format!("{directory}/transition"), flag(transition));
        self.file(&format!("{directory}/force"), "");
        self.file(&format!("{directory}/{object}/patched"), "1\n");
        self.directory(&format!("{directory}/{object}/{func},1"));
        self.module(name, "OK", 1);
    }

    /// A file of a patch.
    pub fn patch_file(&self, name: &str, file: &str, contents: &str) {
        self.file(&format!("sys/kernel/livepatch/{name}/{file}"), contents);
    }

    /// A loaded module.
    pub fn module(&self, name: &str, taint: &str, references: u32) {
        self.file(&format!("sys/module/{name}/taint"), &format!("{taint}\n"));
        self.file(
            &format!("sys/module/{name}/refcnt"),
            &format!("{references}\n"),
        );
    }

    /// A task. procfs has each thread below its own ID, too.
    pub fn task(&self, task: TaskFiles) {
        let TaskFiles { pid, tid, .. } = task;
        let flags = if task.kthread {
            0x0020_8040
        } else {
            0x0040_0000
        };
        let zeros = " 0".repeat(43);
        let stat = format!(
            "{tid} ({}) {} 1 {pid} {pid} 0 -1 {flags}{zeros}\n",
            task.comm, task.state
        );
        for pid in [pid, tid] {
            let directory = format!("proc/{pid}/task/{tid}");
            self.file(&format!("{directory}/stat"), &stat);
            self.file(&format!("{directory}/stack"), task.stack);
            self.file(
                &format!("{directory}/patch_state"),
                &format!("{}\n", task.patch_state),
            );
        }
    }
}
