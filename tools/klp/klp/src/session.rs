// SPDX-License-Identifier: GPL-2.0

//! What the commands that change patches share: the machine and its kernel, the lock, the waits,
//! and the lines that say what goes on, which are kpatch's.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    error::Error,
    fmt,
    io::{self, IsTerminal, Write},
    process::ExitCode,
    str::FromStr,
    time::Duration,
};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use klp_live::{
    kernel::{Running, Signal},
    lock::{Holder, Lock},
    stalled::Stalled,
    wait::{self, Outcome},
    Escaped, Kernel, Machine, Patch,
};
use rustix::io::Errno;

use crate::{commands, context::Context, explain};

/// How long the kernel is waited for. The defaults are kpatch's.
#[derive(Args, Clone, Debug)]
pub struct Waits {
    /// How long a transition may take before it counts as stalled.
    #[arg(long, value_name = "SECONDS", default_value_t = Self::DEFAULT.wait)]
    pub wait: Seconds,

    /// How long to wait for a stalled transition before giving up.
    #[arg(long, value_name = "SECONDS", default_value_t = Self::DEFAULT.stalled_wait)]
    pub stalled_wait: Seconds,

    /// How long to wait until nobody uses a module that is to be unloaded.
    #[arg(long, value_name = "SECONDS", default_value_t = Self::DEFAULT.refs_wait)]
    pub refs_wait: Seconds,

    /// How often to try what the kernel may be too busy for, such as with another transition.
    #[arg(long, value_name = "NUMBER", default_value_t = Self::DEFAULT.attempts,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub attempts: u32,

    /// How long to wait between these attempts, unless the other transition ends earlier.
    #[arg(long, value_name = "SECONDS", default_value_t = Self::DEFAULT.retry_interval)]
    pub retry_interval: Seconds,
}

impl Waits {
    /// Those of commands that have no such options.
    pub const DEFAULT: Self = Self {
        wait: Seconds(Duration::from_secs(15)),
        stalled_wait: Seconds(Duration::from_secs(60)),
        refs_wait: Seconds(Duration::from_secs(15)),
        attempts: 5,
        retry_interval: Seconds(Duration::from_secs(2)),
    };
}

/// A time in seconds, as the user writes it and reads it.
#[derive(Clone, Copy, Debug)]
pub struct Seconds(pub Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0.as_secs_f64())
    }
}

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse()
            .ok()
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .map(Self)
            .ok_or_else(|| "not a number of seconds".into())
    }
}

/// Why a command stops before it is done.
#[derive(Debug)]
pub enum Stop {
    /// It failed, for this reason.
    Failed(String),
    /// A signal arrived. The text says in which state things are.
    Interrupted(Signal, String),
}

/// The result of a step of a command.
pub type Step<T = ()> = Result<T, Stop>;

impl Stop {
    /// A failure.
    pub fn failed(reason: impl fmt::Display) -> Self {
        Self::Failed(reason.to_string())
    }
}

impl<E: Error> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.to_string())
    }
}

/// What a command that changes patches works with.
pub struct Session<'a> {
    /// The machine.
    pub machine: Machine,
    /// Its kernel.
    pub kernel: &'a dyn Kernel,
    waits: &'a Waits,
    output: RefCell<Box<dyn Write + 'a>>,
    messages: RefCell<Box<dyn Write + 'a>>,
    has_bar: bool,
    /// Whether patches are checked before they are loaded.
    pub checks: Cell<bool>,
}

impl<'a> Session<'a> {
    /// One with other streams than the standard ones, and without a progress bar.
    pub fn new(
        machine: Machine,
        kernel: &'a dyn Kernel,
        waits: &'a Waits,
        output: impl Write + 'a,
        messages: impl Write + 'a,
    ) -> Self {
        Self {
            machine,
            kernel,
            waits,
            output: RefCell::new(Box::new(output)),
            messages: RefCell::new(Box::new(messages)),
            has_bar: false,
            checks: Cell::new(false),
        }
    }

