// SPDX-License-Identifier: GPL-2.0

//! Which objects a changed header, or a C file that others include, goes into.
//!
//! Only a kernel that was built here knows the files that each object was compiled from. For others
//! the lines `#include` of the whole source are read once and kept. They tell which objects can have
//! a file in them; compiling tells which of these do.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::Path,
};

use crate::{
    compile,
    error::{in_file, Refusal, Result, FULL_WAY},
    tree::Tree,
};

/// How many C files may include a header: so many objects are compiled in about two minutes.
const MOST: usize = 60;

/// How many files a refusal names.
const NAMED: usize = 5;

/// Directories whose files are in no kernel for 64-bit x86.
const ELSEWHERE: [&str; 5] = ["Documentation/", "samples/", "scripts/", "tools/", "usr/"];

/// Which file includes which: for the last component of a path, the files that include it, and as
/// what.
#[derive(Debug, Default)]
pub(crate) struct Includes(BTreeMap<String, Vec<(String, String)>>);

impl Includes {
    /// Reads the lines `#include` of a source, or what was kept of them.
    pub(crate) fn read(tree: &Tree, source: &Path) -> Result<Self> {
        let kept = tree.path("includes");
        let text = match fs::read_to_string(&kept) {
            Ok(text) => text,
            Err(_) => {
                let mut text = String::new();
                collect(source, source, &mut text)?;
                collect_elsewhere(source, &mut text)?;
                // Whole, or not at all: what is missing here is not compiled.
                let new = tree.path("includes.new");
                fs::write(&new, &text).map_err(in_file(&new))?;
                fs::rename(&new, &kept).map_err(in_file(&kept))?;
                text
            }
        };
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let mut includes = Self::default();
        for line in text.lines() {
            if let Some((file, included)) = line.split_once('\t') {
                let (_, name) = included.rsplit_once('/').unwrap_or(("", included));
                let files = includes.0.entry(name.into()).or_default();
                files.push((file.into(), included.into()));
            }
        }
        includes
    }

    /// The files of C and assembly that include a file, directly or through others, in a source that
    /// has the files that `exists` tells.
    pub(crate) fn users(&self, file: &str, exists: &dyn Fn(&str) -> bool) -> Users {
        let mut users = Users::default();
        let mut seen = BTreeSet::from([file.to_owned()]);
        let mut next = vec![file.to_owned()];
        while let Some(file) = next.pop() {
            let (_, name) = file.rsplit_once('/').unwrap_or(("", &file));
            for (user, included) in self.0.get(name).into_iter().flatten() {
                if !means(user, included, &file, exists) || !seen.insert(user.clone()) {
                    continue;
                }
                if user.ends_with(".S") {
                    users.assembly.insert(user.clone());
                } else if user.ends_with(".c") && !is_elsewhere(user) {
                    users.c.insert(user.clone());
                }
                next.push(user.clone());
            }
        }
        users
    }
}

/// The files that include another one.
#[derive(Debug, Default)]
pub(crate) struct Users {
    pub(crate) c: BTreeSet<String>,
    pub(crate) assembly: BTreeSet<String>,
}

/// Whether `#include` of `included` in `user` can mean `file`.
fn means(user: &str, included: &str, file: &str, exists: &dyn Fn(&str) -> bool) -> bool {
    // The compiler looks into the own directory first. Headers of the kernel as a whole, which are
    // included by their whole path, need not be looked for there.
    let own = beside(user, included);
    if own == file {
        return true;
    }
    // The build system generates headers that only include the generic one of that name.
    let asm = included.strip_prefix("uapi/").unwrap_or(included);
    if let (Some(name), Some(generic)) = (asm.strip_prefix("asm/"), generic_name(file)) {
        return name == generic;
    }
    if !file.starts_with("include/") && exists(&own) {
        return false;
    }
    // With directories, the end of the path must be the same; without, it can be the own directory,
    // or one that the compiler is told to look into.
    let plain = included.trim_start_matches("../").trim_start_matches("./");
    let suffix = format!("/{plain}");
    if !format!("/{file}").ends_with(&suffix) {
        return false;
    }
    // Headers of the kernel as a whole are included by their whole path below include.
    if let Some(path) = file.strip_prefix("include/") {
        let short = path.strip_prefix("uapi/").unwrap_or(path);
        return path == plain || short == plain || user.starts_with("include/");
    }
    true
}

