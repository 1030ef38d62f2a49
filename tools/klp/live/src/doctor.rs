// SPDX-License-Identifier: GPL-2.0

//! What on a machine stands in the way of a patch.

mod users;

use std::io::Read;

use flate2::read::GzDecoder;
use procfs_core::{ConfigSetting, FromBufRead, KernelConfig};
use serde::Serialize;

use crate::{
    guard::Guard, task::permitted, Core, Error, Escaped, Machine, Result, Status, Transition,
};
pub use users::{EnabledFunction, Probe};

/// A transition that takes longer is in trouble, in seconds.
const LONG: u64 = 60;

/// How many of many are named.
const NAMED: usize = 8;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// All is well.
    Ok,
    /// Something to know.
    Note,
    /// Patches will not load, or not become complete.
    Problem,
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which check.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found, on one line.
    pub text: String,
    /// What follows from it, and what to do. [`None`] if all is well.
    pub advice: Option<&'static str>,
}

impl Finding {
    fn ok(check: &'static str, text: impl Into<String>) -> Self {
        Self {
            check,
            level: Level::Ok,
            text: text.into(),
            advice: None,
        }
    }

    fn note(check: &'static str, text: impl Into<String>, advice: &'static str) -> Self {
        Self {
            check,
            level: Level::Note,
            text: text.into(),
            advice: Some(advice),
        }
    }

    fn problem(check: &'static str, text: impl Into<String>, advice: &'static str) -> Self {
        Self {
            check,
            level: Level::Problem,
            text: text.into(),
            advice: Some(advice),
        }
    }
}

/// What a patch's file says about itself.
#[derive(Clone, Debug)]
pub struct PatchFile {
    /// The release of the kernel that it was built for.
    pub kernel: Option<String>,
    /// Whether it is a live patch.
    pub livepatch: bool,
    /// Whether a signature is appended.
    pub signed: bool,
    /// The functions that it replaces, each with its object. [`None`] if the file does not tell.
    pub funcs: Option<Vec<(String, String)>>,
}

/// What can be seen of a file of the kernel.
enum View {
    Text(String),
    Absent,
    Forbidden,
}

impl View {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Absent | Self::Forbidden => "",
        }
    }
}

/// Everything that checks look at more than once.
struct Examination<'a> {
    machine: &'a Machine,
    status: Option<Status>,
    enabled_functions: View,
    kprobes: View,
    lockdown: View,
    signatures_enforced: bool,
}

impl Machine {
    /// Checks the machine, and a patch's file on it if one is given.
    ///
    /// # Errors
    ///
    /// A file of the kernel cannot be read other than for want of permission, or has another
    /// format.
    pub fn examine(&self, file: Option<&PatchFile>) -> Result<Vec<Finding>> {
        let examination = Examination {
            machine: self,
            status: match self.status() {
                Err(Error::NoLivepatch(_)) => None,
                status => Some(status?),
            },
            enabled_functions: self.view("/sys/kernel/tracing/enabled_functions")?,
            kprobes: self.view("/sys/kernel/debug/kprobes/list")?,
            lockdown: self.view("/sys/kernel/security/lockdown")?,
            signatures_enforced: self
                .view("/sys/module/module/parameters/sig_enforce")?
                .text()
                == "Y",
        };
        let mut findings = vec![
            examination.core(),
            examination.configuration()?,
            examination.ftrace()?,
            examination.loading()?,
            examination.signatures(),
            examination.lockdown(),
            examination.functions(),
            examination.probes(),
            examination.transition(),
            examination.tasks()?,
            examination.leftovers(),
            examination.boot()?,
            examination.taint()?,
        ];
        if let Some(file) = file {
            findings.extend(examination.file(file)?);
        }
        Ok(findings)
    }