    /// Takes the lock; waits for it as long as for the kernel if another program has it.
    ///
    /// # Errors
    ///
    /// Another program has it, and keeps it; a signal arrives; the user may not have it.
    pub fn lock(&self, command: &str) -> Step<Lock> {
        let limit = self.waits.retry_interval.0;
        self.lock_within(command, limit.saturating_mul(self.waits.attempts - 1))
    }

    /// The same, but waits for `limit` at most.
    ///
    /// # Errors
    ///
    /// As for [`lock`](Self::lock).
    pub fn lock_within(&self, command: &str, limit: Duration) -> Step<Lock> {
        let take = || self.try_lock(command);
        let mut attempt = take()?;
        if let Err(holder) = &attempt {
            self.warn(format_args!("waiting for {holder}..."));
            let outcome = wait::until(self.kernel, limit, || {
                attempt = take()?;
                Step::Ok(attempt.is_ok())
            })?;
            if let Outcome::Interrupted(signal) = outcome {
                return Err(Stop::Interrupted(signal, "nothing is changed".into()));
            }
        }
        attempt.map_err(|holder| {
            Stop::failed(format_args!(
                "{holder} is changing patches; try again when it is done"
            ))
        })
    }

    /// Takes the lock, or says who has it.
    ///
    /// # Errors
    ///
    /// The user may not have it.
    pub fn try_lock(&self, command: &str) -> Step<Result<Lock, Holder>> {
        Lock::take(&self.machine, command).map_err(|error| match &error {
            klp_live::Error::File { source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Stop::failed(explain::MUST_BE_ROOT)
            }
            _ => error.into(),
        })
    }

    /// Stops if a signal has arrived. `state` says in which state things are.
    ///
    /// # Errors
    ///
    /// One has.
    pub fn stop_if_asked(&self, state: &str) -> Step {
        match self.kernel.pause(None, Duration::ZERO) {
            Some(signal) => Err(Stop::Interrupted(signal, state.into())),
            None => Ok(()),
        }
    }

    /// Prints a line on standard output.
    pub fn say(&self, line: impl fmt::Display) {
        // There is nobody to tell that nobody listens, and patches must not stay half done for that.
        let _ = writeln!(self.output.borrow_mut(), "{line}");
    }

    /// Prints a message for people.
    pub fn warn(&self, message: impl fmt::Display) {
        let _ = writeln!(self.messages.borrow_mut(), "klp: {message}");
    }

    /// Waits until the transition of a patch is complete, as long as the user allows. `false` means
    /// that it has stalled.
    ///
    /// # Errors
    ///
    /// A signal arrives, or the patch's files cannot be read.
    pub fn wait_for_transition(&self, patch: &Patch) -> Step<bool> {
        if !patch.in_transition()? {
            return Ok(true);
        }
        if self.wait_for(patch, self.waits.wait)? {
            return Ok(true);
        }
        self.say("patch transition has stalled!");
        self.signal(patch)?;
        self.wait_for(patch, self.waits.stalled_wait)
    }

    fn wait_for(&self, patch: &Patch, limit: Seconds) -> Step<bool> {
        self.say(format_args!(
            "waiting (up to {} seconds) for patch transition to complete...",
            limit
        ));
        let bar = self.bar();
        let outcome = wait::for_transition(self.kernel, patch, limit.0, || show(&bar, patch));
        bar.finish_and_clear();
        match outcome? {
            Outcome::Done(time) => {
                self.say(format_args!(
                    "transition complete ({} seconds)",
                    time.as_secs()
                ));
                Ok(true)
            }
            Outcome::TimedOut => Ok(false),
            Outcome::Interrupted(signal) => Err(Stop::Interrupted(signal, unfinished(patch))),
        }
    }

