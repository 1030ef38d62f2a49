// SPDX-License-Identifier: GPL-2.0

//! `klp status`: which core is in charge, and what the patches are doing.

use std::{
    fmt::{self, Write},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use indicatif::HumanDuration;
use klp_live::{
    Blocker, Core, Escaped, Facts, Frame, Leftover, Machine, Object, Outlook, PatchStatus, Reason,
    State, Status, Task, Transition,
};
use serde::Serialize;

use super::{print, Result};
use crate::{context::Context, json};

/// Show the patches of this machine, and the transition that is going on.
///
/// What the kernel does not show is left out: system states and callbacks of a patch, and, once the
/// kernel log has been overwritten, its age and whether its transition was forced.
#[derive(Args)]
pub struct Arguments {
    /// Show each task that holds the transition up, why, where it is, and what becomes of it.
    #[arg(short, long)]
    verbose: bool,
}

/// A transition that takes longer wants advice, in seconds.
const LONG: u64 = 60;

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    status: &'a Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    blockers: Option<&'a [BlockerView]>,
}

/// A blocker with everything that can be said about it.
#[derive(Serialize)]
pub struct BlockerView {
    tid: u32,
    comm: String,
    kthread: bool,
    reason: Reason,
    task_state: Option<char>,
    stack: Option<Vec<Frame>>,
    outlook: Outlook,
    outlook_text: String,
}

impl BlockerView {
    fn new(blocker: Blocker, task: Option<Task>, transition: Transition) -> Self {
        let task_state = task.as_ref().map(|task| task.state);
        let outlook = Outlook::new(Facts {
            kthread: blocker.kthread,
            reason: &blocker.reason,
            state: task_state,
            transition_seconds: transition.seconds,
        });
        Self {
            tid: blocker.tid,
            comm: blocker.comm,
            kthread: blocker.kthread,
            reason: blocker.reason,
            task_state,
            stack: task.and_then(|task| task.stack),
            outlook,
            outlook_text: outlook.to_string(),
        }
    }
}

impl fmt::Display for BlockerView {
    /// One line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.kthread {
            "kernel thread"
        } else {
            "task"
        };
        let comm = Escaped(&self.comm);
        write!(f, "{kind} {} {comm}: {}", self.tid, self.reason)
    }
}

/// The tasks that hold up the transition that is going on, or [`None`] if there is none.
pub fn blockers(machine: &Machine, status: &Status) -> Result<Option<Vec<BlockerView>>> {
    let Some((name, transition)) = status
        .in_transition()
        .and_then(|patch| Some((&patch.name, patch.transition?)))
    else {
        return Ok(None);
    };
    // Gone meanwhile is as good as complete.
    let Some(patch) = machine.patch(name) else {
        return Ok(None);
    };
    machine
        .blockers(&patch)?
        .into_iter()
        .map(|blocker| {
            let task = machine.task(blocker.tid)?;
            Ok(BlockerView::new(blocker, task, transition))
        })
        .collect::<Result<_>>()
        .map(Some)
}

/// What a patch is doing, as kpatch says it.
pub fn state(state: State) -> &'static str {
    match state {
        State::Enabled => "enabled",
        State::Enabling => "enabling...",
        State::Disabling => "disabling...",
        State::Disabled => "disabled",
    }
}

/// "3 hours", with the largest unit only.
fn duration(seconds: u64) -> String {
    HumanDuration(Duration::from_secs(seconds)).to_string()
}

fn object(object: &Object) -> String {
    let funcs = object
        .funcs
        .iter()
        .map(|func| match func.position {
            0 | 1 => func.name.clone(),
            position => format!("{},{position}", func.name),
        })
        .collect::<Vec<_>>();
    let loaded = match object.patched {
        Some(false) => " (not patched now)",
        _ => "",
    };
    format!("{}{loaded}: {}", object.name, funcs.join(" "))
}

fn properties(patch: &PatchStatus) -> Vec<String> {
    let mut properties = vec![];
    if let Some(age) = patch.age_seconds {
        properties.push(format!("for {}", duration(age)));
    }
    if let Some(order) = patch.stack_order {
        properties.push(format!("number {order} in the stack"));
    }
    if patch.replace == Some(true) {
        properties.push("replaces all older patches".into());
    }
    if patch.direct == Some(true) {
        properties.push("calls may jump".into());
    }
    if patch.forced == Some(true) {
        properties.push("forced".into());
    }
    properties
}

/// The progress of a transition in one phrase.
pub fn progress(transition: &Transition) -> String {
    let mut parts = vec![];
    if let (Some(done), Some(tasks)) = (transition.done(), transition.tasks) {
        parts.push(format!("{done} of {tasks} tasks done"));
    }
    if let Some(remaining) = transition.remaining {
        parts.push(format!("{remaining} left"));
    }
    if let Some(seconds) = transition.seconds {
        parts.push(format!("for {}", duration(seconds)));
    }
    if parts.is_empty() {
        parts.push("going on".into());
    }
    parts.join(", ")
}

fn leftover(leftover: &Leftover) -> String {
    let Leftover { name, references } = leftover;
    let outlook = match references {
        0 => format!("can be unloaded (rmmod {name})"),
        1 => "1 reference, stays for good if it was forced".into(),
        _ => format!("{references} references, stays for good if it was forced"),
    };
    format!("{name} [not a patch any more]: {outlook}")
}

fn text(
    status: &Status,
    blockers: Option<&[BlockerView]>,
) -> std::result::Result<String, fmt::Error> {
    let mut text = String::new();
    let core = match &status.core {
        Core::BuiltIn => "built-in core".into(),
        Core::Rust { version } => format!("Rust core {version}"),
    };
    writeln!(text, "Linux {}, {core}", status.kernel)?;
    if status.patches.is_empty() {
        writeln!(text, "no patches")?;
    }
    for patch in &status.patches {
        writeln!(text, "{} [{}]", patch.name, state(patch.state))?;
        let properties = properties(patch);
        if !properties.is_empty() {
            writeln!(text, "  {}", properties.join(", "))?;
        }
        for patched in &patch.objects {
            writeln!(text, "  {}", object(patched))?;
        }
        let Some(transition) = &patch.transition else {
            continue;
        };
        writeln!(text, "  transition: {}", progress(transition))?;
        for blocker in blockers.unwrap_or_default() {
            writeln!(text, "    {blocker}")?;
            writeln!(text, "      {}", blocker.outlook)?;
            for frame in blocker.stack.iter().flatten() {
                writeln!(text, "      {frame}")?;
            }
        }
        if blockers.is_some() && transition.seconds.is_some_and(|seconds| seconds >= LONG) {
            writeln!(
                text,
                "    it can be taken back (klp reverse) or, at the last, forced (klp force)"
            )?;
        }
    }
    for module in &status.leftovers {
        writeln!(text, "{}", leftover(module))?;
    }
    for name in status.skipped_at_boot.iter().flatten() {
        writeln!(
            text,
            "{name} [skipped at boot]: the machine went down twice after loading it; klp load {name} tries it again"
        )?;
    }
    Ok(text)
}

/// Prints the state of the machine.
pub fn run(arguments: &Arguments, context: &Context) -> Result {
    let machine = context.machine();
    let status = machine.status()?;
    let blockers = match arguments.verbose {
        true => blockers(&machine, &status)?,
        false => None,
    };
    let blockers = blockers.as_deref();
    if context.json {
        json::print(
            "status",
            &Answer {
                status: &status,
                blockers,
            },
        )?;
    } else {
        print(&text(&status, blockers)?)?;
    }
    Ok(ExitCode::SUCCESS)
}