/// The name of a header that architectures without one of their own have.
fn generic_name(file: &str) -> Option<&str> {
    let path = file.strip_prefix("include/")?;
    let path = path.strip_prefix("uapi/").unwrap_or(path);
    path.strip_prefix("asm-generic/")
}

/// The path of what `#include` of `included` in `user` means, if it is beside it.
fn beside(user: &str, included: &str) -> String {
    compile::plain(&match user.rsplit_once('/') {
        Some((directory, _)) => format!("{directory}/{included}"),
        None => included.into(),
    })
}

fn collect(source: &Path, directory: &Path, text: &mut String) -> Result<()> {
    for entry in fs::read_dir(directory).map_err(in_file(directory))? {
        let path = entry.map_err(in_file(directory))?.path();
        let Some(name) = path.strip_prefix(source).ok().and_then(Path::to_str) else {
            continue;
        };
        if is_elsewhere(name) || path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            collect(source, &path, text)?;
        } else if [".c", ".h", ".S"].iter().any(|end| name.ends_with(end)) {
            collect_lines(&path, name, text)?;
        }
    }
    Ok(())
}

/// The lines of a file, by its path in the source.
fn collect_lines(path: &Path, name: &str, text: &mut String) -> Result<()> {
    let contents = fs::read(path).map_err(in_file(path))?;
    for line in contents.split(|byte| *byte == b'\n') {
        if let Some(included) = included(line) {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name}\t{included}");
        }
    }
    Ok(())
}

/// The lines of files that the kernel shares with its tools, and includes from there.
fn collect_elsewhere(source: &Path, text: &mut String) -> Result<()> {
    let mut done = BTreeSet::new();
    loop {
        let shared = |line: &str| {
            let (user, included) = line.split_once('\t')?;
            let path = beside(user, included);
            let is_new = included.contains('/') && is_elsewhere(&path) && !done.contains(&path);
            (is_new && source.join(&path).is_file()).then_some(path)
        };
        let new: BTreeSet<_> = text.lines().filter_map(shared).collect();
        if new.is_empty() {
            return Ok(());
        }
        for path in new {
            collect_lines(&source.join(&path), &path, text)?;
            done.insert(path);
        }
    }
}

/// Whether nothing below a path of the source goes into a kernel for 64-bit x86.
pub(crate) fn is_elsewhere(path: &str) -> bool {
    let architecture = path.strip_prefix("arch/");
    architecture.is_some_and(|rest| !rest.starts_with("x86"))
        || ELSEWHERE
            .iter()
            .any(|there| format!("{path}/").starts_with(there))
}

/// What a line includes.
fn included(line: &[u8]) -> Option<String> {
    let line = line
        .trim_ascii_start()
        .strip_prefix(b"#")?
        .trim_ascii_start();
    let rest = line.strip_prefix(b"include")?.trim_ascii_start();
    let (open, rest) = rest.split_first()?;
    let close = match open {
        b'"' => b'"',
        b'<' => b'>',
        _ => return None,
    };
    let end = rest.iter().position(|byte| *byte == close)?;
    Some(String::from_utf8_lossy(&rest[..end]).into_owned())
}