    /// The functions whose calls ftrace redirects or follows, if they can be seen.
    ///
    /// # Errors
    ///
    /// That of reading the list, other than for want of permission.
    pub fn enabled_functions(&self) -> Result<Option<Vec<EnabledFunction>>> {
        Ok(match self.view("/sys/kernel/tracing/enabled_functions")? {
            View::Text(text) => Some(users::enabled_functions(&text).collect()),
            View::Absent | View::Forbidden => None,
        })
    }

    /// The kprobes, if they can be seen.
    ///
    /// # Errors
    ///
    /// That of reading the list, other than for want of permission.
    pub fn probes(&self) -> Result<Option<Vec<Probe>>> {
        Ok(match self.view("/sys/kernel/debug/kprobes/list")? {
            View::Text(text) => Some(users::probes(&text).collect()),
            View::Absent | View::Forbidden => None,
        })
    }

    fn view(&self, path: &str) -> Result<View> {
        Ok(match permitted(self.read(path))? {
            Some(Some(text)) => View::Text(text),
            Some(None) => View::Absent,
            None => View::Forbidden,
        })
    }

    /// The options that the kernel was built with, if they are found.
    fn kernel_config(&self) -> Result<Option<KernelConfig>> {
        let release = self.kernel_release()?;
        let parse = |text: &str| KernelConfig::from_buf_read(text.as_bytes()).ok();
        for path in [
            format!("/boot/config-{release}"),
            format!("/lib/modules/{release}/config"),
            format!("/lib/modules/{release}/build/.config"),
        ] {
            if let View::Text(text) = self.view(&path)? {
                return Ok(parse(&text));
            }
        }
        let mut text = String::new();
        let compressed = std::fs::File::open(self.path("/proc/config.gz"));
        match compressed.map(|file| GzDecoder::new(file).read_to_string(&mut text)) {
            Ok(Ok(_)) => Ok(parse(&text)),
            Ok(Err(_)) | Err(_) => Ok(None),
        }
    }
}

