// SPDX-License-Identifier: GPL-2.0

//! `klp metrics`: the state of the machine for Prometheus.
//!
//! The text is in OpenMetrics form. It has gauges only, even for what is called an info there: so
//! it is valid in Prometheus' older text format as well, which a node exporter's text-file
//! collector reads.

use std::{
    fmt::{self, Write},
    fs::Permissions,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;
use klp_live::{guard::Guard, Core, Error, PatchStatus, State, Status};
use prometheus_client::{
    encoding::{text::encode, EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::{print, Result};
use crate::{context::Context, replace::replace};

/// Print metrics about the patches in OpenMetrics form.
#[derive(Args)]
pub struct Arguments {
    /// Replace this file at once instead, for the text-file collector of a node exporter. Its name
    /// should end with .prom.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// The value of a label, which is escaped when it is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Value(String);

impl EncodeLabelValue for Value {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '\\' => encoder.write_str("\\\\")?,
                '"' => encoder.write_str("\\\"")?,
                '\n' => encoder.write_str("\\n")?,
                _ => encoder.write_char(character)?,
            }
        }
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CoreLabels {
    core: Value,
    version: Value,
    kernel: Value,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PatchLabels {
    patch: Value,
}

/// Registers a gauge that counts something.
fn count(registry: &mut Registry, name: &str, help: &str, value: usize) {
    let gauge = Gauge::<i64>::default();
    gauge.set(value.try_into().unwrap_or(i64::MAX));
    registry.register(name, help, gauge);
}

/// Registers a gauge with a value for each patch.
fn per_patch(
    registry: &mut Registry,
    name: &str,
    help: &str,
    unit: Option<Unit>,
    values: impl Iterator<Item = (String, Option<u64>)>,
) {
    let family = Family::<PatchLabels, Gauge>::default();
    for (patch, value) in values {
        // What is not known is left out.
        if let Some(value) = value {
            let labels = PatchLabels {
                patch: Value(patch),
            };
            family
                .get_or_create(&labels)
                .set(value.try_into().unwrap_or(i64::MAX));
        }
    }
    match unit {
        Some(unit) => registry.register_with_unit(name, help, unit, family),
        None => registry.register(name, help, family),
    }
}

/// The metrics in OpenMetrics form. Without a status, the kernel has no live patching.
fn metrics(
    status: Option<&Status>,
    skipped_at_boot: Option<usize>,
) -> std::result::Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("klp");

    let info = Family::<CoreLabels, Gauge>::default();
    if let Some(status) = status {
        let (core, version) = match &status.core {
            Core::BuiltIn => ("built-in", ""),
            Core::Rust { version } => ("rust", version.as_str()),
        };
        info.get_or_create(&CoreLabels {
            core: Value(core.into()),
            version: Value(version.into()),
            kernel: Value(status.kernel.clone()),
        })
        .set(1);
    }
    registry.register("core_info", "The livepatch core in charge", info);

    let patches: &[PatchStatus] = status.map_or(&[], |status| &status.patches);
    count(
        &mut registry,
        "patches",
        "Patches that the core has, enabled or not",
        patches.len(),
    );
    count(
        &mut registry,
        "leftover_modules",
        "Loaded modules of patches that the core does not have any more",
        status.map_or(0, |status| status.leftovers.len()),
    );
    // What is not known is left out.
    if let Some(skipped_at_boot) = skipped_at_boot {
        count(
            &mut registry,
            "patches_skipped_at_boot",
            "Patches, and the Rust core, not loaded at boot since the machine died with them",
            skipped_at_boot,
        );
    }

    let all = || patches.iter().map(|patch| (patch.name.clone(), patch));
    per_patch(
        &mut registry,
        "patch_enabled",
        "Whether the patch is enabled, or being enabled",
        None,
        all().map(|(name, patch)| {
            let enabled = matches!(patch.state, State::Enabled | State::Enabling);
            (name, Some(enabled.into()))
        }),
    );
    per_patch(
        &mut registry,
        "patch_in_transition",
        "Whether tasks are switching to the patch or from it",
        None,
        all().map(|(name, patch)| (name, Some(patch.transition.is_some().into()))),
    );
    per_patch(
        &mut registry,
        "patch_functions",
        "Functions that the patch replaces",
        None,
        all().map(|(name, patch)| {
            let count = patch
                .objects
                .iter()
                .map(|object| object.funcs.len() as u64)
                .sum();
            (name, Some(count))
        }),
    );
    per_patch(
        &mut registry,
        "transition",
        "How long the transition of the patch has been going on",
        Some(Unit::Seconds),
        all().map(|(name, patch)| (name, patch.transition.and_then(|t| t.seconds))),
    );
    per_patch(
        &mut registry,
        "transition_tasks_remaining",
        "Tasks that have yet to switch",
        None,
        all().map(|(name, patch)| (name, patch.transition.and_then(|t| t.remaining))),
    );

    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// Prints or writes the metrics.
pub fn run(arguments: &Arguments, context: &Context) -> Result {
    let machine = context.machine();
    let status = match machine.status() {
        Err(Error::NoLivepatch(_)) => None,
        status => Some(status?),
    };
    let skipped = match &status {
        Some(status) => status.skipped_at_boot.clone(),
        None => Guard::new(&machine, &machine.kernel_release()?).suspects()?,
    };
    let text = metrics(status.as_ref(), skipped.map(|names| names.len()))?;
    match &arguments.output {
        Some(path) => {
            // The exporter need not be root.
            replace(path, Permissions::from_mode(0o644), text.as_bytes())
                .map_err(|error| format!("{}: {error}", path.display()))?
        }
        None => print(&text)?,
    }
    Ok(ExitCode::SUCCESS)
}
