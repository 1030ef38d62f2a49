// SPDX-License-Identifier: GPL-2.0

//! Compiling objects: as the kernel's build system does, and by the same commands with a section for
//! each function and variable.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicUsize, Ordering},
        Mutex, PoisonError,
    },
    thread,
};

use crate::{
    configured::Configured,
    elf::File,
    error::{in_file, Refusal, Result, FULL_WAY},
    kernel::Kernel,
    tools::Tools,
};

/// What the kernel's klp-build adds, so that each function and variable can be taken by itself, and
/// debugging information for the modules `layout` and `statics`, which changes no code.
const ADDED: &str = "-ffunction-sections -fdata-sections -g";

/// Options with which debugging information lacks structures, is elsewhere, or is packed.
const LEFT_OUT: [&str; 3] = ["-femit-struct-debug-baseonly", "-gsplit-dwarf", "-gz"];

/// What an object is linked into.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// The kernel itself.
    Vmlinux,
    /// A module, by its path in the build directory without the suffix.
    Module(String),
}

/// An object that the kernel's build system has compiled.
#[derive(Debug)]
pub(crate) struct Object {
    /// Its path in the build directory, such as `fs/proc/cmdline.o`.
    pub(crate) path: String,
    pub(crate) owner: Owner,
    command: String,
    /// The files of the source that it was compiled from.
    sources: BTreeSet<String>,
}

impl Object {
    /// Reads what the build system has written down about an object.
    fn read(kernel: &Kernel, configured: &mut Configured<'_>, path: &str) -> Result<Self> {
        let file = kernel.build.join(command_file(path));
        let text = fs::read_to_string(&file).map_err(in_file(&file))?;
        let (mut object, module) = Self::parse(kernel, path, &text)
            .ok_or_else(|| format!("{}: not the command of a compiler", file.display()))?;
        if let Some(name) = module {
            let module = configured.module(path, &name)?.ok_or_else(|| {
                Refusal::new(
                    path,
                    "it is linked into several modules",
                    "a changed object belongs to one module, which is compared as a whole",
                    FULL_WAY,
                )
            })?;
            object.owner = Owner::Module(module);
        }
        Ok(object)
    }

    /// An object as if it were of the kernel itself, and the name of the module that it is of.
    fn parse(kernel: &Kernel, path: &str, text: &str) -> Option<(Self, Option<String>)> {
        let command = text.lines().next()?.split_once(":= ")?.1;
        // What follows works on the finished object.
        let command = unescape(command.split(" ; ").next()?.trim());
        let name = command
            .split_once("-DKBUILD_MODNAME='\"")
            .and_then(|(_, rest)| rest.split_once('"'))
            .map(|(name, _)| name.into());
        let is_module = command.split(' ').any(|word| word == "-DMODULE");
        let prefix = format!("{}/", kernel.source.display());
        let sources = text
            .split_ascii_whitespace()
            .filter_map(|word| word.strip_prefix(&prefix))
            .map(plain)
            .collect();
        let object = Self {
            path: path.into(),
            owner: Owner::Vmlinux,
            command,
            sources,
        };
        match (is_module, name) {
            (false, _) => Some((object, None)),
            (true, Some(name)) => Some((object, Some(name))),
            (true, None) => None,
        }
    }

    /// Whether a file of the source was compiled into it.
    pub(crate) fn is_from(&self, file: &str) -> bool {
        self.sources.contains(file)
    }

    /// The command that compiles it into `output`, with a section for each function and variable,
    /// and from another tree of the source if one is given.
    fn command(&self, kernel: &Kernel, output: &Path, source: Option<&Path>) -> String {
        let words = self.command.split(' ');
        let left_out = |word: &str| {
            let option = word.split_once('=').map_or(word, |(option, _)| option);
            word.starts_with("-Wp,-MMD,") || LEFT_OUT.contains(&option)
        };
        let command: Vec<_> = words.filter(|word| !left_out(word)).collect();
        let mut command = command.join(" ").replace(
            &format!(" -o {} ", self.path),
            &format!(" {ADDED} -o '{}' ", output.display()),
        );
        if let Some(source) = source {
            command = command.replace(
                &kernel.source.display().to_string(),
                &source.display().to_string(),
            );
        }
        command
    }
}