    /// A progress bar, which is drawn on a terminal only.
    fn bar(&self) -> ProgressBar {
        let target = if self.has_bar {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        ProgressBar::with_draw_target(None, target).with_style(style("{spinner} {elapsed}"))
    }

    /// Makes the kernel signal the tasks that hold a transition up, where it does not do so itself.
    ///
    /// # Errors
    ///
    /// That of the kernel.
    pub fn signal(&self, patch: &Patch) -> Step {
        if patch.is_of_old_kernel() {
            self.say("signaling stalled process(es):");
            return std::fs::write(patch.file("signal"), "1")
                .map_err(|error| Stop::Failed(explain::setting(&self.machine, &error)));
        }
        self.warn("Livepatch process signaling is performed automatically on your system.");
        self.warn("Skipping manual process signaling.");
        Ok(())
    }

    /// Prints who holds up the transition that is going on.
    ///
    /// # Errors
    ///
    /// That of reading files.
    pub fn show_stalled(&self) -> Step {
        if let Some(patch) = self.machine.patch_in_transition()? {
            let tasks = self.machine.stalled(&patch)?.unwrap_or_default();
            self.say(stalled_lines(&tasks));
        }
        Ok(())
    }

    /// Does what the kernel may be too busy for, and tries again as often as the user allows.
    /// `explain` says in words what an error means.
    ///
    /// # Errors
    ///
    /// The last error of `action` in words, after `failure`; or a signal.
    pub fn patiently(
        &self,
        failure: impl fmt::Display,
        mut action: impl FnMut() -> io::Result<()>,
        explain: impl Fn(&io::Error) -> String,
    ) -> Step {
        let mut attempt = 1;
        while let Err(error) = action() {
            let message = format!("{failure}: {}", explain(&error));
            if !is_busy(&error) || attempt == self.waits.attempts {
                return Err(Stop::Failed(message));
            }
            attempt += 1;
            self.warn(message);
            self.warn("retrying...");
            let interval = self.waits.retry_interval.0;
            let outcome = match self.machine.patch_in_transition()? {
                Some(other) => wait::for_transition(self.kernel, &other, interval, || ())?,
                // Somebody else has changed a function of the patch, which nobody tells the end of.
                None => wait::until(self.kernel, interval, || Ok::<_, Infallible>(false))?,
            };
            if let Outcome::Interrupted(signal) = outcome {
                return Err(Stop::Interrupted(signal, failure.to_string()));
            }
        }
        Ok(())
    }

    /// Enables or disables a patch, which the kernel may be too busy for.
    ///
    /// # Errors
    ///
    /// As for [`patiently`](Self::patiently).
    pub fn set_enabled(&self, patch: &Patch, enabled: bool, failure: &str) -> Step {
        let is_so = || matches!(patch.is_enabled(), Ok(is) if is == enabled);
        self.patiently(
            failure,
            || match self.kernel.set_enabled(patch, enabled) {
                // Somebody else was first, or the core has forgotten it.
                Err(_) if is_so() => Ok(()),
                Err(klp_live::Error::File { source, .. }) => Err(source),
                result => result.map_err(io::Error::other),
            },
            |error| explain::setting(&self.machine, error),
        )
    }

    /// Waits until nobody uses a module, for as long as the user allows. `false` means that somebody
    /// still does.
    ///
    /// # Errors
    ///
    /// A signal arrives, or the number of users cannot be read.
    pub fn wait_for_users(&self, module: &str) -> Step<bool> {
        let unused = || -> klp_live::Result<bool> {
            let users = self.machine.read(format!("/sys/module/{module}/refcnt"))?;
            Ok(users.is_none_or(|users| users == "0"))
        };
        // The core gives its reference up a moment after the end of the transition.
        let mut outcome = wait::until(self.kernel, BRIEFLY.min(self.waits.refs_wait.0), unused)?;
        if outcome == Outcome::TimedOut {
            self.say(format_args!(
                "waiting (up to {} seconds) for module refcount...",
                self.waits.refs_wait
            ));
            outcome = wait::until(self.kernel, self.waits.refs_wait.0, unused)?;
        }
        match outcome {
            Outcome::Done(_) => Ok(true),
            Outcome::TimedOut => Ok(false),
            Outcome::Interrupted(signal) => Err(Stop::Interrupted(
                signal,
                format!(
                    "module {module} stays loaded, without effect; klp unload {module} goes on"
                ),
            )),
        }
    }

    /// Waits until a module that somebody else is loading is loaded, or not, as long as for a transition.
    ///
    /// # Errors
    ///
    /// A signal arrives, or the module's state cannot be read.
    pub fn wait_until_initialised(&self, module: &str) -> Step {
        let initialised = || Ok::<_, klp_live::Error>(!self.machine.is_initialising(module)?);
        match wait::until(self.kernel, self.waits.wait.0, initialised)? {
            Outcome::Interrupted(signal) => Err(Stop::Interrupted(
                signal,
                format!("somebody else is loading module {module}"),
            )),
            // Then the kernel says so.
            Outcome::Done(_) | Outcome::TimedOut => Ok(()),
        }
    }

    /// Waits until the core has forgotten a patch that is disabled, as long as for the module's
    /// users. `false` means that it has not, which it never does on a kernel before 5.1.
    ///
    /// # Errors
    ///
    /// A signal arrives.
    pub fn wait_until_forgotten(&self, patch: &Patch) -> Step<bool> {
        if patch.is_of_old_kernel() {
            return Ok(false);
        }
        match wait::until(self.kernel, self.waits.refs_wait.0, || {
            Ok::<_, Infallible>(!patch.exists())
        })? {
            Outcome::Done(_) => Ok(true),
            Outcome::TimedOut => Ok(false),
            Outcome::Interrupted(signal) => Err(Stop::Interrupted(
                signal,
                format!("patch {} is disabled", patch.name()),
            )),
        }
    }
}

/// How long something may take that happens by itself, before it is worth a line.
const BRIEFLY: Duration = Duration::from_millis(200);

fn is_busy(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::BUSY.raw_os_error())
}

