// SPDX-License-Identifier: GPL-2.0

//! What the kernel's errors mean for live patches, and what to do.

use std::io;

use klp_live::Machine;
use klp_module::Module;
use rustix::{io::Errno, process::geteuid};

/// What only root may do fails for everybody else.
pub const MUST_BE_ROOT: &str = "must be root";

const SEE_LOG: &str = "the kernel log says why (dmesg)";

/// Why the kernel does not load the module of a patch.
pub fn loading(machine: &Machine, module: &Module, error: &io::Error) -> String {
    let Some(errno) = error.raw_os_error().map(Errno::from_raw_os_error) else {
        return error.to_string();
    };
    match errno {
        Errno::PERM if !geteuid().is_root() => MUST_BE_ROOT.into(),
        Errno::PERM => not_permitted(machine),
        Errno::KEYREJECTED | Errno::NOKEY | Errno::BADMSG => {
            "its signature is missing, or not by a key that the kernel trusts: sign it with a key \
             that is enrolled (mokutil --import)"
                .into()
        }
        Errno::NOEXEC => match (module.kernel_release(), machine.kernel_release().ok()) {
            (Some(built), Some(running)) if built != running => {
                format!("it is for the kernel {built}, and this one is {running}")
            }
            _ => format!("the kernel cannot use this module; {SEE_LOG}"),
        },
        Errno::NOENT => {
            format!("it refers to a symbol that is not in the kernel or its modules; {SEE_LOG}")
        }
        Errno::INVAL => format!("the kernel refuses it; {SEE_LOG}"),
        Errno::EXIST => format!("another module named {} is loaded", module.name()),
        Errno::BUSY => busy(machine),
        _ => format!("{}; {SEE_LOG}", text(errno)),
    }
}

/// Why the Rust core cannot take over.
pub fn taking_over(machine: &Machine, error: &io::Error) -> String {
    let patches = machine.patches_if_any().unwrap_or_default();
    // What modprobe says is all that there is.
    let is_busy = error.to_string().contains(&text(Errno::BUSY));
    if patches.is_empty() || !is_busy {
        return format!("{error}; {SEE_LOG}");
    }
    let names: Vec<_> = patches.iter().map(|patch| patch.name()).collect();
    format!(
        "{error}: it takes over only where no patch is loaded, and there is {}: \"klp unload --all\", \
         \"klp load livepatch\" and \"klp load --all\" load them again with it",
        names.join(", ")
    )
}

/// Why a patch cannot be enabled or disabled.
pub fn setting(machine: &Machine, error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::ACCESS | Errno::PERM) => MUST_BE_ROOT.into(),
        Some(Errno::BUSY) => busy(machine),
        Some(errno) => format!("{}; {SEE_LOG}", text(errno)),
        None => error.to_string(),
    }
}

/// Why a module cannot be unloaded.
pub fn unloading(machine: &Machine, error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::PERM) if !geteuid().is_root() => MUST_BE_ROOT.into(),
        Some(Errno::PERM) if is_switched_off(machine) => SWITCHED_OFF.into(),
        Some(Errno::PERM) => NOT_PERMITTED.into(),
        Some(Errno::WOULDBLOCK) => "it is in use".into(),
        Some(errno) => text(errno),
        None => error.to_string(),
    }
}

fn text(errno: Errno) -> String {
    io::Error::from(errno).to_string()
}

/// Why root may not load modules.
fn not_permitted(machine: &Machine) -> String {
    let read = |path: &str| machine.read(path).ok().flatten().unwrap_or_default();
    if is_switched_off(machine) {
        return SWITCHED_OFF.into();
    }
    // It lists all modes, and the one in force in brackets.
    let lockdown = read("/sys/kernel/security/lockdown");
    if !lockdown.is_empty() && !lockdown.contains("[none]") {
        return "the kernel is locked down and loads signed modules only: sign it with a key that \
                is enrolled (mokutil --import)"
            .into();
    }
    NOT_PERMITTED.into()
}

/// Whether no module can be loaded or unloaded any more.
pub fn is_switched_off(machine: &Machine) -> bool {
    is(machine, "modules_disabled", "1")
}

/// Whether no function can be intercepted.
pub fn is_ftrace_off(machine: &Machine) -> bool {
    is(machine, "ftrace_enabled", "0")
}

/// What then keeps modules from being loaded or unloaded.
pub const SWITCHED_OFF: &str =
    "loading and unloading modules is switched off until the next boot (kernel.modules_disabled)";

const NOT_PERMITTED: &str =
    "not permitted; a security module or the lack of a capability stands in the way";

/// Whether a setting of the kernel has this value.
fn is(machine: &Machine, setting: &str, value: &str) -> bool {
    let read = machine.read(format!("/proc/sys/kernel/{setting}"));
    matches!(read, Ok(Some(text)) if text == value)
}

/// What the kernel is too busy with.
fn busy(machine: &Machine) -> String {
    match machine.patch_in_transition() {
        Ok(Some(other)) => format!(
            "the transition of patch {} is going on, and there can be only one",
            other.name()
        ),
        // Newer kernels do not let it be switched off while there are patches, but before.
        _ if is_ftrace_off(machine) => {
            "ftrace is switched off: sysctl kernel.ftrace_enabled=1 switches it on".into()
        }
        _ => format!("something else has changed one of its functions; {SEE_LOG}"),
    }
}
