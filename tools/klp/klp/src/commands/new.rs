// SPDX-License-Identifier: GPL-2.0

//! `klp new`: starts a live patch in a directory of its own.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::ExitCode,
};

use clap::Args;
use serde_json::json;

use super::{message, print, Result};
use crate::context::Context;

/// The longest name of a module (`MODULE_NAME_LEN` without the final NUL).
const NAME_LENGTH: usize = 55;
/// The longest name of a function (`KSYM_NAME_LEN` without the final NUL).
const FUNCTION_LENGTH: usize = 511;

/// Start a live patch: a directory with a module, a Makefile, a test, and a README that says how to
/// go on.
///
/// Without --function, it is a complete patch of what /proc/cmdline shows, to be tried and changed.
#[derive(Args)]
pub struct Arguments {
    /// Write the patch in C, which is also what is done without this.
    #[arg(long, conflicts_with = "rust")]
    c: bool,

    /// Write the patch in Rust, with the crate klp.
    #[arg(long)]
    rust: bool,

    /// The module that has the function; without it, vmlinux has.
    #[arg(long, value_name = "MODULE", requires = "function")]
    target: Option<String>,

    /// The function to be patched.
    #[arg(long, value_name = "NAME")]
    function: Option<String>,

    /// The name of the patch, of its module, and of the directory.
    name: String,
}

/// What takes the place of `@KEY@` in the templates.
type Values<'a> = [(&'a str, String)];

/// Starts a patch.
pub fn run(arguments: &Arguments, context: &Context) -> Result {
    let name = &arguments.name;
    check_name(name)?;
    if let Some(function) = &arguments.function {
        check_function(function)?;
    }
    if let Some(target) = &arguments.target {
        check_target(target)?;
    }

    let files = arguments.files();
    let directory = Path::new(name);
    fs::create_dir(directory).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            format!("{name} exists already: take another name, or remove it")
        }
        _ => format!("{name}: {error}"),
    })?;
    if let Err(error) = write(directory, &files) {
        // The first error is the one to report.
        let _ = fs::remove_dir_all(directory);
        return Err(format!("{name}: {error}").into());
    }

    let paths: Vec<_> = files
        .iter()
        .map(|(file, _)| format!("{name}/{file}"))
        .collect();
    if context.json {
        let answer = json!({
            "schema": "klp/1",
            "command": "new",
            "directory": name,
            "files": paths,
        });
        print(&format!("{answer}\n"))?;
    } else {
        print(&format!("{}\n", paths.join("\n")))?;
        message(format_args!("klp: {name}/README.md says how to go on"));
    }
    Ok(ExitCode::SUCCESS)
}

fn write(directory: &Path, files: &[(String, String)]) -> io::Result<()> {
    for (file, contents) in files {
        let path = directory.join(file);
        fs::write(&path, contents)?;
        if contents.starts_with("#!") {
            let mut permissions = fs::metadata(&path)?.permissions();
            // For everybody who may read it.
            permissions.set_mode(permissions.mode() | (permissions.mode() & 0o444) >> 2);
            fs::set_permissions(&path, permissions)?;
        }
    }
    Ok(())
}

impl Arguments {
    /// The files of the patch, by their names.
    fn files(&self) -> Vec<(String, String)> {
        let values = self.values();
        let source = format!("{}.{}", self.name, if self.rust { "rs" } else { "c" });
        let kbuild = match self.rust {
            true => include_str!("../../../templates/Kbuild-rust.in"),
            false => include_str!("../../../templates/Kbuild.in"),
        };
        let patch = match self.rust {
            true => include_str!("../../../templates/patch.rs.in"),
            false => include_str!("../../../templates/patch.c.in"),
        };
        [
            (
                ".gitignore",
                include_str!("../../../templates/gitignore.in"),
            ),
            ("Kbuild", kbuild),
            ("Makefile", include_str!("../../../templates/Makefile.in")),
            ("README.md", include_str!("../../../templates/README.md.in")),
            (source.as_str(), patch),
            ("test.sh", include_str!("../../../templates/test.sh.in")),
        ]
        .map(|(file, template)| (file.into(), fill_in(template, &values)))
        .into()
    }

