// SPDX-License-Identifier: GPL-2.0

//! Patches of the kernel's source: what they touch, and what the source is with them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::{
    error::{in_file, refuse, Refusal, Result, FULL_WAY},
    kernel::Kernel,
    tools::Tools,
};

/// The source files that patches change, before and after.
pub(crate) struct Patched {
    /// Their paths in the source, in order.
    pub(crate) files: Vec<String>,
    /// The directory that has them as they are with the patches, with the line numbers of before.
    pub(crate) directory: PathBuf,
    /// What all patches change, as one patch.
    pub(crate) diff: String,
}

/// The paths of the files that a patch changes, without their first component.
///
/// # Errors
///
/// The patch adds, removes or renames a file.
pub(crate) fn paths(name: &str, patch: &str) -> Result<BTreeSet<String>> {
    let mut paths = BTreeSet::new();
    let mut lines = patch.lines().peekable();
    while let Some(line) = lines.next() {
        let (Some(old), Some(new)) = (
            line.strip_prefix("--- "),
            lines.peek().and_then(|next| next.strip_prefix("+++ ")),
        ) else {
            continue;
        };
        match (path(old), path(new)) {
            (Some(old), Some(new)) if old == new => {
                // Nothing outside the copies of the source may be touched.
                if !new.split('/').all(is_plain) {
                    return Err(format!("{name}: {new} is no path of a file in the source").into());
                }
                paths.insert(new)
            }
            (old, new) => {
                return Err(Refusal::new(
                    new.or(old).unwrap_or_else(|| name.into()),
                    "it is added, removed or renamed",
                    "only the objects of files that are there are compiled and compared, and none \
                     has to be put into a Makefile",
                    &format!(
                        "put new functions into a file that the patch changes anyway, or {FULL_WAY}"
                    ),
                )
                .into())
            }
        };
    }
    if paths.is_empty() {
        return Err(format!("{name}: no patch: it changes no file").into());
    }
    Ok(paths)
}

/// Whether a component of a path is a name.
fn is_plain(component: &str) -> bool {
    !matches!(component, "" | "." | "..")
}

/// The path in a header line; none for a file that is not there.
fn path(header: &str) -> Option<String> {
    // diff appends a time after a tab.
    let path = header.split('\t').next().unwrap_or_default().trim_end();
    if path == "/dev/null" {
        return None;
    }
    let (_, path) = path.split_once('/')?;
    Some(path.into())
}

/// Why a vDSO cannot be patched.
const VDSO: &str = "processes run this code in user space, where the kernel cannot intercept it";

/// Whether a file goes into a vDSO, or is beside those that do.
pub(crate) fn is_in_vdso(path: &str) -> bool {
    path.contains("/vdso/")
}

/// Refuses a file that another one includes, which goes into a vDSO.
pub(crate) fn also_in_vdso(path: &str, user: &str) -> Refusal {
    Refusal::new(
        path,
        format!("it goes into a vDSO: {user} includes it"),
        VDSO,
        "put the change into the C files of the kernel that need it, or a new kernel and a reboot",
    )
}

/// The rule that forbids to change a file at all, if there is one.
pub(crate) fn forbidden(path: &str) -> Option<Refusal> {
    let refusal = |what, rule, way_out| Some(Refusal::new(path, what, rule, way_out));
    if path.ends_with(".S") {
        refusal(
            "it is assembly",
            "functions in assembly are not traceable, and are not in sections of their own",
            "patch the C functions that call it",
        )
    } else if path.starts_with("lib/") {
        refusal(
            "it is in lib/",
            "live patching itself and the code that it interrupts use functions of lib/, some \
             before the kernel can trace; the kernel's klp-build refuses them as well",
            "patch the callers, or write the patch by hand if the function is traceable (klp new)",
        )
    } else if is_in_vdso(path) {
        refusal("it is in a vDSO", VDSO, "a new kernel and a reboot")
    } else if path.contains("/realmode/rm/") || path.starts_with("arch/x86/boot/") {
        refusal(
            "it only runs while a processor starts",
            "this code is not part of the kernel that runs",
            "a new kernel and a reboot",
        )
    } else if path.ends_with(".rs") {
        refusal(
            "it is Rust",
            "the kernel's functions in Rust are not traceable",
            "patch the C functions that call them",
        )
    } else if !path.ends_with(".c") && !path.ends_with(".h") {
        refusal(
            "it is neither C nor a header",
            "a change of how the kernel is built cannot be told from the objects alone",
            "a new kernel and a reboot",
        )
    } else {
        None
    }
}

/// Applies patches to copies of the files that they change, in the directory `work`, and notes what
/// is not at its place.
///
/// # Errors
///
/// A patch touches what cannot be patched, or does not apply.
pub(crate) fn apply(
    tools: &Tools,
    kernel: &Kernel,
    patches: &[PathBuf],
    work: &Path,
    note: &dyn Fn(&str),
) -> Result<Patched> {
    let mut files = BTreeSet::new();
    let mut refusals = Vec::new();
    for patch in patches {
        let text = fs::read(patch).map_err(in_file(patch))?;
        let text = String::from_utf8_lossy(&text);
        files.extend(paths(&patch.display().to_string(), &text)?);
    }
    for file in &files {
        refusals.extend(forbidden(file));
    }
    refuse(refusals)?;
    for side in ["a", "b", "patched"] {
        for file in &files {
            copy(&kernel.source, file, &work.join(side))?;
        }
    }
    for patch in patches {
        let patch = patch.canonicalize().map_err(in_file(patch))?;
        let mut command = tools.program(&work.join("b"), "patch");
        // No fuzz: what does not fit exactly is for a person to look at.
        command.args([
            "-p1",
            "--fuzz=0",
            "--no-backup-if-mismatch",
            "-r",
            "-",
            "-i",
        ]);
        let output = tools.run(
            &format!("applying {}", patch.display()),
            command.arg(&patch),
        )?;
        for place in elsewhere(&String::from_utf8_lossy(&output.stdout)) {
            note(&format!("{}: {place}", patch.display()));
        }
    }
    let diff = refresh(tools, kernel, work)?;
    let files = files.into_iter().collect();
    Ok(Patched {
        files,
        directory: work.join("patched"),
        diff,
    })
}

