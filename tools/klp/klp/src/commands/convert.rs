// SPDX-License-Identifier: GPL-2.0

//! `klp convert`: turns a module's references to unexported symbols into livepatch relocations.

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use klp_convert::{
    convert, undefined_symbols, Exports, Known, Outcome, Position, Request, SymbolMap, Symbols,
    Unexported,
};
use klp_live::Machine;
use klp_module::Module;
use object::ReadCache;
use serde_json::json;

use super::{message, print, Result};
use crate::{
    booted::Booted,
    context::Context,
    kernel::{self, Kernel},
    replace::replace,
};

/// Turn a kernel module's references to unexported symbols into livepatch relocations.
///
/// The module must be marked livepatch=Y and must not be signed yet. Sections that the kernel reads
/// or frees when it loads the module cannot refer to symbols of other modules. On an error, the
/// exit status is 1 and the module is left as it is.
///
/// Which of several symbols of one name is meant is never guessed. What is known of the kernel
/// comes from its build directory, from its package for debugging, from /proc/kallsyms if it is the
/// one that runs, and, if none of these has its symbols, from the file that it is booted from; it is
/// looked for with --unexported, --auto, --target, --from and --kernel.
#[derive(Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
pub struct Arguments {
    /// Symbols to convert, in the format of Module.symvers; the file that kbuild gets as
    /// KBUILD_EXTRA_SYMBOLS.
    #[arg(long, group = "what", value_name = "FILE")]
    symbols: Vec<PathBuf>,

    /// A symbol to convert: of vmlinux, or of the module OBJECT; the Nth of several.
    #[arg(long, group = "what", value_name = "[OBJECT:]NAME[=N]")]
    unexported: Vec<Unexported>,

    /// Convert every undefined symbol that is not exported but in vmlinux or in a target, and list
    /// them.
    #[arg(long, group = "what")]
    auto: bool,

    /// A module that is patched, by its name or its file: its symbols can be converted, also when
    /// it is not loaded.
    #[arg(long, value_name = "MODULE")]
    target: Vec<PathBuf>,

    /// Of several symbols of one name, the one that this source file defines, such as
    /// fs/proc/cmdline.c.
    ///
    /// A directory can only be told from the debugging information of vmlinux; a plain file name
    /// also from the symbol table of vmlinux or of a module that was not stripped.
    #[arg(long, value_name = "FILE")]
    from: Vec<String>,

    /// Which of several symbols of the same name is meant, counted from 1.
    #[arg(long, value_name = "OBJECT:NAME=N")]
    position: Vec<Position>,

    /// The kernel that the module is for, if it is not the one that the module names: its release,
    /// its build directory, or the file that it is booted from (/boot/vmlinuz-RELEASE), which has its
    /// symbols. A path has a slash in it.
    #[arg(long, value_name = "RELEASE|DIRECTORY|IMAGE")]
    kernel: Option<String>,

    /// The kernel's symbols, in the format of System.map or /proc/kallsyms: checks that each symbol
    /// of vmlinux is there, and only once.
    #[arg(long, value_name = "FILE")]
    system_map: Option<PathBuf>,

    /// The kernel's vmlinux, not stripped: symbols as in System.map, and their source files.
    #[arg(long, value_name = "FILE")]
    vmlinux: Option<PathBuf>,

    /// A Module.symvers of other modules that the module needs: these symbols are left alone.
    #[arg(long, value_name = "FILE")]
    exports: Vec<PathBuf>,

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
    replace(&path, fs::metadata(like)?.permissions(), contents)
}

/// The error of a file, in words.
fn in_file(path: &Path) -> impl Fn(String) -> String + '_ {
    move |error| format!("{}: {error}", path.display())
}

/// The same of a text file, whose errors begin with the number of a line.
fn in_line(path: &Path) -> impl Fn(String) -> String + '_ {
    move |error| format!("{}:{error}", path.display())
}