/// Refuses a header that too many files include.
pub(crate) fn too_many(header: &str, users: &BTreeSet<String>) -> Option<Refusal> {
    if users.len() <= MOST {
        return None;
    }
    let named: Vec<_> = users.iter().take(NAMED).map(String::as_str).collect();
    Some(Refusal::new(
        header,
        format!(
            "{} files include it: {} and {} more",
            users.len(),
            named.join(", "),
            users.len() - NAMED
        ),
        &format!(
            "each object that a header goes into would have to be compiled and compared, and this is \
             done for {MOST} files at most"
        ),
        &format!(
            "put the change into the C files that need it, where a changed inline function becomes a \
             new one; or {FULL_WAY}"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "fs/a.c\tinternal.h\n\
                         fs/proc/b.c\tinternal.h\n\
                         fs/proc/c.c\t../internal.h\n\
                         fs/internal.h\tlinux/few.h\n\
                         kernel/d.c\tlinux/few.h\n\
                         kernel/e.c\tother/few.h\n";

    fn users(lines: &str, file: &str, there: &[&str]) -> Vec<String> {
        let users = Includes::parse(lines).users(file, &|path| there.contains(&path));
        Vec::from_iter(users.c)
    }

    #[test]
    fn users_of_a_header() {
        // Which internal.h a file finds can depend on the compiler's options.
        let all = ["fs/a.c", "fs/proc/b.c", "fs/proc/c.c"];
        assert_eq!(users(LINES, "fs/internal.h", &[]), all);
        // One in the own directory is found first.
        let there = ["fs/internal.h", "fs/proc/internal.h"];
        assert_eq!(
            users(LINES, "fs/internal.h", &there),
            ["fs/a.c", "fs/proc/c.c"]
        );
        assert_eq!(users(LINES, "fs/proc/internal.h", &there), ["fs/proc/b.c"]);

        let few = users(LINES, "include/linux/few.h", &there);
        assert_eq!(few, ["fs/a.c", "fs/proc/c.c", "kernel/d.c"]);
        assert!(users(LINES, "fs/none.h", &there).is_empty());
    }

    #[test]
    fn generated_wrappers() {
        let lines = "kernel/d.c\tasm/few.h\nkernel/e.c\tasm/other.h\n";
        for file in [
            "include/asm-generic/few.h",
            "include/uapi/asm-generic/few.h",
        ] {
            assert_eq!(users(lines, file, &[]), ["kernel/d.c"]);
        }
    }

    #[test]
    fn headers_for_programs() {
        let lines = "fs/a.c\tlinux/few.h\nfs/b.c\tuapi/linux/few.h\nfs/c.c\tlinux/other.h\n";
        let users = users(lines, "include/uapi/linux/few.h", &[]);
        assert_eq!(users, ["fs/a.c", "fs/b.c"]);
    }

    #[test]
    fn assembly_is_not_compared() {
        let lines = "x/a.c\tasm/few.h\nx/b.S\tasm/few.h\n";
        let users = Includes::parse(lines).users("arch/x86/include/asm/few.h", &|_| false);
        assert_eq!(Vec::from_iter(users.c), ["x/a.c"]);
        assert_eq!(Vec::from_iter(users.assembly), ["x/b.S"]);
    }

    #[test]
    fn files_that_the_kernel_shares_with_its_tools() {
        let source = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("kernel/a.c", "#include \"../tools/lib/b.c\"\n"),
            ("tools/lib/b.c", "#include \"../more/c.h\"\n"),
            ("tools/more/c.h", "#include <linux/few.h>\n"),
            ("tools/lib/d.c", "#include <linux/few.h>\n"),
        ] {
            let path = source.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let mut text = String::new();
        collect(source.path(), source.path(), &mut text).unwrap();
        collect_elsewhere(source.path(), &mut text).unwrap();
        let exists = |path: &str| source.path().join(path).is_file();
        let users = Includes::parse(&text).users("include/linux/few.h", &exists);
        assert_eq!(Vec::from_iter(users.c), ["kernel/a.c"]);
    }

    #[test]
    fn circles_end() {
        let lines = "x/a.h\tb.h\nx/b.h\ta.h\nx/c.c\ta.h\n";
        assert_eq!(users(lines, "x/b.h", &[]), ["x/c.c"]);
    }

    #[test]
    fn lines_that_include() {
        assert_eq!(included(b"#include <a/b.h>").unwrap(), "a/b.h");
        assert_eq!(included(b" # include \"b.h\" /* x */").unwrap(), "b.h");
        assert_eq!(included(b"#include HEADER"), None);
        assert_eq!(included(b"int include;"), None);
    }

    #[test]
    fn too_many_users() {
        let users = |count: usize| (0..count).map(|number| format!("{number:03}.c")).collect();
        assert_eq!(too_many("x.h", &users(MOST)), None);
        let refusal = too_many("x.h", &users(MOST + 1)).unwrap();
        assert_eq!(
            refusal.what,
            "61 files include it: 000.c, 001.c, 002.c, 003.c, 004.c and 56 more"
        );
    }
}