/// What `patch` says of hunks that are not where the patch has them, for people. With few lines
/// around them, they can be of another function.
fn elsewhere(said: &str) -> Vec<String> {
    let mut file = "";
    let mut places = Vec::new();
    for line in said.lines() {
        if let Some(name) = line.strip_prefix("patching file ") {
            file = name;
        } else if let Some((hunk, place)) = line.split_once(" succeeded at ") {
            let place = place.trim_end_matches('.');
            places.push(format!(
                "{file}: {hunk} applies at line {place}; see that it is meant"
            ));
        }
    }
    places
}

fn copy(from: &Path, file: &str, to: &Path) -> Result<()> {
    let target = to.join(file);
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).map_err(in_file(parent))?;
    }
    let source = from.join(file);
    fs::copy(&source, &target).map_err(in_file(&source))?;
    Ok(())
}

/// Makes one patch of all and applies it to the files in `patched`, with the kernel's own script,
/// which sees that all other lines keep their numbers: they are in warnings, and so in functions
/// that do not change.
fn refresh(tools: &Tools, kernel: &Kernel, work: &Path) -> Result<String> {
    let mut command = tools.program(work, "diff");
    let output = tools.try_run("comparing the source", command.args(["-Nupr", "a", "b"]))?;
    match output.status.code() {
        Some(1) => (),
        Some(0) => return Err("the patches change nothing".into()),
        _ => return Err("comparing the source failed".into()),
    }
    let diff = String::from_utf8_lossy(&output.stdout).into_owned();
    let plain = work.join("plain.patch");
    fs::write(&plain, &output.stdout).map_err(in_file(&plain))?;
    let script = kernel.source.join("scripts/livepatch/fix-patch-lines");
    let mut command = tools.program(work, "sh");
    command
        .args([
            "-euc",
            "gawk -f \"$1\" plain.patch >lines.patch; recountdiff lines.patch >fixed.patch",
        ])
        .arg("sh")
        .arg(script);
    tools.run("keeping line numbers", &mut command)?;
    let mut command = tools.program(&work.join("patched"), "patch");
    command.args([
        "-p1",
        "--fuzz=0",
        "--no-backup-if-mismatch",
        "-i",
        "../fixed.patch",
    ]);
    tools.run("applying the patches", &mut command)?;
    Ok(diff)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths_of(patch: &str) -> Result<Vec<String>> {
        paths("x.patch", patch).map(|paths| paths.into_iter().collect())
    }

    #[test]
    fn the_files_of_a_patch() {
        let patch = "--- a/b/c.c\t2026-01-01\n+++ b/b/c.c\t2026-01-02\n@@ -1 +1 @@\n-x\n+y\n\
                     --- a/a.h\n+++ b/a.h\n@@ -1 +1 @@\n--- x\n+++y\n";
        assert_eq!(paths_of(patch).unwrap(), ["a.h", "b/c.c"]);
    }

    #[test]
    fn files_that_come_or_go() {
        for patch in [
            "--- /dev/null\n+++ b/c.c\n",
            "--- a/c.c\n+++ /dev/null\n",
            "--- a/d.c\n+++ b/c.c\n",
        ] {
            let error = paths_of(patch).unwrap_err().to_string();
            assert!(
                error.contains(".c: it is added, removed or renamed\n"),
                "{error}"
            );
        }
    }

    #[test]
    fn paths_that_lead_elsewhere() {
        for path in ["/etc/x.c", "../x.c", "b/../../x.c", "./x.c", "b//x.c", ""] {
            let patch = format!("--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-x\n+y\n");
            let error = paths_of(&patch).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("x.patch: {path} is no path of a file in the source")
            );
        }
    }

    #[test]
    fn hunks_elsewhere() {
        let said = "patching file fs/a.c\n\
                    Hunk #1 succeeded at 12 (offset 3 lines).\n\
                    patching file fs/b.c\n";
        assert_eq!(
            elsewhere(said),
            ["fs/a.c: Hunk #1 applies at line 12 (offset 3 lines); see that it is meant"]
        );
    }

    #[test]
    fn no_patch() {
        let error = paths_of("hello\n--- a/c.c\n").unwrap_err().to_string();
        assert_eq!(error, "x.patch: no patch: it changes no file");
    }

    #[test]
    fn files_that_cannot_be_patched() {
        for (path, what) in [
            ("arch/x86/entry/entry_64.S", "it is assembly"),
            ("lib/string.c", "it is in lib/"),
            ("arch/x86/entry/vdso/vma.c", "it is in a vDSO"),
            (
                "arch/x86/realmode/rm/wakemain.c",
                "it only runs while a processor starts",
            ),
            (
                "arch/x86/boot/main.c",
                "it only runs while a processor starts",
            ),
            ("rust/kernel/lib.rs", "it is Rust"),
            ("fs/Makefile", "it is neither C nor a header"),
        ] {
            let refusal = forbidden(path).unwrap();
            assert_eq!(
                (refusal.place.as_str(), refusal.what.as_str()),
                (path, what)
            );
        }
        for path in ["fs/proc/cmdline.c", "include/linux/fs.h", "fs/lib/x.c"] {
            assert_eq!(forbidden(path), None);
        }
    }
}