/// Converts.
pub fn run(arguments: &Arguments, context: &Context) -> Result {
    let module = &arguments.module;
    let name = module.display();
    let symbols = arguments.list()?;
    let file = read(module)?;
    let machine = context.machine();
    let kernel = arguments.kernel(&machine, &file)?;
    let (request, known, useless) = arguments.gather(symbols, kernel.as_ref(), &file)?;

    let say = |text: &str| {
        if !arguments.quiet {
            message(format_args!("klp convert: {name}: {text}"));
        }
    };
    let output = arguments.output.as_deref().unwrap_or(module);
    let write = |contents: &[u8]| {
        write(output, module, contents).map_err(|error| format!("{}: {error}", output.display()))
    };
    let outcome = match convert(&file, &request, &known) {
        Ok(outcome) => outcome,
        Err(problems) => {
            for problem in problems {
                message(format_args!("klp convert: {name}: {problem}"));
            }
            return Ok(ExitCode::FAILURE);
        }
    };
    let (contents, relocations, symbols) = match outcome {
        Outcome::Converted {
            file,
            relocations,
            symbols,
        } => (Some(file), relocations, symbols),
        Outcome::NothingToDo => (None, 0, Vec::new()),
    };
    match contents {
        Some(contents) => write(&contents)?,
        None if output != module => write(&file)?,
        None => (),
    }

    if context.json {
        let symbols = symbols.iter().map(|symbol| {
            json!({
                "object": symbol.object,
                "name": symbol.name,
                "position": symbol.position,
                "uses": symbol.uses,
            })
        });
        let answer = json!({
            "schema": "klp/1",
            "command": "convert",
            "module": output.to_string_lossy(),
            "relocations": relocations,
            "symbols": symbols.collect::<Vec<_>>(),
        });
        print(&format!("{answer}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    if symbols.is_empty() {
        say("nothing to convert, or converted already");
        return Ok(ExitCode::SUCCESS);
    }
    if request.automatic {
        for symbol in &symbols {
            say(&format!("{symbol}, used by {}", symbol.uses.join(", ")));
        }
    }
    let of_vmlinux = symbols.iter().any(|symbol| symbol.object == "vmlinux");
    if of_vmlinux && !arguments.unexported.is_empty() && !known.knows("vmlinux") {
        say(&format!(
            "the kernel's symbols are not known here{useless}, so only insmod will tell whether it \
             has these"
        ));
    }
    let count = symbols.len();
    say(&format!(
        "{relocations} relocations against {count} symbols converted"
    ));
    Ok(ExitCode::SUCCESS)
}

/// Adds the symbols of the file that the kernel is booted from, if it is found. Returns, in
/// parentheses, why it is of no use.
fn add_found_image(kernel: &Kernel<'_>, known: &mut Known) -> String {
    let Some(path) = kernel.found_image() else {
        return String::new();
    };
    let found = Booted::found(&path, kernel.release());
    match found.and_then(Booted::into_symbol_map) {
        Ok(map) => {
            known.add_map(path.to_string_lossy(), map);
            String::new()
        }
        Err(error) => format!(" ({})", in_file(&path)(error)),
    }
}

impl Arguments {
    /// The kernel that the module is for, if it is of interest and known.
    fn kernel<'a>(&self, machine: &'a Machine, file: &[u8]) -> Result<Option<Kernel<'a>>> {
        let wanted = self.auto
            || self.kernel.is_some()
            || !(self.unexported.is_empty() && self.from.is_empty() && self.target.is_empty());
        if !wanted {
            return Ok(None);
        }
        let built_for = Module::parse(file).ok();
        let built_for = built_for.as_ref().and_then(Module::kernel_release);
        match (&self.kernel, built_for) {
            (Some(name), built_for) => {
                let kernel = Kernel::named(machine, name)?;
                match built_for {
                    Some(release) if release != kernel.release() => Err(format!(
                        "{} was built for the kernel {release}, and {name} is {}",
                        self.module.display(),
                        kernel.release()
                    )
                    .into()),
                    _ => Ok(Some(kernel)),
                }
            }
            (None, Some(release)) => Ok(Some(Kernel::of_release(machine, release))),
            (None, None) => Ok(None),
        }
    }

    /// What is asked for, what is known of the kernel, and, in parentheses, why the file that it is
    /// booted from does not tell more.
    fn gather(
        &self,
        symbols: Symbols,
        kernel: Option<&Kernel<'_>>,
        file: &[u8],
    ) -> Result<(Request, Known, String)> {
        let mut known = Known::default();
        // A module's own file tells more than /proc/kallsyms.
        let targets = self.add_targets(kernel, &mut known)?;
        self.add_vmlinux(kernel, file, &mut known)?;
        let useless = match kernel {
            Some(kernel) if !known.knows("vmlinux") => add_found_image(kernel, &mut known),
            _ => String::new(),
        };
        self.add_exports(kernel, &mut known)?;
        if self.auto {
            self.check_automatic(kernel, &known, &useless)?;
        }
        Ok((
            Request {
                symbols,
                automatic: self.auto,
                targets,
                from: self.from.clone(),
            },
            known,
            useless,
        ))
    }

    /// The symbols that the user names.
    fn list(&self) -> Result<Symbols> {
        let mut symbols = Symbols::default();
        for path in &self.symbols {
            symbols.add(&read(path)?).map_err(in_line(path))?;
        }
        for symbol in &self.unexported {
            symbols.add_unexported(symbol)?;
        }
        symbols.set_positions(&self.position)?;
        Ok(symbols)
    }

    /// The kernel's symbols: what the user names must be good, what is found may be of no use.
    fn add_vmlinux(
        &self,
        kernel: Option<&Kernel<'_>>,
        file: &[u8],
        known: &mut Known,
    ) -> Result<()> {
        let image = match kernel.and_then(Kernel::image) {
            Some(path) => Some(Booted::read(path).map_err(in_file(path))?),
            None => None,
        };
        let found = match kernel {
            Some(kernel) => kernel.vmlinux(self.vmlinux.as_deref(), image.as_ref())?,
            None => self.vmlinux.clone(),
        };
        if let Some(path) = &found {
            let vmlinux = File::open(path).map_err(|error| in_file(path)(error.to_string()))?;
            let vmlinux = ReadCache::new(vmlinux);
            match SymbolMap::read_object("vmlinux", &vmlinux) {
                Ok(mut map) => {
                    let names: HashSet<_> = undefined_symbols(file)
                        .map_err(in_file(&self.module))?
                        .into_iter()
                        .collect();
                    map.read_sources(&names, &self.from, &vmlinux)
                        .map_err(in_file(path))?;
                    known.add_map(path.to_string_lossy(), map);
                }
                Err(_) if self.vmlinux.is_none() => (),
                Err(error) => return Err(in_file(path)(error).into()),
            }
        }
        if let Some(image) = image {
            let path = image.path.clone();
            let map = image.into_symbol_map().map_err(in_file(&path))?;
            known.add_map(path.to_string_lossy(), map);
        }
        if let Some(path) = &self.system_map {
            let map = SymbolMap::parse(&read(path)?).map_err(in_line(path))?;
            known.add_map(path.to_string_lossy(), map);
        } else if let Some(kernel) = kernel.filter(|kernel| kernel.image().is_none()) {
            for path in kernel.symbol_lists() {
                match SymbolMap::parse(&read(&path)?) {
                    Ok(map) if map.is_of_kernel() => known.add_map(path.to_string_lossy(), map),
                    _ => (),
                }
            }
        }
        Ok(())
    }

    /// The symbols of the modules that are patched; returns their names.
    fn add_targets(&self, kernel: Option<&Kernel<'_>>, known: &mut Known) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for target in &self.target {
            let text = target.to_string_lossy();
            let is_file = text.contains('/') || text.contains(".ko");
            let path = match kernel {
                _ if is_file => target.clone(),
                Some(kernel) => kernel.module(&text)?,
                None => {
                    let target = target.display();
                    return Err(format!(
                        "module {target}: for which kernel? Say it with --kernel, or name its file"
                    )
                    .into());
                }
            };
            let file =
                kernel::read_module(&path).map_err(|error| in_file(&path)(error.to_string()))?;
            let name = kernel::module_name(target);
            let map = SymbolMap::read_object(&name, file.as_slice()).map_err(in_file(&path))?;
            known.add_map(path.to_string_lossy(), map);
            names.push(name);
        }
        Ok(names)
    }

    /// The symbols that modules may use anyway.
    fn add_exports(&self, kernel: Option<&Kernel<'_>>, known: &mut Known) -> Result<()> {
        let found = kernel
            .map(Kernel::module_symvers)
            .filter(|path| path.is_file());
        let Some(found) = found else {
            if self.exports.is_empty() {
                return Ok(());
            }
            return Err(
                "--exports is of no use without the Module.symvers of the kernel: \
                        name it with --kernel"
                    .into(),
            );
        };
        let mut exports = Exports::default();
        for path in self.exports.iter().chain([&found]) {
            exports.add(&read(path)?).map_err(in_line(path))?;
        }
        known.set_exports(exports);
        Ok(())
    }

    /// Whether enough is known to find out what is to be converted.
    fn check_automatic(
        &self,
        kernel: Option<&Kernel<'_>>,
        known: &Known,
        useless: &str,
    ) -> Result<()> {
        let Some(kernel) = kernel else {
            return Err(format!(
                "{} does not say which kernel it is for: --auto needs --kernel",
                self.module.display()
            )
            .into());
        };
        let release = kernel.release();
        if !known.has_exports() {
            return Err(format!(
                "--auto needs the exported symbols of the kernel {release}, and there is no {}: \
                 install linux-headers-{release}, or name a build directory with --kernel",
                kernel.module_symvers().display()
            )
            .into());
        }
        if !known.knows("vmlinux") {
            return Err(format!(
                "--auto needs the symbols of the kernel {release}, and there are none here{useless}: \
                 run it on a machine that runs this kernel, install linux-image-{release}, or name a \
                 file with --kernel, --system-map or --vmlinux"
            )
            .into());
        }
        Ok(())
    }
}
