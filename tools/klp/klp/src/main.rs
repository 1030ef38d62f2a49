// SPDX-License-Identifier: GPL-2.0

//! The command `klp`: live patches of the Linux kernel, on the kernel's own core and on the Rust core.
//!
//! Each subcommand is a module of [`commands`] with its arguments, as clap derives them, and a
//! function `run`. What a command prints on standard output may be parsed by scripts; messages for
//! people go to standard error, each with `klp: ` in front.

mod booted;
mod commands;
mod context;
#[cfg(test)]
mod elf;
mod explain;
mod facts;
#[cfg(test)]
mod fake;
mod json;
mod kernel;
mod replace;
mod session;

use std::{io, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand};

use context::Context;

/// Live patches of the Linux kernel: convert, load, watch and install them.
///
/// The exit status is 0, 1 if the command failed, 2 if it was used wrongly, or 129, 130 or 143 if
/// SIGHUP, SIGINT or SIGTERM ended its wait.
#[derive(Parser)]
#[command(name = "klp", version, arg_required_else_help = true)]
struct Arguments {
    #[command(flatten)]
    context: Context,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    BootOk(commands::boot_ok::Arguments),
    Build(commands::build::Arguments),
    Check(commands::check::Arguments),
    Completions(commands::completions::Arguments),
    Convert(commands::convert::Arguments),
    Doctor(commands::doctor::Arguments),
    Force(commands::force::Arguments),
    Info(commands::info::Arguments),
    Install(commands::install::Arguments),
    List(commands::list::Arguments),
    Load(commands::load::Arguments),
    Manpages(commands::manpages::Arguments),
    Metrics(commands::metrics::Arguments),
    New(commands::new::Arguments),
    Package(commands::package::Arguments),
    Reverse(commands::reverse::Arguments),
    Signal(commands::signal::Arguments),
    Status(commands::status::Arguments),
    Top(commands::top::Arguments),
    Uninstall(commands::uninstall::Arguments),
    Unload(commands::unload::Arguments),
    Version(commands::version::Arguments),
    Wait(commands::wait::Arguments),
}

fn main() -> ExitCode {
    let Arguments { context, command } = Arguments::parse();
    let (name, result) = match command {
        Command::BootOk(arguments) => ("klp", commands::boot_ok::run(&arguments, &context)),
        Command::Build(arguments) => ("klp build", commands::build::run(&arguments, &context)),
        Command::Check(arguments) => ("klp check", commands::check::run(&arguments, &context)),
        Command::Completions(arguments) => (
            "klp",
            commands::completions::run(&arguments, Arguments::command()),
        ),
        Command::Convert(arguments) => {
            ("klp convert", commands::convert::run(&arguments, &context))
        }
        Command::Doctor(arguments) => ("klp", commands::doctor::run(&arguments, &context)),
        Command::Force(arguments) => ("klp", commands::force::run(&arguments, &context)),
        Command::Info(arguments) => ("klp", commands::info::run(&arguments, &context)),
        Command::Install(arguments) => ("klp", commands::install::run(&arguments, &context)),
        Command::List(arguments) => ("klp", commands::list::run(&arguments, &context)),
        Command::Load(arguments) => ("klp", commands::load::run(&arguments, &context)),
        Command::Manpages(arguments) => (
            "klp",
            commands::manpages::run(&arguments, Arguments::command()),
        ),
        Command::Metrics(arguments) => ("klp", commands::metrics::run(&arguments, &context)),
        Command::New(arguments) => ("klp", commands::new::run(&arguments, &context)),
        Command::Package(arguments) => {
            ("klp package", commands::package::run(&arguments, &context))
        }
        Command::Reverse(arguments) => ("klp", commands::reverse::run(&arguments, &context)),
        Command::Signal(arguments) => ("klp", commands::signal::run(&arguments, &context)),
        Command::Status(arguments) => ("klp", commands::status::run(&arguments, &context)),
        Command::Top(arguments) => ("klp", commands::top::run(&arguments, &context)),
        Command::Uninstall(arguments) => ("klp", commands::uninstall::run(&arguments, &context)),
        Command::Unload(arguments) => ("klp", commands::unload::run(&arguments, &context)),
        Command::Version(arguments) => ("klp", commands::version::run(&arguments, &context)),
        Command::Wait(arguments) => ("klp", commands::wait::run(&arguments, &context)),
    };
    match result {
        Ok(status) => status,
        // Nobody reads the answer any more, and nobody needs to be told.
        Err(error)
            if error
                .downcast_ref::<io::Error>()
                .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) =>
        {
            ExitCode::FAILURE
        }
        Err(error) => {
            commands::message(format_args!("{name}: {error}"));
            ExitCode::FAILURE
        }
    }
}
