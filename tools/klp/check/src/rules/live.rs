// SPDX-License-Identifier: GPL-2.0

//! What stands in the way of a patch in a running kernel.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::{
    declaration::{Declaration, State},
    kernel::Kernel,
    live::{Hold, Installed, Live},
    report::{Finding, Level, Report, Rule, Subject},
    Patch,
};

pub(super) fn check(patch: &Patch<'_>, kernel: &Kernel, report: &mut Report) {
    let Some(live) = &kernel.live else {
        return;
    };
    busy(patch, kernel, live, report);
    let Ok(declaration) = &patch.declaration else {
        return;
    };
    held(declaration, live, report);
    for installed in &live.patches {
        states(declaration, installed, report);
    }
    stacked(declaration, live, report);
    tasks(declaration, live, report);
}

fn busy(patch: &Patch<'_>, kernel: &Kernel, live: &Live, report: &mut Report) {
    let error = |text: String| Finding::error(Rule::Busy, Subject::module(), text);
    for (obstacle, advice) in &live.obstacles {
        report.add(error(obstacle.clone()).advice(advice));
    }
    if let Some(other) = live.patches.iter().find(|other| other.in_transition) {
        report.add(
            error(format!(
                "the transition of {} is going on, and there can be only one",
                other.name
            ))
            .note("klp_enable_patch() fails (EBUSY)")
            .advice("wait for it: klp wait"),
        );
    }
    let name = patch.module.name();
    if kernel
        .loaded
        .as_ref()
        .is_some_and(|loaded| loaded.contains(name))
    {
        report.add(
            error(format!("a module {name} is loaded"))
                .note("the module loader refuses another one of this name (EEXIST)")
                .advice(format!("take it off first: klp unload {name}")),
        );
    }
}

/// The functions of a patch: object, name, and position from 1.
fn funcs(declaration: &Declaration) -> impl Iterator<Item = (&str, &str, u64)> {
    declaration.objects.iter().flat_map(|object| {
        let funcs = object.funcs.iter().flatten();
        funcs.filter_map(|func| Some((object.name(), func.name.as_deref()?, func.position.max(1))))
    })
}

fn held(declaration: &Declaration, live: &Live, report: &mut Report) {
    let Some(holders) = &live.holders else {
        report.add(
            Finding::unknown(
                Rule::Held,
                Subject::module(),
                "whether somebody else holds a function is not known",
            )
            .note("tracefs or debugfs is not mounted, or only root may see it"),
        );
        return;
    };
    let mut holds: HashMap<_, HashSet<_>> = HashMap::new();
    for holder in holders {
        let function = (holder.object.as_str(), holder.func.as_str());
        holds.entry(function).or_default().insert(holder.hold);
    }
    // Which of several of a name an installed patch replaces, is not told by who holds it.
    let patched = live.patches.iter().flat_map(|patch| &patch.funcs);
    let patched = patched.map(|(object, func, _)| (object.as_str(), func.as_str()));
    let patched: HashSet<_> = patched.collect();
    for (object, func, _) in funcs(declaration) {
        let Some(holds) = holds.get(&(object, func)) else {
            continue;
        };
        let subject = || Subject::symbol(object, func);
        if holds.contains(&Hold::Redirected) && !patched.contains(&(object, func)) {
            report.add(
                Finding::error(
                    Rule::Held,
                    subject(),
                    format!("calls of {func} are redirected by somebody else than a patch"),
                )
                .note("ftrace lets only one do that: the patch does not load (EBUSY)")
                .note("it may be a kprobe with a post handler, fault injection, or a module")
                .advice("look at /sys/kernel/tracing/enabled_functions, and remove it before"),
            );
            continue;
        }
        if holds.contains(&Hold::Direct) {
            report.add(
                Finding::new(
                    Rule::Held,
                    Level::Warning,
                    subject(),
                    format!("a BPF trampoline is attached to {func}"),
                )
                .note(
                    "a program of the kind fmod_ret that changes the result overrides the patch, \
                       in whichever order they come",
                ),
            );
        }
        if holds.contains(&Hold::Probe) {
            report.add(
                Finding::new(
                    Rule::Held,
                    Level::Warning,
                    subject(),
                    format!("a kprobe is in {func}"),
                )
                .note("one that is not at its start is not hit any more when the patch is there")
                .note(
                    "one whose BPF program calls bpf_override_return() wins over the patch, and \
                       nobody tells",
                ),
            );
        }
    }
}