/// Draws how far the transition of a patch is. Only the Rust core counts the tasks.
fn show(bar: &ProgressBar, patch: &Patch) {
    if bar.is_hidden() {
        return;
    }
    let Ok(Some(remaining)) = patch.remaining() else {
        bar.tick();
        return;
    };
    match bar.length() {
        Some(all) if all >= remaining => bar.set_position(all - remaining),
        _ => {
            bar.set_length(remaining);
            bar.set_position(0);
            bar.set_style(style("{bar:40} {pos}/{len} tasks, {elapsed}"));
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Tasks that hold a transition up, as kpatch prints them, without the end of the last line.
pub fn stalled_lines(tasks: &[Stalled]) -> String {
    let mut lines = "\nStalled processes:".to_string();
    for Stalled { tid, comm, stack } in tasks {
        let comm = Escaped(comm);
        lines += &format!("\n{tid} {comm}\nstack:\n{stack}");
    }
    lines
}

/// In which state a patch is left by whoever no longer waits for it, and what to do.
fn unfinished(patch: &Patch) -> String {
    let name = patch.name();
    let tasks = match patch.remaining() {
        Ok(Some(remaining)) => format!(", {remaining} tasks are left"),
        _ => String::new(),
    };
    if patch.is_enabled().unwrap_or(false) {
        format!(
            "the kernel goes on enabling patch {name}{tasks}; klp unload {name} takes it off again"
        )
    } else {
        format!(
            "the kernel goes on disabling patch {name}{tasks}; klp unload {name} waits for it again"
        )
    }
}

/// Runs the body of a command that changes patches, with the lock. `name` is the command as others
/// are told who has the lock.
///
/// # Errors
///
/// Why the command failed. That a signal ended it is told here, and is no error.
pub fn run(
    context: &Context,
    name: &str,
    waits: &Waits,
    body: impl FnOnce(&Session) -> Step,
) -> commands::Result {
    run_unlocked(context, waits, |session| {
        let _lock = session.lock(name)?;
        body(session)
    })
}

/// The same without the lock.
///
/// # Errors
///
/// As for [`run`].
pub fn run_unlocked(
    context: &Context,
    waits: &Waits,
    body: impl FnOnce(&Session) -> Step,
) -> commands::Result {
    let kernel = Running::new()?;
    let machine = context.machine();
    let mut session = if context.json {
        Session::new(machine, &kernel, waits, io::sink(), io::stderr())
    } else {
        Session::new(machine, &kernel, waits, io::stdout(), io::stderr())
    };
    session.has_bar = io::stderr().is_terminal();
    match body(&session) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(Stop::Failed(reason)) => Err(reason.into()),
        Err(Stop::Interrupted(signal, state)) => {
            session.warn(format_args!("interrupted: {state}"));
            Ok(ExitCode::from(128 + signal.number()))
        }
    }
}
