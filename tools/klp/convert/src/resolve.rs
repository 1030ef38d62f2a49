// SPDX-License-Identifier: GPL-2.0

//! Which symbol of which object a reference means. Nothing is guessed: what is not clear is a
//! [`Problem`] for the user.

use std::iter;

use crate::{
    map::{Definition, Source, SymbolMap},
    problem::Problem,
    Exports, Symbols,
};

/// What is known about the kernel that the module is for.
#[derive(Debug, Default)]
pub struct Known {
    maps: Vec<(String, SymbolMap)>,
    exports: Option<Exports>,
}

impl Known {
    /// Adds symbols. If several files know an object, the first one counts, and the others must
    /// agree with it.
    pub fn add_map(&mut self, file: impl Into<String>, map: SymbolMap) {
        self.maps.push((file.into(), map));
    }

    /// Sets the exported symbols. Then a symbol that is neither exported nor converted is an error.
    pub fn set_exports(&mut self, exports: Exports) {
        self.exports = Some(exports);
    }

    /// Whether it is known what is exported.
    pub fn has_exports(&self) -> bool {
        self.exports.is_some()
    }

    /// Whether the symbols of an object are known.
    pub fn knows(&self, object: &str) -> bool {
        self.maps.iter().any(|(_, map)| map.knows(object))
    }

    /// The symbols of a name; `None` if those of the object are not known.
    fn definitions(&self, object: &str, name: &str) -> Result<Option<&[Definition]>, String> {
        let mut maps = self.maps.iter().filter(|(_, map)| map.knows(object));
        let Some((file, map)) = maps.next() else {
            return Ok(None);
        };
        let definitions = map.definitions(object, name);
        for (other_file, other) in maps {
            let count = other.definitions(object, name).len();
            if count != definitions.len() {
                return Err(format!(
                    "{file} has {} symbols {name} of {object}, but {other_file} has {count}: \
                     they are not of the same kernel",
                    definitions.len()
                ));
            }
        }
        Ok(Some(definitions))
    }
}

/// What the user wants to be converted.
#[derive(Debug, Default)]
pub struct Request {
    /// These symbols.
    pub symbols: Symbols,
    /// And all others that are not exported but in vmlinux or in one of `targets`.
    pub automatic: bool,
    /// Modules that are patched. What they export is converted too with `automatic`, as an ordinary
    /// reference would demand that they be loaded first.
    pub targets: Vec<String>,
    /// The source files of which one defines a symbol, if there are several of its name.
    pub from: Vec<String>,
}

/// What a reference means.
pub(crate) struct Resolved {
    pub(crate) object: String,
    /// 0 if the object has only one symbol of the name.
    pub(crate) position: usize,
}

/// Decides what is to become of the undefined symbol `name`; `None` if it stays as it is.
pub(crate) fn resolve(
    request: &Request,
    known: &Known,
    name: &str,
    weak: bool,
) -> Result<Option<Resolved>, Problem> {
    if let Some(wanted) = request.symbols.get(name) {
        return in_object(request, known, &wanted.object, name, wanted.position, weak);
    }
    let Some(exports) = &known.exports else {
        return Ok(None);
    };
    match exports.object(name) {
        Some(object) if request.automatic && request.targets.iter().any(|t| t == object) => {
            return in_object(request, known, object, name, None, weak)
        }
        Some(_) => return Ok(None),
        None => (),
    }
    // The loader passes over both; old assemblers leave the second behind.
    let optional = weak || name == "_GLOBAL_OFFSET_TABLE_";
    if !request.automatic {
        return if optional {
            Ok(None)
        } else {
            Err(not_exported(known, name))
        };
    }

    let mut found = Vec::new();
    for object in iter::once("vmlinux").chain(request.targets.iter().map(String::as_str)) {
        let definitions = known.definitions(object, name)?.unwrap_or_default();
        if !definitions.is_empty() && !found.contains(&object) {
            found.push(object);
        }
    }
    match found[..] {
        [] if optional => Ok(None),
        [] => Err(not_exported(known, name)),
        [object] => in_object(request, known, object, name, None, weak),
        _ => {
            let candidates = candidates(known, name);
            let write = found
                .iter()
                .map(|object| format!("--unexported {object}:{name}"));
            let write: Vec<_> = write.collect();
            Err(
                Problem::new(format!("several objects have a symbol {name}"))
                    .note("found", candidates)
                    .note("write", [write.join(" or ")]),
            )
        }
    }
}

