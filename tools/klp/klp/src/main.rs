// SPDX-License-Identifier: GPL-2.0

//! The command `klp`: live patches of the Linux kernel, on the kernel's own core and on the Rust core.
//!
//! Each subcommand is a module of [`commands`] with its arguments, as clap derives them, and a
//! function `run`. What a command prints on standard output may be parsed by scripts; messages for
//! people go to standard error, each with `klp: ` in front.

mod commands;
mod context;
mod kernel;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use context::Context;

/// Live patches of the Linux kernel: convert, load, watch and install them.
///
/// The exit status is 0, 1 if the command failed, or 2 if it was used wrongly.
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
    Convert(commands::convert::Arguments),
    New(commands::new::Arguments),
}

fn main() -> ExitCode {
    let Arguments { context, command } = Arguments::parse();
    let (name, result) = match command {
        Command::Convert(arguments) => {
            ("klp convert", commands::convert::run(&arguments, &context))
        }
        Command::New(arguments) => ("klp", commands::new::run(&arguments, &context)),
    };
    match result {
        Ok(status) => status,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}
