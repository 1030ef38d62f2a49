// SPDX-License-Identifier: GPL-2.0

//! Who else uses functions: the lists that ftrace and kprobes show.

use std::fmt;

/// A function whose calls ftrace redirects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnabledFunction {
    /// The function.
    pub name: String,
    /// `vmlinux` or its module.
    pub object: String,
    /// Whether somebody makes another function run instead (flag `I`).
    pub ipmodify: bool,
    /// Whether somebody is called without ftrace in between, such as a BPF trampoline (flag `D`).
    pub direct: bool,
}

/// A kprobe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The function.
    pub name: String,
    /// `vmlinux` or its module.
    pub object: String,
}

impl EnabledFunction {
    /// Whether it belongs to the built-in core. The Rust core takes over by changing such
    /// functions.
    pub(super) fn is_of_built_in_core(&self) -> bool {
        self.object == "vmlinux" && self.name.trim_start_matches('_').starts_with("klp_")
    }
}

fn write(f: &mut fmt::Formatter<'_>, name: &str, object: &str) -> fmt::Result {
    match object {
        "vmlinux" => f.write_str(name),
        _ => write!(f, "{name} [{object}]"),
    }
}

impl fmt::Display for EnabledFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, &self.name, &self.object)
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, &self.name, &self.object)
    }
}

/// Parses tracefs' `enabled_functions`: `NAME [MODULE] (COUNT) R I D O M`, a tab and more. Lines
/// that begin with a tab belong to the one before.
pub(crate) fn enabled_functions(text: &str) -> impl Iterator<Item = EnabledFunction> + '_ {
    text.lines().filter_map(|line| {
        let line = line.split('\t').next()?;
        let (function, rest) = line.split_once(" (")?;
        let (_, flags) = rest.split_once(')')?;
        let mut words = function.split_whitespace();
        let name = words.next()?.into();
        let object = words
            .next()
            .map_or("vmlinux", |word| word.trim_matches(['[', ']']));
        let has = |flag| flags.split_whitespace().any(|word| word == flag);
        Some(EnabledFunction {
            name,
            object: object.into(),
            ipmodify: has("I"),
            direct: has("D"),
        })
    })
}

/// Parses debugfs' `kprobes/list`: `ADDRESS TYPE NAME+OFFSET MODULE FLAGS`.
pub(crate) fn probes(text: &str) -> impl Iterator<Item = Probe> + '_ {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip(2);
        let name = words.next()?.split('+').next()?.into();
        let object = words
            .next()
            .filter(|word| !word.starts_with('['))
            .unwrap_or("vmlinux");
        Some(Probe {
            name,
            object: object.into(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::{enabled_functions, probes};

    #[test]
    fn functions_with_their_flags() {
        let text =
            "do_nap (1) R I      \ttramp: 0xffffffffc0400000 (klp_ftrace_handler+0x0/0x1a0)\n\
                    vfs_read (2)     D   M \ttramp: ERROR!\n\
                    \tdirect-->bpf_trampoline_6442500000+0x0/0x100\n\
                    nap [sleeper] (1) R         \ttramp: 0xffffffffc0400000\n";
        let found = enabled_functions(text)
            .map(|f| (f.to_string(), f.ipmodify, f.direct))
            .collect::<Vec<_>>();
        assert_eq!(
            found,
            [
                ("do_nap".into(), true, false),
                ("vfs_read".into(), false, true),
                ("nap [sleeper]".into(), false, false),
            ]
        );
    }

    #[test]
    fn probes_with_and_without_a_module() {
        let text = "ffffffff81234567  k  vfs_read+0x0    [FTRACE]\n\
                    ffffffffc0401000  r  nap+0x10  sleeper [DISABLED]\n\
                    ffffffff81234568  k  do_nap+0x8    \n";
        let found = probes(text)
            .map(|probe| probe.to_string())
            .collect::<Vec<_>>();
        assert_eq!(found, ["vfs_read", "nap [sleeper]", "do_nap"]);
    }

    #[test]
    fn garbage_is_left_out() {
        assert_eq!(enabled_functions("\n(\nx\n").count(), 0);
        assert_eq!(probes("\nx y\n").count(), 0);
    }
}
