// SPDX-License-Identifier: GPL-2.0

//! `klp top`: watches the transition that is going on.

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use klp_live::{kernel::Running, Kernel, Machine, PatchStatus, Status};

use super::{print, status, Result};
use crate::context::Context;

/// Watch the transition that is going on until it ends.
///
/// On a terminal there is a progress bar, with the first of those who hold the transition up.
/// Elsewhere, a line is printed each time that something has changed.
#[derive(Args)]
pub struct Arguments {}

/// How often the transition is looked at: often enough for the eye.
const INTERVAL: Duration = Duration::from_millis(200);

/// How many of those who hold it up are shown.
const SHOWN: usize = 5;

/// Where the progress goes.
trait View {
    fn show(&mut self, patch: &PatchStatus, blockers: &[status::BlockerView]) -> Result<()>;
    fn end(&mut self, text: &str) -> Result<()>;
}

/// A progress bar on the terminal.
struct Bar(ProgressBar);

impl View for Bar {
    fn show(&mut self, patch: &PatchStatus, blockers: &[status::BlockerView]) -> Result<()> {
        let Some(transition) = patch.transition else {
            return Ok(());
        };
        if let (Some(tasks), Some(done)) = (transition.tasks, transition.done()) {
            self.0.set_length(tasks);
            self.0.set_position(done);
        }
        let mut message = status::progress(&transition);
        for blocker in blockers.iter().take(SHOWN) {
            message += &format!("\n  {blocker}");
        }
        if blockers.len() > SHOWN {
            message += &format!("\n  and {} more", blockers.len() - SHOWN);
        }
        let prefix = format!("{} [{}]", patch.name, status::state(patch.state));
        self.0.set_prefix(prefix);
        self.0.set_message(message);
        Ok(())
    }

    fn end(&mut self, text: &str) -> Result<()> {
        self.0.finish_and_clear();
        print(text)
    }
}

/// Lines in a log.
#[derive(Default)]
struct Lines {
    last: String,
}

impl View for Lines {
    fn show(&mut self, patch: &PatchStatus, blockers: &[status::BlockerView]) -> Result<()> {
        let left = patch.transition.and_then(|transition| transition.remaining);
        let left = left
            .map(|left| format!("{left} left"))
            .unwrap_or_else(|| "going on".into());
        let first = blockers
            .first()
            .map(|blocker| format!(": {blocker}"))
            .unwrap_or_default();
        let line = format!(
            "{} [{}] {left}{first}\n",
            patch.name,
            status::state(patch.state)
        );
        if line != self.last {
            print(&line)?;
            self.last = line;
        }
        Ok(())
    }

    fn end(&mut self, text: &str) -> Result<()> {
        print(text)
    }
}

/// Watches.
pub fn run(_: &Arguments, context: &Context) -> Result {
    if context.json {
        return Err("klp top is for people: use klp status --json".into());
    }
    let machine = context.machine();
    let mut view: Box<dyn View> = if io::stdout().is_terminal() {
        let style = ProgressStyle::with_template("{prefix} {bar:20} {msg}")?;
        let target = ProgressDrawTarget::stdout();
        Box::new(Bar(
            ProgressBar::with_draw_target(Some(0), target).with_style(style)
        ))
    } else {
        Box::new(Lines::default())
    };
    watch(&machine, &Running::new()?, view.as_mut())
}

fn watch(machine: &Machine, kernel: &dyn Kernel, view: &mut dyn View) -> Result {
    let mut name = None;
    loop {
        let status: Status = machine.status()?;
        let Some(patch) = status.in_transition() else {
            let end = match name {
                Some(name) => format!("{name}: transition has ended\n"),
                None => "no transition is going on\n".into(),
            };
            view.end(&end)?;
            return Ok(ExitCode::SUCCESS);
        };
        let blockers = status::blockers(machine, &status)?;
        view.show(patch, &blockers.unwrap_or_default())?;
        name = Some(patch.name.clone());
        if let Some(signal) = kernel.pause(None, INTERVAL) {
            view.end("")?;
            return Ok(ExitCode::from(128 + signal.number()));
        }
    }
}