/// A path without `.` and `..`: the compiler names files as they are included.
pub(crate) fn plain(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "." => (),
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// A command as the shell gets it, which is written down so that make reads it.
fn unescape(command: &str) -> String {
    let dollars = command.split("$$");
    let parts: Vec<_> = dollars.map(|part| part.replace("$(pound)", "#")).collect();
    parts.join("$")
}

/// Where the build system keeps the command of an object.
fn command_file(path: &str) -> String {
    match path.rsplit_once('/') {
        Some((directory, name)) => format!("{directory}/.{name}.cmd"),
        None => format!(".{path}.cmd"),
    }
}

/// The words of a command that come before its options, and call the compiler, if it compiles C.
fn compiler(text: &str) -> Option<&str> {
    let mut sources = text.lines().filter(|line| line.starts_with("source_"));
    if !sources.any(|line| line.ends_with(".c")) {
        return None;
    }
    let command = text.lines().next()?.split_once(":= ")?.1;
    let options = command.find(" -")?;
    Some(&command[..options])
}

/// What a compiler calls itself in what it compiles.
fn identity(tools: &Tools, kernel: &Kernel, compiler: &str) -> Result<String> {
    let mut command = tools.program(&kernel.build, "sh");
    command.args(["-c", &format!("{compiler} -S -x c -o - /dev/null")]);
    let output = tools.run("asking for the compiler's version", &mut command)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let identity = lines.find_map(|line| line.trim().strip_prefix(".ident"));
    Ok(identity.unwrap_or_default().trim().trim_matches('"').into())
}

/// What the compilers of an object call themselves.
fn identities(object: &[u8]) -> Result<BTreeSet<String>> {
    let file = File::parse(object)?;
    let comment = file
        .section(".comment")
        .map_or(&[][..], |section| section.data);
    let texts = comment.split(|byte| *byte == 0);
    let texts = texts.filter(|text| !text.is_empty());
    Ok(texts
        .map(|text| String::from_utf8_lossy(text).into())
        .collect())
}

/// Takes away objects of an earlier build that another compiler has made than the one that their
/// commands call now, and what was `linked` of such ones: the build system does not look for that,
/// as it goes by the name and version that it was configured with. They would be those of the
/// kernel, and what is compiled now would not.
fn remove_outdated(
    tools: &Tools,
    kernel: &Kernel,
    objects: &[String],
    linked: Option<&str>,
) -> Result<()> {
    let mut known = BTreeMap::new();
    for path in objects {
        let Ok(text) = fs::read_to_string(kernel.build.join(command_file(path))) else {
            continue;
        };
        let Some(compiler) = compiler(&text) else {
            continue;
        };
        // One that is not there any more cannot be asked, and has to be another one now.
        let now = known
            .entry(compiler.to_owned())
            .or_insert_with(|| identity(tools, kernel, compiler).ok());
        remove_unless(&kernel.build.join(path), |made_by| {
            made_by.len() == 1 && made_by.first() == now.as_ref()
        })?;
    }
    let now: BTreeSet<_> = known.into_values().flatten().collect();
    if let Some(linked) = linked {
        remove_unless(&kernel.build.join(linked), |made_by| {
            made_by.is_subset(&now)
        })?;
    }
    Ok(())
}

/// Takes an object away, if it is there, unless it was made by the right compilers.
fn remove_unless(path: &Path, right: impl Fn(&BTreeSet<String>) -> bool) -> Result<()> {
    match fs::read(path) {
        Ok(object) if right(&identities(&object)?) => Ok(()),
        Ok(_) => fs::remove_file(path).map_err(in_file(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(in_file(path)(error)),
    }
}

/// Lets the kernel's build system compile objects, with what they need.
///
/// # Errors
///
/// One of them cannot be compiled.
pub(crate) fn kbuild(
    tools: &Tools,
    kernel: &Kernel,
    configured: &mut Configured<'_>,
    objects: &[String],
) -> Result<Vec<Object>> {
    remove_outdated(tools, kernel, objects, None)?;
    let missing = |path: &String| {
        !kernel.build.join(path).is_file() || !kernel.build.join(command_file(path)).is_file()
    };
    if objects.iter().any(missing) {
        let step = "compiling the original source";
        let (mut alone, mut together) = (Vec::new(), Vec::new());
        for object in objects {
            match configured.is_in_two_directories(object)? {
                true => alone.push(object.clone()),
                false => together.push(object.clone()),
            }
        }
        build(tools, kernel, step, &together, jobs())?;
        build(tools, kernel, step, &alone, 1)?;
    }
    let objects = objects.iter();
    objects
        .map(|path| Object::read(kernel, configured, path))
        .collect()
}

/// Lets the kernel's build system make files in its build directory, so many at once.
fn build(tools: &Tools, kernel: &Kernel, what: &str, files: &[String], jobs: usize) -> Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    let mut command = tools.script("kmake");
    command
        .args(["-s", "-j", &jobs.to_string()])
        .arg("-C")
        .arg(&kernel.source)
        .arg(format!("O={}", kernel.build.display()))
        .arg(format!("LOCALVERSION={}", kernel.local_version()?))
        .args(files);
    tools.run(what, &mut command)?;
    Ok(())
}

/// The objects of the module at this path, without suffix.
pub(crate) fn of_module(tools: &Tools, kernel: &Kernel, module: &str) -> Result<Vec<String>> {
    let object = format!("{module}.o");
    let list = kernel.build.join(format!("{module}.mod"));
    let members =
        |text: String| -> Vec<String> { text.split_ascii_whitespace().map(Into::into).collect() };
    if let Ok(text) = fs::read_to_string(&list) {
        remove_outdated(tools, kernel, &members(text), Some(&object))?;
    }
    if !list.is_file() || !kernel.build.join(&object).is_file() {
        let files = [object, format!("{module}.mod")];
        build(
            tools,
            kernel,
            &format!("compiling the module {module}"),
            &files,
            jobs(),
        )?;
    }
    Ok(members(fs::read_to_string(&list).map_err(in_file(&list))?))
}

/// How many compilers run at once.
pub(crate) fn jobs() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// What was compiled.
pub(crate) struct Compiled {
    /// The files by the objects' paths.
    pub(crate) files: BTreeMap<String, PathBuf>,
    /// What the compiler warned of.
    pub(crate) warnings: BTreeSet<String>,
}

/// Compiles objects with a section for each function and variable, into files below `output`, from
/// another tree of the source if one is given.
///
/// # Errors
///
/// The compiler's, of the first that fails.
pub(crate) fn with_sections(
    tools: &Tools,
    kernel: &Kernel,
    objects: &[&Object],
    output: &Path,
    source: Option<&Path>,
) -> Result<Compiled> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    let work = || {
        while let Some(object) = objects.get(next.fetch_add(1, Ordering::Relaxed)) {
            let file = output.join(&object.path);
            let result = compile(tools, kernel, object, &file, source);
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            results.push(result.map(|warnings| (object.path.clone(), file, warnings)));
        }
    };
    thread::scope(|scope| {
        for _ in 0..jobs().min(objects.len()) {
            scope.spawn(work);
        }
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut compiled = Compiled {
        files: BTreeMap::new(),
        warnings: BTreeSet::new(),
    };
    for result in results {
        let (path, file, warnings) = result?;
        compiled.files.insert(path, file);
        compiled.warnings.extend(warnings);
    }
    Ok(compiled)
}

/// Compiles an object. The result is what the compiler warned of.
fn compile(
    tools: &Tools,
    kernel: &Kernel,
    object: &Object,
    output: &Path,
    source: Option<&Path>,
) -> Result<Vec<String>> {
    if let Some(parent) = output.parent() {
        fs::create_dir_all(parent).map_err(in_file(parent))?;
    }
    let mut command = tools.program(&kernel.build, "sh");
    command.args(["-c", &object.command(kernel, output, source)]);
    let what = match source {
        Some(_) => format!("compiling {} with the patch", object.path),
        None => format!("compiling {}", object.path),
    };
    let said = tools.run(&what, &mut command)?.stderr;
    let source = source.unwrap_or(&kernel.source);
    Ok(warnings(&String::from_utf8_lossy(&said), source))
}

/// The warnings in what the compiler says, with paths in the source.
fn warnings(said: &str, source: &Path) -> Vec<String> {
    let prefix = format!("{}/", source.display());
    let warnings = said.lines().filter(|line| line.contains(": warning: "));
    warnings.map(|line| line.replace(&prefix, "")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str, flags: &str, more: &str) -> Option<(Object, Option<String>)> {
        let text = format!(
            "savedcmd_{path} := gcc -Wp,-MMD,x/.y.o.d -I/source/include {flags} -DX='\"$$(pound)\"' \
             -c -o {path} /source/x/y.c {more}\n\nsource_{path} := /source/x/y.c\n\n\
             deps_{path} := \\\n  /source/include/linux/a.h \\\n    $(wildcard include/config/A) \\\n"
        );
        let kernel = Kernel::of("");
        Object::parse(&kernel, path, &text)
    }

    #[test]
    fn modules() {
        let module = |flags| parse("x/y.o", flags, " ; objtool x/y.o").map(|(_, module)| module);
        assert_eq!(module("-DKBUILD_MODNAME='\"y\"'"), Some(None));
        let of_z = module("-DMODULE -DKBUILD_MODNAME='\"z\"'");
        assert_eq!(of_z, Some(Some("z".into())));
        assert_eq!(module("-DMODULE"), None);
    }

    #[test]
    fn sources() {
        let (object, _) = parse("x/y.o", "", "").unwrap();
        assert!(object.is_from("x/y.c") && object.is_from("include/linux/a.h"));
        assert!(!object.is_from("include/linux/b.h"));
        let (object, _) = parse("x/../z/y.o", "", "/source/x/../z/y.c").unwrap();
        assert!(object.is_from("z/y.c"));
    }

    #[test]
    fn warnings_of_the_compiler() {
        let said = "/tree/x/y.c: In function 'f':\n\
                    /tree/x/y.c:3:7: warning: unused variable 'a' [-Wunused-variable]\n\
                       3 |   int a;\n";
        assert_eq!(
            warnings(said, Path::new("/tree")),
            ["x/y.c:3:7: warning: unused variable 'a' [-Wunused-variable]"]
        );
    }

    #[test]
    fn commands() {
        let kernel = Kernel::of("");
        let (object, _) = parse("x/y.o", "-O2", " ; objtool x/y.o").unwrap();
        assert_eq!(
            object.command(&kernel, Path::new("/out/y.o"), None),
            "gcc -I/source/include -O2 -DX='\"$(pound)\"' -c -ffunction-sections -fdata-sections \
             -g -o '/out/y.o' /source/x/y.c"
        );
        let command = object.command(&kernel, Path::new("/out/y.o"), Some(Path::new("/patched")));
        assert!(command.contains("-I/patched/include") && command.ends_with(" /patched/x/y.c"));
    }

    /// A directory in which a script that stands in for the kernel's build system makes objects.
    fn project(directory: &Path) -> (Tools, Kernel) {
        let script = |name: &str, text: &str| {
            let path = directory.join("scripts").join(name);
            fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(&path, mode).unwrap();
        };
        for name in ["scripts", "source/arch/x86", "build/x"] {
            fs::create_dir_all(directory.join(name)).unwrap();
        }
        script("kernel", "");
        script("toolchain", "exec \"$@\"");
        let make =
            "cd \"${0%/*}/../build\" && echo \"$*\" >>made && gcc -c -x c -o x/y.o /dev/null\n\
                    gcc -c -x c -o x/z.o /dev/null && echo x/y.o >x/z.mod";
        script("kmake", make);
        fs::write(directory.join("source/arch/x86/Makefile"), "").unwrap();
        let makefile = "VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 4\n";
        fs::write(directory.join("source/Makefile"), makefile).unwrap();
        let command = "savedcmd_x/y.o := gcc -O2 -c -o x/y.o y.c\n\nsource_x/y.o := y.c\n";
        fs::write(directory.join("build/x/.y.o.cmd"), command).unwrap();
        let mut kernel = Kernel::of("");
        kernel.build = directory.join("build");
        kernel.source = directory.join("source");
        (Tools::new(directory, None).unwrap(), kernel)
    }

    #[test]
    fn objects_of_another_compiler() {
        let directory = tempfile::tempdir().unwrap();
        let (tools, kernel) = project(directory.path());
        let objects = ["x/y.o".to_owned()];
        let made = || {
            let mut configured = Configured::new(&tools, &kernel, directory.path());
            kbuild(&tools, &kernel, &mut configured, &objects).unwrap();
            of_module(&tools, &kernel, "x/z").unwrap();
            let made = fs::read_to_string(kernel.build.join("made")).unwrap_or_default();
            made.lines().count()
        };
        assert_eq!(made(), 1);
        assert_eq!(made(), 1);
        let other = ".text\n.ident \"GCC: (Debian 1.0) 1.0\"\n";
        let nameless = ".text\n";
        for (path, text, times) in [
            ("x/y.o", other, 2),
            ("x/z.o", other, 3),
            ("x/y.o", nameless, 4),
        ] {
            let source = directory.path().join("other.s");
            fs::write(&source, text).unwrap();
            let mut compiler = std::process::Command::new("gcc");
            compiler.args(["-c", "-o"]).arg(kernel.build.join(path));
            assert!(compiler.arg(&source).status().unwrap().success());
            assert_eq!(made(), times, "{path}");
            assert_eq!(made(), times, "{path}");
        }
    }

    #[test]
    fn debugging_information_of_commands() {
        let kernel = Kernel::of("");
        for flags in [
            "-g0",
            "-g -gsplit-dwarf",
            "-femit-struct-debug-baseonly",
            "-gz=zlib",
            "-gz",
        ] {
            let source = tempfile::Builder::new().suffix(".c").tempfile().unwrap();
            fs::write(&source, "struct s { int member; } s;").unwrap();
            let (object, _) = parse("x/y.o", flags, "").unwrap();
            let output = source.path().with_extension("o");
            let command = object.command(&kernel, &output, None);
            let command = command.replace("/source/x/y.c", &source.path().display().to_string());
            let mut shell = std::process::Command::new("sh");
            assert!(shell.args(["-c", &command]).status().unwrap().success());
            let data = fs::read(&output).unwrap();
            fs::remove_file(&output).unwrap();
            let structures = crate::layout::with_member(&data, "member").unwrap();
            assert_eq!(structures, ["struct s"], "{flags}");
        }
    }

    #[test]
    fn compilers_of_commands() {
        let text = |command: &str, source: &str| {
            format!("savedcmd_x.o := {command}\n\nsource_x.o := /source/{source}\n")
        };
        let gcc = text("ccache gcc-14 -Wp,-MMD,.x.o.d -c -o x.o", "x.c");
        assert_eq!(compiler(&gcc), Some("ccache gcc-14"));
        assert_eq!(compiler(&text("gcc-14 -c -o x.o", "x.S")), None);
        assert_eq!(compiler("savedcmd_x.o := ld -r -o x.o @x.mod\n"), None);
    }

    #[test]
    fn files_of_commands() {
        assert_eq!(command_file("x/y/z.o"), "x/y/.z.o.cmd");
        assert_eq!(command_file("z.o"), ".z.o.cmd");
    }
}