/// Whether the core takes the patch after an installed one, as its `klp_is_patch_compatible()` sees
/// it.
fn states(declaration: &Declaration, installed: &Installed, report: &mut Report) {
    let matters = declaration.replace != Some(false)
        || declaration
            .states
            .as_ref()
            .is_none_or(|states| !states.is_empty());
    let Some(old) = &installed.states else {
        if matters {
            report.add(
                Finding::unknown(
                    Rule::Installed,
                    Subject::module(),
                    format!("which states {} has changed is not known", installed.name),
                )
                .note("the core refuses a patch that does not know them (EINVAL)")
                .note("its file is not among the installed patches, or is another build")
                .advice("install it: klp install"),
            );
        }
        return;
    };
    let mut known = HashMap::new();
    for state in declaration.states.iter().flatten() {
        known.entry(state.id).or_insert(state);
    }
    for state in old {
        let own = known.get(&state.id).copied();
        if let Some(finding) = incompatible(declaration, installed, *state, own) {
            report.add(finding);
        }
    }
}

fn incompatible(
    declaration: &Declaration,
    installed: &Installed,
    old: State,
    own: Option<&State>,
) -> Option<Finding> {
    let State { id, version } = old;
    let name = &installed.name;
    let finding = |level, text| {
        Finding::new(Rule::Installed, level, Subject::module(), text)
            .note("the core refuses the patch (EINVAL): it would not know how to go on from there")
    };
    match (own, declaration.replace) {
        (Some(own), _) if own.version >= version => None,
        (Some(own), _) => Some(
            finding(
                Level::Error,
                format!(
                    "{name} has state {id:#x} in version {version}, and the patch knows version {}",
                    own.version
                ),
            )
            .advice(format!("take {name} off first: klp unload {name}")),
        ),
        (None, Some(false)) => None,
        (None, Some(true)) => Some(
            finding(
                Level::Error,
                format!(
                    "{name} has changed state {id:#x}, which the patch that replaces it does \
                         not know"
                ),
            )
            .advice("declare the state, and handle it in callbacks"),
        ),
        (None, None) => Some(finding(
            Level::Unknown,
            format!(
                "{name} has changed state {id:#x}, and whether the patch replaces it is not \
                     known"
            ),
        )),
    }
}

/// What becomes of the patches that are there.
fn stacked(declaration: &Declaration, live: &Live, report: &mut Report) {
    let own: HashSet<_> = funcs(declaration).collect();
    for installed in &live.patches {
        let name = &installed.name;
        let note =
            |text: String| Finding::new(Rule::Installed, Level::Note, Subject::module(), text);
        if declaration.replace == Some(true) {
            report.add(note(format!("the patch replaces {name}")));
            continue;
        }
        let both: Vec<String> = installed
            .funcs
            .iter()
            .filter(|(object, func, position)| {
                own.contains(&(object.as_str(), func.as_str(), *position))
            })
            .map(|(_, func, _)| func.clone())
            .collect();
        if !both.is_empty() {
            report.add(
                note(format!(
                    "the patch is put on top of {name}: {}",
                    super::list(&both)
                ))
                .note("the replacements of the patch that is enabled last run"),
            );
        }
    }
}

fn tasks(declaration: &Declaration, live: &Live, report: &mut Report) {
    let mut tasks: HashMap<_, BTreeSet<_>> = HashMap::new();
    for task in live.tasks.iter().flatten() {
        let function = (task.object.as_str(), task.func.as_str());
        tasks.entry(function).or_default().insert(&task.task);
    }
    for (object, func, _) in funcs(declaration) {
        if let Some(here) = tasks.get(&(object, func)) {
            let here: Vec<String> = here.iter().copied().cloned().collect();
            report.add(
                Finding::new(
                    Rule::Tasks,
                    Level::Note,
                    Subject::symbol(object, func),
                    format!("tasks are in {func}: {}", super::list(&here)),
                )
                .note("the transition waits until they have left it"),
            );
        }
    }
}
