// SPDX-License-Identifier: GPL-2.0

//! `klp convert`: turns a module's references to unexported symbols into livepatch relocations.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process::{self, ExitCode},
};

use clap::Args;
use klp_convert::{convert, Outcome, Position, SymbolMap, Symbols};

use super::Result;
use crate::context::Context;

/// Turn a kernel module's references to unexported symbols into livepatch relocations.
///
/// The module must be marked livepatch=Y and must not be signed yet. Sections that the kernel reads or
/// frees when it loads the module cannot refer to symbols of other modules. On an error, the exit
/// status is 1 and the module is left as it is.
#[derive(Args)]
pub struct Arguments {
    /// Symbols to convert, in the format of Module.symvers; the file that kbuild gets as KBUILD_EXTRA_SYMBOLS.
    #[arg(long, required = true, value_name = "FILE")]
    symbols: Vec<PathBuf>,

    /// The kernel's symbols, in the format of System.map or /proc/kallsyms: checks that each symbol of vmlinux is there,
    /// and only once.
    #[arg(long, value_name = "FILE")]
    system_map: Option<PathBuf>,

    /// Which of several symbols of the same name is meant, counted from 1.
    #[arg(long, value_name = "OBJECT:NAME=N")]
    position: Vec<Position>,

    /// Write the result here instead of changing the module.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Say nothing unless there is an error.
    #[arg(long)]
    quiet: bool,

    /// The module.
    module: PathBuf,
}

fn read(path: &Path) -> std::result::Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Replaces `path` by `contents` at once, or not at all. It gets the permissions of `like`.
fn write(path: &Path, like: &Path, contents: &[u8]) -> io::Result<()> {
    // What a link points to is replaced, not the link.
    let path = match fs::canonicalize(path) {
        Ok(path) if !path.is_file() => {
            return Err(io::Error::other("exists and is not a regular file"))
        }
        Ok(path) => path,
        Err(_) => path.into(),
    };
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", process::id()));
    let temporary = path.with_file_name(name);

    let mut file = File::create_new(&temporary)?;
    let written = file
        .write_all(contents)
        .and_then(|()| file.set_permissions(fs::metadata(like)?.permissions()))
        .and_then(|()| fs::rename(&temporary, &path));
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Converts.
pub fn run(arguments: &Arguments, _: &Context) -> Result {
    let mut symbols = Symbols::default();
    for path in &arguments.symbols {
        symbols
            .add(&read(path)?)
            .map_err(|error| format!("{}:{error}", path.display()))?;
    }
    symbols.set_positions(&arguments.position)?;
    let map = match &arguments.system_map {
        Some(path) => Some(
            SymbolMap::parse(&read(path)?)
                .map_err(|error| format!("{}:{error}", path.display()))?,
        ),
        None => None,
    };

    let module = &arguments.module;
    let name = module.display();
    let output = arguments.output.as_deref().unwrap_or(module);
    let write = |contents: &[u8]| {
        write(output, module, contents).map_err(|error| format!("{}: {error}", output.display()))
    };
    let file = read(module)?;
    let outcome =
        convert(&file, &symbols, map.as_ref()).map_err(|error| format!("{name}: {error}"))?;
    let summary = match outcome {
        Outcome::NothingToDo => {
            if output != module {
                write(&file)?;
            }
            format!("{name}: nothing to convert, or converted already")
        }
        Outcome::Converted {
            file,
            relocations,
            symbols,
        } => {
            write(&file)?;
            format!("{name}: {relocations} relocations against {symbols} symbols converted")
        }
    };
    if !arguments.quiet {
        eprintln!("klp convert: {summary}");
    }
    Ok(ExitCode::SUCCESS)
}