/// Decides which symbol of an object is meant.
fn in_object(
    request: &Request,
    known: &Known,
    object: &str,
    name: &str,
    position: Option<usize>,
    weak: bool,
) -> Result<Option<Resolved>, Problem> {
    let resolved = |position| {
        Ok(Some(Resolved {
            object: object.into(),
            position,
        }))
    };
    let owner = match object {
        "vmlinux" => "the kernel".to_owned(),
        module => format!("module {module}"),
    };
    let Some(definitions) = known.definitions(object, name)? else {
        return resolved(position.unwrap_or(0));
    };
    let count = definitions.len();
    let problem = |message| Problem::new(message).note("found", list(object, definitions));
    let some_go = definitions.iter().any(|definition| definition.init);
    let some_stay = definitions.iter().any(|definition| !definition.init);
    if object != "vmlinux" && some_go && some_stay {
        return Err(problem(format!(
            "{owner} has {count} symbols {name}, of which some are gone when it has been \
             initialised: their positions change, so that no relocation can refer to one"
        )));
    }
    let choose = format!("--position {object}:{name}=N");
    let position = match (count, position) {
        // The module can do without.
        (0, _) if weak => return Ok(None),
        (0, _) => {
            return Err(Problem::new(format!("{owner} has no symbol {name}"))
                .note("found", candidates(known, name)))
        }
        (_, Some(position)) if position > count => {
            return Err(problem(format!(
                "{owner} has {count} symbols {name}, and number {position} is asked for"
            )))
        }
        (1, _) => 1,
        (_, Some(position)) => position,
        (_, None) if request.from.is_empty() => {
            return Err(problem(format!(
                "{owner} has {count} symbols {name}: say which with {choose}"
            ))
            .note("write", from_files(definitions)))
        }
        (_, None) => from(&request.from, definitions).ok_or_else(|| {
            problem(format!(
                "{owner} has {count} symbols {name}, and --from does not tell which: \
                 say it with {choose}"
            ))
            .note("because", because(&request.from, definitions))
        })?,
    };
    if definitions[position - 1].init {
        return Err(problem(format!(
            "{name} of {owner} is gone when it has been initialised"
        )));
    }
    // 0 makes the kernel's loader see that there is only one.
    resolved(if count == 1 { 0 } else { position })
}

/// How a source file says which symbol is meant, for the first few.
fn from_files(definitions: &[Definition]) -> Vec<String> {
    let numbered = (1..).zip(definitions);
    let lines = numbered.filter_map(|(number, definition)| match &definition.source {
        Source::Unknown => None,
        Source::Name(file) | Source::Path(file) => {
            Some(format!("--from {file} for number {number}"))
        }
    });
    lines.take(3).collect()
}

/// The position of the one symbol that a source file of the list defines.
fn from(files: &[String], definitions: &[Definition]) -> Option<usize> {
    let mut chosen = None;
    let mut unclear = false;
    for (index, definition) in definitions.iter().enumerate() {
        let answers = files.iter().map(|file| definition.source.is(file));
        let answers: Vec<_> = answers.collect();
        if answers.contains(&Some(true)) {
            if chosen.replace((index + 1, definition)).is_some() {
                return None;
            }
        } else {
            unclear |= answers.contains(&None);
        }
    }
    let (position, definition) = chosen?;
    // A path names one file. A name without directory may also be that of a symbol whose file is
    // not known.
    (!unclear || matches!(definition.source, Source::Path(_))).then_some(position)
}

/// Why source files do not tell which symbol is meant.
fn because(files: &[String], definitions: &[Definition]) -> Vec<String> {
    let sources = || definitions.iter().map(|definition| &definition.source);
    let is = |answer| move |source: &&Source| files.iter().any(|file| source.is(file) == answer);
    let files = files.join(", ");
    let mut reasons = Vec::new();
    if sources().all(|source| *source == Source::Unknown) {
        reasons.push(
            "no source files are known: System.map, /proc/kallsyms and stripped files have none; \
             --vmlinux takes a vmlinux that was not stripped"
                .into(),
        );
    } else if sources().filter(is(Some(true))).count() > 1 {
        reasons.push(format!("several of them are from {files}"));
    } else if sources().any(|source| is(None)(&source) && matches!(source, Source::Name(_))) {
        reasons.push(format!(
            "only names of source files are known, without directories: there is no telling \
             whether they are {files}"
        ));
    } else if sources().any(|source| is(None)(&source)) {
        reasons.push("not for all of them is the source file known".into());
    } else {
        reasons.push(format!("none of them is from {files}"));
    }
    reasons
}

fn not_exported(known: &Known, name: &str) -> Problem {
    let problem = Problem::new(format!(
        "{name} is undefined, and no Module.symvers exports it"
    ))
    .note("found", candidates(known, name));
    let objects = objects_with(known, name);
    let write = objects.iter().map(|object| match *object {
        "vmlinux" => format!("--unexported {name}"),
        module => format!("--unexported {module}:{name}"),
    });
    if !objects.is_empty() {
        problem.note("write", write)
    } else if known.maps.is_empty() {
        problem.note("write", [format!("--unexported [OBJECT:]{name}")])
    } else {
        problem
            .note(
                "found",
                ["nowhere: is the name right, and has this kernel it?".into()],
            )
            .note(
                "write",
                [
                    "--target MODULE, if a module has it".into(),
                    "--exports FILE, if the Module.symvers FILE of another module exports it"
                        .into(),
                ],
            )
    }
}

/// The objects with a symbol of this name, in all that is known.
fn objects_with<'a>(known: &'a Known, name: &str) -> Vec<&'a str> {
    let mut objects: Vec<_> = known
        .maps
        .iter()
        .flat_map(|(_, map)| map.objects_with(name))
        .collect();
    objects.sort_by_key(|object| (*object != "vmlinux", *object));
    objects.dedup();
    objects
}

/// All symbols of a name, for people.
fn candidates(known: &Known, name: &str) -> Vec<String> {
    let objects = objects_with(known, name);
    let lines = objects.iter().flat_map(|object| {
        let definitions = known.maps.iter().find(|(_, map)| map.knows(object));
        definitions.map_or(Vec::new(), |(_, map)| {
            list(object, map.definitions(object, name))
        })
    });
    lines.collect()
}

fn list(object: &str, definitions: &[Definition]) -> Vec<String> {
    let numbered = definitions.iter().enumerate();
    let lines = numbered
        .map(|(index, definition)| format!("{object} {}. {}", index + 1, definition.describe()));
    lines.collect()
}