    fn values(&self) -> Vec<(&'static str, String)> {
        let Self { name, rust, .. } = self;
        let id = identifier(name);
        let object = identifier(self.target.as_deref().unwrap_or("vmlinux"));
        let patched = format!("/sys/kernel/livepatch/{id}/{object}/patched");
        let language = if *rust { "--rust" } else { "--c" };

        let replacement = match (&self.function, rust) {
            (None, false) => include_str!("../../../templates/example.c.in"),
            (None, true) => include_str!("../../../templates/example.rs.in"),
            (Some(_), false) => include_str!("../../../templates/function.c.in"),
            (Some(_), true) => include_str!("../../../templates/function.rs.in"),
        };
        let mut arguments = format!("{language} {name}");
        let (function, description, unexported, check, look);
        if let Some(wanted) = &self.function {
            arguments += &format!(" --function {wanted}");
            if let Some(target) = &self.target {
                arguments += &format!(" --target {target}");
            }
            function = wanted.as_str();
            description = format!("Live patch of {wanted}() in {object}");
            unexported = "";
            check = format!(
                "# Better is a check of what the patch changes.\n\
                 in_effect() {{ [ \"$(cat {patched} 2>/dev/null)\" = 1 ]; }}"
            );
            look = format!("cat {patched}");
        } else {
            function = "cmdline_proc_show";
            description = "Live patch of /proc/cmdline".into();
            unexported = " vmlinux:saved_command_line";
            check = "in_effect() { grep -q ' live-patched$' /proc/cmdline; }".into();
            look = "cat /proc/cmdline".into();
        }
        let kdir = match rust {
            false => include_str!("../../../templates/kdir.in"),
            true => include_str!("../../../templates/kdir-rust.in"),
        };
        let of_rust = |text: &str| if *rust { text.into() } else { String::new() };
        vec![
            // First, since the others are in it.
            ("REPLACEMENT", replacement.into()),
            ("ARGUMENTS", arguments),
            ("CHECK", check),
            ("KDIR_VARIABLE", kdir.trim_end().into()),
            (
                "CHECK_KDIR",
                of_rust(include_str!("../../../templates/check-kdir-rust.in")),
            ),
            ("DESCRIPTION", description),
            ("FUNCTION", function.into()),
            ("ID", id),
            ("NAME", name.clone()),
            (
                "NEEDS_RUST",
                of_rust(
                    ", Rust as the kernel was built with, bindgen, and for Debian's kernels the \
                     package `livepatch-dkms`",
                ),
            ),
            (
                "OBJECT_NAME",
                match object.as_str() {
                    "vmlinux" => String::new(),
                    module => format!(".name = \"{module}\", "),
                },
            ),
            (
                "RUST_OBJECT",
                match object.as_str() {
                    "vmlinux" => object.clone(),
                    module => format!("module \"{module}\""),
                },
            ),
            (
                "SOURCE",
                format!("{name}.{}", if *rust { "rs" } else { "c" }),
            ),
            ("TRY", look),
            ("UNEXPORTED", unexported.into()),
        ]
    }
}

fn fill_in(template: &str, values: &Values<'_>) -> String {
    let mut text = template.to_owned();
    for (key, value) in values {
        text = text.replace(&format!("@{key}@"), value);
    }
    text
}

/// What kbuild makes of a module's name.
fn identifier(name: &str) -> String {
    name.replace('-', "_")
}

fn is_identifier(text: &str) -> bool {
    let valid = |char: char| char.is_ascii_alphanumeric() || char == '_';
    text.chars().all(valid) && text.starts_with(|char: char| !char.is_ascii_digit())
}

fn check_name(name: &str) -> Result<()> {
    let id = identifier(name);
    if !is_identifier(&id) || name.starts_with('-') {
        return Err(format!(
            "'{}' is no name for a module: take letters, digits, - and _, and no digit first",
            name.escape_default()
        )
        .into());
    }
    if name.len() > NAME_LENGTH {
        let length = name.len();
        return Err(format!(
            "the name has {length} characters, and that of a module at most {NAME_LENGTH}: \
             take a shorter one"
        )
        .into());
    }
    if ["livepatch", "vmlinux"].contains(&id.as_str()) {
        return Err(format!(
            "{name} is the name of a part of the kernel, so no patch can have it: take another one"
        )
        .into());
    }
    Ok(())
}

fn check_function(function: &str) -> Result<()> {
    if is_identifier(function) && function.len() <= FUNCTION_LENGTH {
        return Ok(());
    }
    Err(format!("'{}' is no name of a function", function.escape_default()).into())
}

fn check_target(target: &str) -> Result<()> {
    let valid = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-');
    if !target.is_empty() && target.len() <= NAME_LENGTH && target.chars().all(valid) {
        return Ok(());
    }
    Err(format!(
        "'{}' is no name of a module: take it from /proc/modules",
        target.escape_default()
    )
    .into())
}