impl Examination<'_> {
    fn core(&self) -> Finding {
        match self.status.as_ref().map(|status| &status.core) {
            Some(Core::BuiltIn) => Finding::ok("core", "the built-in core is in charge"),
            Some(Core::Rust { version }) => {
                Finding::ok("core", format!("the Rust core {version} is in charge"))
            }
            None => Finding::problem(
                "core",
                "this kernel has no live patching, or sysfs is not mounted",
                "Boot a kernel with CONFIG_LIVEPATCH=y.",
            ),
        }
    }

    fn configuration(&self) -> Result<Finding> {
        const CHECK: &str = "configuration";
        let Some(KernelConfig(options)) = self.machine.kernel_config()? else {
            return Ok(Finding::note(
                CHECK,
                "the options of this kernel are nowhere to be found",
                "They are looked for in /boot, /lib/modules and /proc/config.gz.",
            ));
        };
        let missing = |names: &[&'static str]| {
            let is_missing =
                |name: &&str| options.get(&format!("CONFIG_{name}")) != Some(&ConfigSetting::Yes);
            names.iter().copied().filter(is_missing).collect::<Vec<_>>()
        };
        let necessary = missing(&["LIVEPATCH", "DYNAMIC_FTRACE", "HAVE_RELIABLE_STACKTRACE"]);
        if !necessary.is_empty() {
            return Ok(Finding::problem(
                CHECK,
                format!("this kernel was built without {}", necessary.join(", ")),
                "Patches do not load, or their transitions do not end, without these options.",
            ));
        }
        let rust = missing(&["RUST", "KALLSYMS_ALL"]);
        if !rust.is_empty() {
            return Ok(Finding::note(
                CHECK,
                format!("this kernel was built without {}", rust.join(", ")),
                "Only the built-in core can be in charge: the Rust core needs these options.",
            ));
        }
        Ok(Finding::ok(
            CHECK,
            "this kernel has all options that live patching needs",
        ))
    }

    fn ftrace(&self) -> Result<Finding> {
        Ok(match self.machine.view("/proc/sys/kernel/ftrace_enabled")?.text() {
            "0" => Finding::problem(
                "ftrace",
                "ftrace is switched off",
                "Patches do not load (EBUSY). Switch it on: sysctl kernel.ftrace_enabled=1",
            ),
            "1" => Finding::ok("ftrace", "ftrace is switched on"),
            _ => Finding::note(
                "ftrace",
                "it cannot be seen whether ftrace is switched on",
                "There is no kernel.ftrace_enabled: ftrace is missing, or /proc is not mounted.",
            ),
        })
    }

    fn loading(&self) -> Result<Finding> {
        Ok(match self.machine.view("/proc/sys/kernel/modules_disabled")?.text() {
            "1" => Finding::problem(
                "modules",
                "no module can be loaded any more",
                "kernel.modules_disabled is 1 until the next boot. Loaded patches can be disabled.",
            ),
            _ => Finding::ok("modules", "modules can be loaded"),
        })
    }

    fn signatures(&self) -> Finding {
        if self.signatures_enforced || self.locked_down() {
            Finding::note(
                "signatures",
                "only signed modules are loaded",
                "Sign patches with a key that the kernel trusts (scripts/sign-file, mokutil).",
            )
        } else {
            Finding::ok("signatures", "unsigned modules are loaded, too")
        }
    }

    /// Whether the kernel is locked down, to whatever degree.
    fn locked_down(&self) -> bool {
        let text = self.lockdown.text();
        text.contains("[integrity]") || text.contains("[confidentiality]")
    }

    fn lockdown(&self) -> Finding {
        if self.locked_down() {
            Finding::note(
                "lockdown",
                "the kernel is locked down",
                "debugfs is closed, and with confidentiality tracefs too: other users of functions \
                 cannot be seen.",
            )
        } else {
            Finding::ok("lockdown", "the kernel is not locked down")
        }
    }

    /// Functions that somebody else than the patches changes or calls from.
    fn foreign_functions(&self) -> Vec<EnabledFunction> {
        let rust = matches!(
            self.status.as_ref().map(|status| &status.core),
            Some(Core::Rust { .. })
        );
        users::enabled_functions(self.enabled_functions.text())
            .filter(|function| function.ipmodify || function.direct)
            .filter(|function| !(rust && function.is_of_built_in_core()))
            .filter(|function| {
                function.direct || self.patch_of(&function.object, &function.name).is_none()
            })
            .collect()
    }

    /// The patch that replaces a function.
    fn patch_of(&self, object: &str, func: &str) -> Option<&str> {
        let patches = &self.status.as_ref()?.patches;
        let patch = patches.iter().find(|patch| {
            patch.objects.iter().any(|known| {
                known.name == object && known.funcs.iter().any(|known| known.name == func)
            })
        })?;
        Some(&patch.name)
    }

    fn functions(&self) -> Finding {
        const CHECK: &str = "functions";
        match self.enabled_functions {
            View::Text(_) => {}
            View::Absent => {
                return Finding::note(
                    CHECK,
                    "other users of ftrace cannot be seen: tracefs is not mounted",
                    "mount -t tracefs tracefs /sys/kernel/tracing",
                )
            }
            View::Forbidden => {
                return Finding::note(
                    CHECK,
                    "other users of ftrace cannot be seen: no permission",
                    "Only root may see them, and nobody under lockdown (confidentiality).",
                )
            }
        }
        let foreign = self.foreign_functions();
        let names = |wanted: fn(&EnabledFunction) -> bool| {
            list(
                foreign
                    .iter()
                    .filter(|function| wanted(function))
                    .map(ToString::to_string),
            )
        };
        match (
            names(|function| function.ipmodify && !function.direct),
            names(|f| f.direct),
        ) {
            (Some(taken), _) => Finding::note(
                CHECK,
                format!("changed by others than patches: {taken}"),
                "A patch of such a function does not load (EBUSY). The users are kprobes with a \
                 post handler, or other modules that redirect functions: remove them before.",
            ),
            (None, Some(direct)) => Finding::note(
                CHECK,
                format!("called by a BPF program or directly: {direct}"),
                "Such functions can be patched. A program that changes the result still does so.",
            ),
            (None, None) => Finding::ok(CHECK, "no function is taken by others"),
        }
    }

    fn probes(&self) -> Finding {
        const CHECK: &str = "kprobes";
        match self.kprobes {
            View::Text(_) => {}
            View::Absent => {
                return Finding::note(
                    CHECK,
                    "kprobes cannot be seen: debugfs is not mounted, or the kernel has none",
                    "mount -t debugfs debugfs /sys/kernel/debug",
                )
            }
            View::Forbidden => {
                return Finding::note(
                    CHECK,
                    "kprobes cannot be seen: no permission",
                    "Only root may see them, and nobody under lockdown.",
                )
            }
        }
        match list(users::probes(self.kprobes.text()).map(|probe| probe.to_string())) {
            None => Finding::ok(CHECK, "there are no kprobes"),
            Some(probes) => Finding::note(
                CHECK,
                format!("probed: {probes}"),
                "A probe with a post handler keeps its function from being patched (EBUSY). One \
                 that is not at the start of a patched function is not hit any more.",
            ),
        }
    }

    fn transition(&self) -> Finding {
        const CHECK: &str = "transition";
        let patch = self.status.as_ref().and_then(Status::in_transition);
        match patch.and_then(|patch| Some((&patch.name, patch.transition?))) {
            None => Finding::ok(CHECK, "no transition is going on"),
            Some((name, Transition { seconds, .. })) if seconds.is_some_and(|s| s >= LONG) => {
                Finding::problem(
                    CHECK,
                    format!("the transition of {name} has stalled"),
                    "No other patch can be enabled or disabled meanwhile. klp status -v shows who \
                     holds it up; klp reverse takes it back.",
                )
            }
            Some((name, _)) => Finding::note(
                CHECK,
                format!("the transition of {name} is going on"),
                "No other patch can be enabled or disabled meanwhile: klp wait",
            ),
        }
    }

    fn tasks(&self) -> Result<Finding> {
        let Some(tids) = permitted(self.machine.tids())? else {
            return Ok(Finding::note(
                "tasks",
                "tasks cannot be seen: no permission",
                "Only root may see those of others on this machine (hidepid).",
            ));
        };
        let mut stalled = vec![];
        for tid in tids {
            if let Some(task) = self.machine.task(tid)?.filter(|task| task.state == 'D') {
                let place = task.stack.as_ref().and_then(|stack| stack.first());
                let place = place
                    .map(|frame| format!(" in {}", frame.func))
                    .unwrap_or_default();
                stalled.push(format!("{} {}{place}", task.tid, Escaped(&task.comm)));
            }
        }
        Ok(match list(stalled.into_iter()) {
            None => Finding::ok("tasks", "no task sleeps uninterruptibly"),
            Some(stalled) => Finding::note(
                "tasks",
                format!("uninterruptible: {stalled}"),
                "If it stays so, a transition that concerns a function on their stacks does not \
                 end. No signal reaches them.",
            ),
        })
    }

    fn leftovers(&self) -> Finding {
        let leftovers = self.status.iter().flat_map(|status| &status.leftovers);
        match list(leftovers.map(|leftover| leftover.name.clone())) {
            None => Finding::ok("leftovers", "no module of a former patch is loaded"),
            Some(names) => Finding::note(
                "leftovers",
                format!("loaded, but not a patch any more: {names}"),
                "A patch of the same name does not load (EEXIST): rmmod them. One that was left by \
                 a forced transition stays until the next boot.",
            ),
        }
    }

    fn boot(&self) -> Result<Finding> {
        // The status has looked already, unless the kernel has no live patching.
        let skipped = match &self.status {
            Some(status) => status.skipped_at_boot.clone(),
            None => Guard::new(self.machine, &self.machine.kernel_release()?).suspects()?,
        };
        let Some(skipped) = skipped else {
            return Ok(Finding::note(
                "boot",
                "what is skipped at boot cannot be seen: no permission",
                "Only root may see it.",
            ));
        };
        Ok(match list(skipped.into_iter()) {
            None => Finding::ok("boot", "no patch is skipped at boot"),
            Some(names) => Finding::problem(
                "boot",
                format!("skipped at boot: {names}"),
                "The machine died at a boot after they were loaded. klp load NAME tries one again.",
            ),
        })
    }

    fn taint(&self) -> Result<Finding> {
        // Bits of the kernel's taint flags after which its state is in doubt.
        const DOUBTS: [(u32, &str); 5] = [
            (1, "a module was forced to load"),
            (4, "a machine check"),
            (5, "a bad page"),
            (7, "an oops"),
            (14, "a lockup"),
        ];
        let view = self.machine.view("/proc/sys/kernel/tainted")?;
        let taint = view.text().parse::<u64>().unwrap_or(0);
        let doubts = DOUBTS
            .iter()
            .filter(|(bit, _)| taint & (1 << bit) != 0)
            .map(|(_, what)| (*what).into());
        Ok(match list(doubts) {
            None => Finding::ok("taint", "the kernel has not seen an accident"),
            Some(doubts) => Finding::note(
                "taint",
                format!("since boot: {doubts}"),
                "Tasks may be stuck for good and hold up transitions. A reboot may be better.",
            ),
        })
    }

    fn file(&self, file: &PatchFile) -> Result<Vec<Finding>> {
        let mut findings = vec![];
        let release = self.machine.kernel_release()?;
        if !file.livepatch {
            findings.push(Finding::problem(
                "file",
                "the file is not a live patch",
                "Its .modinfo has no livepatch=Y.",
            ));
        }
        if file.kernel.as_deref() != Some(release.as_str()) {
            let kernel = file.kernel.as_deref().unwrap_or("no kernel in particular");
            findings.push(Finding::problem(
                "file",
                format!("the file is for {kernel}, and this is {release}"),
                "Build the patch for the running kernel.",
            ));
        }
        if !file.signed && (self.signatures_enforced || self.locked_down()) {
            findings.push(Finding::problem(
                "file",
                "the file is not signed",
                "Only signed modules are loaded here.",
            ));
        }
        let Some(funcs) = &file.funcs else {
            findings.push(Finding::note(
                "file",
                "the file does not tell which functions it replaces",
                "Only modules of klp-build do. Compare with the findings above.",
            ));
            return Ok(findings);
        };
        let foreign = self.foreign_functions();
        let probes = users::probes(self.kprobes.text()).collect::<Vec<Probe>>();
        for (object, name) in funcs {
            let here = |other_object: &str, other: &str| object == other_object && name == other;
            if foreign
                .iter()
                .any(|f| f.ipmodify && here(&f.object, &f.name))
            {
                findings.push(Finding::problem(
                    "file",
                    format!("it replaces {name}, which others than patches change"),
                    "It does not load (EBUSY) until they are gone.",
                ));
            } else if probes.iter().any(|p| here(&p.object, &p.name)) {
                findings.push(Finding::note(
                    "file",
                    format!("it replaces {name}, which is probed"),
                    "A probe that has a post handler keeps it from loading (EBUSY).",
                ));
            }
            if let Some(patch) = self.patch_of(object, name) {
                findings.push(Finding::note(
                    "file",
                    format!("it replaces {name}, which {patch} replaces, too"),
                    "The one that is loaded last is in effect.",
                ));
            }
        }
        if findings.is_empty() {
            findings.push(Finding::ok("file", "nothing stands in the way of the file"));
        }
        Ok(findings)
    }
}

/// Names joined by commas, only some of them if they are many; [`None`] if there are none.
fn list(names: impl Iterator<Item = String>) -> Option<String> {
    let names = names.collect::<Vec<_>>();
    if names.is_empty() {
        return None;
    }
    let named = names[..names.len().min(NAMED)].join(", ");
    Some(match names.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    })
}
