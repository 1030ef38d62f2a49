// SPDX-License-Identifier: GPL-2.0

//! The two object files that `objtool klp diff` compares, and what it says.
//!
//! `objtool` is made for a whole `vmlinux.o` or a whole module, before and after. A module is small
//! enough to be compiled as a whole. Of `vmlinux.o`, only the objects that a patch changes are there,
//! and what `objtool` looks for besides is supplied:
//!
//! * a section `.modinfo`, which names the namespaces of exported symbols that the kernel uses;
//! * undefined symbols for all that the patched objects refer to and the kernel has, in the object of
//!   before as well: so they count as the kernel's, and not as something that the patch brings;
//! * for each static symbol whose name the kernel has several times, another one of its name, so
//!   that `objtool` writes it into `.klp.symid`;
//! * a `vmlinux` with the kernel's symbols of these names, and with the addresses that belong to
//!   `.klp.symid`, as the module `locate` has found them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use object::elf;

use crate::{
    elf::{File, UNDEFINED},
    error::{in_file, read, Refusal, Result},
    image::Image,
    kernel::Kernel,
    tools::Tools,
    tree::Tree,
};

/// Where the table of symbols with several of their name is.
const SYMBOL_IDS: &str = ".klp.symid";

/// What the patch changes in an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The object, such as `fs/proc/cmdline.o`.
    pub object: String,
    /// Functions that are replaced.
    pub changed: Vec<String>,
    /// Functions that are only in the patch.
    pub new: Vec<String>,
    /// Functions that nothing calls any more.
    pub removed: Vec<String>,
}

/// The objects before and after, by their paths.
pub(crate) type Objects = BTreeMap<String, PathBuf>;

/// Works on the objects of one owner.
pub(crate) struct Pair<'a> {
    pub(crate) tools: &'a Tools,
    pub(crate) kernel: &'a Kernel,
    pub(crate) tree: &'a Tree,
    /// The directory of the build's files.
    pub(crate) work: &'a Path,
    /// The arguments with which the kernel's build system calls `objtool`.
    pub(crate) objtool: &'a [String],
    /// Tells the author of the patch something.
    pub(crate) note: &'a dyn Fn(&str),
}

impl Pair<'_> {
    /// Compares the objects of the kernel itself. The result is the object file with what the patch
    /// has to bring, or none if nothing changes.
    ///
    /// `locations` has the addresses of the objects' symbols.
    pub(crate) fn vmlinux(
        &self,
        image: &Image,
        before: &Objects,
        after: &Objects,
        locations: &BTreeMap<String, HashMap<String, u64>>,
    ) -> Result<Option<PathBuf>> {
        let sides = [self.work.join("before"), self.work.join("after")];
        for side in &sides {
            fs::create_dir_all(side).map_err(in_file(side))?;
        }
        let supplements = Supplements::collect(image, before, after, &self.namespaces()?)?;
        supplements.assemble(self.tools, self.work)?;
        let mut warnings = Vec::new();
        for (side, objects) in sides.iter().zip([before, after]) {
            let mut inputs: Vec<_> = objects.values().cloned().collect();
            inputs.push(self.work.join("supplement.o"));
            self.link(side, "vmlinux.o", &inputs, &supplements.undefined)?;
            warnings.push(self.objtool(side, "vmlinux.o", &["--link", "--klp-symids"])?);
        }
        self.note_new(&warnings);
        self.sibling(&sides[0], image, before, locations)?;
        self.diff("vmlinux.o", before, after)
    }

    /// The same of a module, whose objects are given in the order in which they are linked: the
    /// core counts functions of one name in that order.
    pub(crate) fn module(
        &self,
        module: &str,
        order: &[String],
        before: &Objects,
        after: &Objects,
    ) -> Result<Option<PathBuf>> {
        let name = format!("{module}.o");
        let mut warnings = Vec::new();
        for (side, objects) in [("before", before), ("after", after)] {
            let side = self.work.join(side);
            let directory = side.join(&name);
            let directory = directory.parent().unwrap_or(&side);
            fs::create_dir_all(directory).map_err(in_file(directory))?;
            let inputs = order.iter().filter_map(|path| objects.get(path)).cloned();
            let inputs: Vec<_> = inputs.collect();
            self.link(&side, &name, &inputs, &BTreeSet::new())?;
            warnings.push(self.objtool(&side, &name, &["--link", "--module"])?);
        }
        self.note_new(&warnings);
        self.diff(&name, before, after)
    }

    /// Notes what objtool warns of with the patch only.
    fn note_new(&self, warnings: &[Vec<String>]) {
        let [before, after] = warnings else {
            return;
        };
        let before: BTreeSet<_> = before.iter().map(|text| without_offsets(text)).collect();
        let new = after
            .iter()
            .filter(|text| !before.contains(&without_offsets(text)));
        for warning in new {
            (self.note)(&format!("objtool: {warning}"));
        }
    }

    fn link(
        &self,
        directory: &Path,
        name: &str,
        inputs: &[PathBuf],
        undefined: &BTreeSet<String>,
    ) -> Result<()> {
        let mut arguments = String::new();
        for symbol in undefined {
            // Writing to a string does not fail.
            let _ = writeln!(arguments, "-u {symbol}");
        }
        for input in inputs {
            let _ = writeln!(arguments, "{}", input.display());
        }
        let list = directory.join("inputs");
        fs::write(&list, arguments).map_err(in_file(&list))?;
        let mut command = self.tools.program(directory, "ld");
        command.args([
            "-m",
            "elf_x86_64",
            "-z",
            "noexecstack",
            "-r",
            "-o",
            name,
            "@inputs",
        ]);
        self.tools.run("linking the objects", &mut command)?;
        Ok(())
    }

    /// Lets objtool work on a file. The result is what it warns of.
    fn objtool(&self, directory: &Path, name: &str, more: &[&str]) -> Result<Vec<String>> {
        let mut command = self.tools.program(directory, self.tree.objtool());
        command.args(self.objtool).args(more).arg(name);
        let output = self.tools.run("running objtool", &mut command)?;
        Ok(warnings(&String::from_utf8_lossy(&output.stderr)))
    }

    /// The namespaces in which the kernel exports symbols.
    fn namespaces(&self) -> Result<BTreeMap<String, String>> {
        let path = self.kernel.build.join("Module.symvers");
        let text = fs::read_to_string(&path).map_err(in_file(&path))?;
        let mut namespaces = BTreeMap::new();
        for line in text.lines() {
            let fields: Vec<_> = line.split('\t').collect();
            if let [_, symbol, "vmlinux", _, namespace] = fields[..] {
                if !namespace.is_empty() && !namespace.starts_with("module:") {
                    namespaces.insert(symbol.into(), namespace.into());
                }
            }
        }
        Ok(namespaces)
    }

    /// Makes the `vmlinux` beside `vmlinux.o`: symbols, and the addresses of `.klp.symid`.
    fn sibling(
        &self,
        directory: &Path,
        image: &Image,
        before: &Objects,
        locations: &BTreeMap<String, HashMap<String, u64>>,
    ) -> Result<()> {
        let path = directory.join("vmlinux.o");
        let data = fs::read(&path).map_err(in_file(&path))?;
        let file = File::parse(&data)?;
        let names: BTreeSet<_> = file.definitions().map(|symbol| symbol.name).collect();
        // An assembler knows each name once only, so as many files as there are symbols of a name.
        let mut files: Vec<String> = Vec::new();
        for name in names {
            for (number, symbol) in image.symbols(name).iter().enumerate() {
                if files.len() <= number {
                    files.push(".data\nbase:\n".into());
                }
                let _ = writeln!(
                    files[number],
                    ".set \"{name}\", base + {:#x}",
                    symbol.address
                );
            }
        }
        let mut ids = format!(".section {SYMBOL_IDS},\"\",@progbits\n");
        for (id, symbol) in symbol_ids(&file) {
            // The linker keeps the objects' order, and each begins with the name of its file.
            let object = before.keys().nth(symbol.file);
            let address = object
                .and_then(|object| locations.get(object))
                .and_then(|addresses| addresses.get(symbol.name));
            if let Some(address) = address {
                let _ = writeln!(ids, ".quad {id}, {address:#x}");
            }
        }
        files.push(ids);
        let mut script = String::from("set -e\n");
        let mut objects = String::new();
        for (number, contents) in files.iter().enumerate() {
            let path = directory.join(format!("symbols{number}.s"));
            fs::write(&path, contents).map_err(in_file(&path))?;
            let _ = writeln!(script, "as -o symbols{number}.o symbols{number}.s");
            let _ = write!(objects, " symbols{number}.o");
        }
        let _ = writeln!(script, "ld -r -o vmlinux{objects}");
        let mut command = self.tools.program(directory, "sh");
        command.args(["-c", &script]);
        self.tools.run("making a symbol table", &mut command)?;
        Ok(())
    }

    fn diff(&self, name: &str, before: &Objects, after: &Objects) -> Result<Option<PathBuf>> {
        let objtool = self.tree.objtool();
        let sides = [self.work.join("before"), self.work.join("after")];
        for side in &sides {
            let mut command = self.tools.program(side, &objtool);
            command.args(["klp", "checksum", name]);
            self.tools.run("computing checksums", &mut command)?;
        }
        let symvers = self.kernel.build.join("Module.symvers");
        fs::copy(&symvers, sides[0].join("Module.symvers")).map_err(in_file(&symvers))?;
        let output = self.work.join("diff").join(name);
        let directory = output.parent().unwrap_or(self.work);
        fs::create_dir_all(directory).map_err(in_file(directory))?;
        let mut command = self.tools.program(&sides[0], &objtool);
        command
            .args(["klp", "diff", name])
            .arg(sides[1].join(name))
            .arg(&output);
        let result = self.tools.try_run("comparing the objects", &mut command)?;
        let said = String::from_utf8_lossy(&result.stderr);
        if !result.status.success() {
            return Err(explain(&said, &definitions(before)?, &definitions(after)?));
        }
        let removed = &functions(before)? - &functions(after)?;
        for warning in warnings(&said) {
            if !tells_of_removal(&warning, &removed) {
                (self.note)(&format!("objtool: {warning}"));
            }
        }
        Ok(output.is_file().then_some(output))
    }
}

/// What `objtool` warns of.
fn warnings(said: &str) -> Vec<String> {
    let warnings = said
        .lines()
        .filter_map(|line| line.split_once("warning: objtool: "));
    warnings.map(|(_, warning)| warning.into()).collect()
}

/// Whether a warning says no more than that there is no function any more that the patch removes.
fn tells_of_removal(warning: &str, removed: &BTreeSet<String>) -> bool {
    let name = warning.strip_prefix("no correlation: ");
    name.is_some_and(|name| removed.contains(name))
}

/// The names of all functions of objects.
fn functions(objects: &Objects) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for file in objects.values() {
        let data = fs::read(file).map_err(in_file(file))?;
        let file = File::parse(&data)?;
        let functions = file.definitions().filter(|symbol| symbol.is_function());
        names.extend(functions.map(|symbol| symbol.name.to_owned()));
    }
    Ok(names)
}

/// A warning without what depends on where something is, such as `+0x1f`.
fn without_offsets(warning: &str) -> String {
    let mut parts = warning.split("+0x");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str(part.trim_start_matches(|char: char| char.is_ascii_hexdigit()));
    }
    text
}

/// The objects that define something, by its name.
pub(crate) type Definitions = BTreeMap<String, Vec<String>>;

pub(crate) fn definitions(objects: &Objects) -> Result<Definitions> {
    let mut definitions = Definitions::new();
    for (path, file) in objects {
        let data = fs::read(file).map_err(in_file(file))?;
        for symbol in File::parse(&data)?.definitions() {
            let objects = definitions.entry(symbol.name.into()).or_default();
            objects.push(path.clone());
        }
    }
    Ok(definitions)
}

/// A symbol that stands in `.klp.symid`.
struct Identified<'a> {
    name: &'a str,
    /// The number of its source file among the object's.
    file: usize,
}

/// The symbols in `.klp.symid`, with their numbers there.
fn symbol_ids<'a>(file: &'a File<'a>) -> Vec<(u64, Identified<'a>)> {
    let mut files = 0usize;
    let mut file_of = vec![0; file.symbols.len()];
    for (index, symbol) in file.symbols.iter().enumerate() {
        if symbol.kind == elf::STT_FILE {
            files += 1;
        }
        file_of[index] = files;
    }
    let Some(section) = file.section(SYMBOL_IDS) else {
        return Vec::new();
    };
    let mut ids = Vec::new();
    for relocation in &section.relocations {
        // The address is the second of two words.
        let start = relocation.offset as usize & !15;
        let word = section.data.get(start..start + 8);
        let (Some(word), Some(symbol)) = (word, file.symbols.get(relocation.symbol)) else {
            continue;
        };
        let id = u64::from_le_bytes(word.try_into().unwrap_or_default());
        let Some(number) = file_of[relocation.symbol].checked_sub(1) else {
            continue;
        };
        let identified = Identified {
            name: symbol.name,
            file: number,
        };
        ids.push((id, identified));
    }
    ids
}

/// What is added to the objects of `vmlinux.o`.
struct Supplements {
    undefined: BTreeSet<String>,
    several: BTreeSet<String>,
    namespaces: BTreeSet<String>,
}

impl Supplements {
    fn collect(
        image: &Image,
        before: &Objects,
        after: &Objects,
        namespaces: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let mut all = Self {
            undefined: BTreeSet::new(),
            several: BTreeSet::new(),
            namespaces: BTreeSet::new(),
        };
        for path in before.values().chain(after.values()) {
            let data = fs::read(path).map_err(in_file(path))?;
            let file = File::parse(&data)?;
            for name in file.undefined() {
                if image.symbols(name).iter().any(|symbol| symbol.is_global()) {
                    all.undefined.insert(name.into());
                }
                all.namespaces.extend(namespaces.get(name).cloned());
            }
            for symbol in file.definitions() {
                if symbol.local && image.symbols(symbol.name).len() > 1 {
                    all.several.insert(symbol.name.into());
                }
            }
        }
        Ok(all)
    }

    fn assemble(&self, tools: &Tools, work: &Path) -> Result<()> {
        let mut text =
            String::from(".file \"klp-build\"\n.section .modinfo,\"a\",@progbits\n.byte 0\n");
        for namespace in &self.namespaces {
            let _ = writeln!(text, ".asciz \"import_ns={namespace}\"");
        }
        text.push_str(".section .klp.namesakes,\"a\",@progbits\n");
        for name in &self.several {
            let _ = writeln!(text, "\"{name}\":\n.byte 0");
        }
        text.push_str(".section .note.GNU-stack,\"\",@progbits\n");
        let source = work.join("supplement.s");
        fs::write(&source, text).map_err(in_file(&source))?;
        let mut command = tools.program(work, "as");
        command.args(["-o", "supplement.o", "supplement.s"]);
        tools.run("assembling", &mut command)?;
        Ok(())
    }
}

/// What an error of `objtool klp diff` means for the author of the patch.
fn explain(said: &str, before: &Definitions, after: &Definitions) -> crate::Error {
    let errors = said
        .lines()
        .filter_map(|line| line.split_once("error: objtool: "));
    let errors: Vec<_> = errors.map(|(_, error)| error).collect();
    let mut refusals = Vec::new();
    for error in &errors {
        refusals.extend(translate(error).map(|refusal| Refusal {
            place: in_object(&refusal.place, before, after),
            ..refusal
        }));
    }
    if refusals.is_empty() {
        return format!("objtool cannot compare the objects\n{}", said.trim_end()).into();
    }
    crate::Error::Refused(refusals)
}

/// A place that `objtool` names by a symbol, with the object that has it.
pub(crate) fn in_object(place: &str, before: &Definitions, after: &Definitions) -> String {
    let name = without_offsets(place);
    let name = name.trim_end_matches("()");
    let objects = before.get(name).or_else(|| after.get(name));
    match objects.map(Vec::as_slice) {
        Some([object]) => format!("{object}: {place}"),
        // Which one it is, objtool does not tell.
        Some(objects) => format!("{} (one of them): {place}", objects.join(", ")),
        None => place.into(),
    }
}

/// Refuses a variable whose initial value changes.
pub(crate) fn changed_data(place: &str) -> Refusal {
    Refusal::new(
        place,
        "its initial value changes",
        "the variable exists already, with a value of its own, and is not initialised again",
        "set it in a callback before the patch takes effect (KLP_PRE_PATCH_CALLBACK in \
         <linux/livepatch_helpers.h>), or use a new variable",
    )
}

fn translate(error: &str) -> Option<Refusal> {
    if let Some(name) = error.strip_prefix("changed data: ") {
        return Some(changed_data(name));
    }
    if let Some((name, _)) = error.split_once(": can't patch or reference init code/data") {
        return Some(init(name));
    }
    if error.contains("would create an undeclared module dependency") {
        let (name, what) = error.split_once(": ")?;
        return Some(Refusal::new(
            name,
            what,
            "the patched module may be loaded without the module that exports this symbol",
            "use only modules that the patched module uses already",
        ));
    }
    if error.contains("unsupported static branch key")
        || error.contains("unsupported static call key")
    {
        let (place, what) = error.split_once(": ")?;
        return Some(Refusal::new(
            place,
            what,
            "the kernel sets static branches and calls up before it knows the addresses of keys in \
             other modules",
            "static_key_enabled() or KLP_STATIC_CALL() in place of the static branch or call",
        ));
    }
    None
}

/// Which functions are replaced, new and removed in each object, as the module that was made and the
/// objects tell.
pub(crate) fn changes(object: &str, before: &Path, after: &Path, output: &Path) -> Result<Changes> {
    let (before, after, output) = (read(before)?, read(after)?, read(output)?);
    let functions = |data: &[u8]| -> Result<BTreeSet<String>> {
        let file = File::parse(data)?;
        let functions = file.definitions().filter(|symbol| symbol.is_function());
        // What the compiler has split off goes with its function.
        let functions = functions.filter(|symbol| !symbol.name.ends_with(".cold"));
        Ok(functions.map(|symbol| symbol.name.into()).collect())
    };
    let (before, after, output) = (functions(&before)?, functions(&after)?, functions(&output)?);
    let taken = |name: &&String| output.contains(*name) && !name.starts_with("__pfx_");
    Ok(Changes {
        object: object.into(),
        changed: (&before & &after).iter().filter(taken).cloned().collect(),
        new: (&after - &before).iter().filter(taken).cloned().collect(),
        removed: (&before - &after).into_iter().collect(),
    })
}

/// Whether the patch does something in an object: a function or variable of it gets into the module,
/// or is not called any more.
pub(crate) fn has_effect(
    changes: &Changes,
    before: &Path,
    after: &Path,
    output: &Path,
) -> Result<bool> {
    let Changes {
        changed,
        new,
        removed,
        ..
    } = changes;
    if [changed, new, removed]
        .iter()
        .any(|names| !names.is_empty())
    {
        return Ok(true);
    }
    let (before, after, output) = (read(before)?, read(after)?, read(output)?);
    let names = |data: &[u8]| -> Result<BTreeSet<String>> {
        let file = File::parse(data)?;
        Ok(file
            .definitions()
            .map(|symbol| symbol.name.into())
            .collect())
    };
    let new = &names(&after)? - &names(&before)?;
    Ok(!new.is_disjoint(&names(&output)?))
}

/// Refuses what the kernel would not find, or find several times, or would have given up. The
/// objects that were not compiled cannot tell objtool of it, but the kernel's symbols can.
/// `after` are the objects with the patch.
pub(crate) fn check_references(
    image: &Image,
    changes: &[Changes],
    after: &Objects,
    output: &Path,
) -> Result<Vec<Refusal>> {
    let data = fs::read(output).map_err(in_file(output))?;
    let file = File::parse(&data)?;
    let after = definitions(after)?;
    let mut refusals = Vec::new();
    for symbol in &file.symbols {
        // objtool has looked at static ones, and has given them their positions.
        let reference = symbol.name.strip_prefix(".klp.sym.vmlinux.");
        let Some((name, "0")) = reference.and_then(|reference| reference.rsplit_once(',')) else {
            continue;
        };
        let place = || match referring(&file, name) {
            Some(user) => format!("{} refers to {name}", in_object(user, &after, &after)),
            None => name.into(),
        };
        match image.symbols(name) {
            [known] if image.is_init(known.address) => refusals.push(init(&place())),
            [_] => (),
            known => refusals.push(several(&place(), known.len())),
        }
    }
    for changes in changes {
        for name in &changes.changed {
            let known = image.symbols(name);
            let definitions = file.definitions();
            let global = definitions
                .filter(|symbol| symbol.name == name)
                .any(|symbol| !symbol.local);
            if global && known.len() != 1 {
                refusals.push(several(&format!("{}: {name}", changes.object), known.len()));
            }
        }
    }
    Ok(refusals)
}

/// A function in what `objtool klp diff` has made that refers to a symbol of the kernel.
fn referring<'a>(file: &File<'a>, name: &str) -> Option<&'a str> {
    // The symbol that objtool leaves in the code until the module is linked.
    let stand_in = format!(".klp.tombstone.{name}");
    file.sections
        .iter()
        .enumerate()
        .find_map(|(index, section)| {
            let mut relocations = section.relocations.iter();
            let place = relocations
                .find(|relocation| file.symbols[relocation.symbol].name == stand_in)?
                .offset;
            let mut functions = file.definitions().filter(|symbol| {
                symbol.section == index
                    && (symbol.value..symbol.value + symbol.size).contains(&place)
            });
            functions.next().map(|symbol| symbol.name)
        })
}

fn init(place: &str) -> Refusal {
    Refusal::new(
        place,
        "it is in an init section",
        "this code and data were only there while the kernel started, and are gone",
        "change what is done at run time; a callback can repeat what initialisation did",
    )
}

fn several(place: &str, count: usize) -> Refusal {
    Refusal::new(
        place,
        format!("the kernel has {count} symbols of this name"),
        "objtool gives no position to a symbol that is not static, and without one the kernel \
         refuses a name that is not unique",
        "write the patch by hand and give the position (klp new, klp convert)",
    )
}

/// Refuses functions that are at one address.
pub(crate) fn check_addresses(changes: &Changes, before: &Path) -> Result<Vec<Refusal>> {
    let data = fs::read(before).map_err(in_file(before))?;
    let file = File::parse(&data)?;
    let mut at: BTreeMap<(usize, u64), Vec<&str>> = BTreeMap::new();
    for name in &changes.changed {
        if let Some(symbol) = file.definitions().find(|symbol| symbol.name == name) {
            let names = at.entry((symbol.section, symbol.value)).or_default();
            names.push(name);
        }
    }
    let together = at.values().filter(|names| names.len() > 1);
    let refusals = together.map(|names| {
        Refusal::new(
            format!("{}: {}", changes.object, names.join(", ")),
            "these are names of one function, and the patch would replace each",
            "calls are intercepted by address: only one replacement is ever called, and the core may \
             refuse the others",
            "write the patch by hand, with one of the names (klp new)",
        )
    });
    Ok(refusals.collect())
}

/// Refuses functions of which the kernel has another definition.
pub(crate) fn check_weak(
    changes: &Changes,
    before: &Path,
    addresses: &HashMap<String, u64>,
) -> Result<Vec<Refusal>> {
    let data = fs::read(before).map_err(in_file(before))?;
    let file = File::parse(&data)?;
    let weak = file.definitions().filter(|symbol| {
        symbol.weak
            && !addresses.contains_key(symbol.name)
            && changes.changed.iter().any(|name| name == symbol.name)
    });
    let refusals = weak.map(|symbol| {
        Refusal::new(
            format!("{}: {}", changes.object, symbol.name),
            "the kernel has another definition of it",
            "it is weak, and a definition elsewhere has taken its place",
            "patch the definition that the kernel has",
        )
    });
    Ok(refusals.collect())
}

/// Refuses functions of which the compiler makes several, as it does for some callers: `objtool`
/// leaves out the numbers in their names, and calls of one can become calls of another.
pub(crate) fn check_clones(changes: &Changes, before: &Path, after: &Path) -> Result<Vec<Refusal>> {
    let (before, after) = (read(before)?, read(after)?);
    let clones = |file: &File<'_>| -> BTreeMap<String, BTreeSet<String>> {
        let mut clones: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let functions = file.definitions().filter(|symbol| symbol.is_function());
        for symbol in functions.filter(|symbol| !symbol.name.ends_with(".cold")) {
            if let Some(base) = clone_of(symbol.name) {
                let all = clones.entry(base.into()).or_default();
                all.insert(symbol.name.into());
            }
        }
        clones
    };
    let (before, after) = (
        clones(&File::parse(&before)?),
        clones(&File::parse(&after)?),
    );
    let named = [&changes.changed, &changes.new].into_iter().flatten();
    let bases: BTreeSet<_> = named.filter_map(|name| clone_of(name)).collect();
    let several = |clones: &BTreeMap<String, BTreeSet<String>>, base: &str| {
        clones.get(base).is_some_and(|names| names.len() > 1)
    };
    let refused = bases
        .into_iter()
        .filter(|base| several(&before, base) || several(&after, base));
    let refusals = refused.map(|base| {
        Refusal::new(
            format!("{}: {base}", changes.object),
            "the compiler makes several functions of it, each for some of its callers",
            "objtool cannot tell which of them is which before and after the patch",
            "make it noinline and __noclone in the patch, or write the patch by hand (klp new)",
        )
    });
    Ok(refusals.collect())
}

/// What the name of a function that the compiler has made of another begins with: `f.constprop` of
/// `f.constprop.1`.
pub(crate) fn clone_of(name: &str) -> Option<&str> {
    without_number(name).filter(|base| base.contains('.'))
}

/// A name without the number that the compiler has given it, such as the `st` of `st.12`.
pub(crate) fn without_number(name: &str) -> Option<&str> {
    let base = name.trim_end_matches(|char: char| char.is_ascii_digit());
    base.strip_suffix('.').filter(|_| base.len() < name.len())
}

/// Refuses functions that ftrace cannot intercept.
pub(crate) fn check_traceable(changes: &Changes, before: &Path) -> Result<Vec<Refusal>> {
    let data = fs::read(before).map_err(in_file(before))?;
    let file = File::parse(&data)?;
    let mut refusals = Vec::new();
    for name in &changes.changed {
        let Some(symbol) = file.definitions().find(|symbol| symbol.name == name) else {
            continue;
        };
        let entries = file
            .sections
            .iter()
            .filter(|section| section.name == "__mcount_loc");
        let mut places = entries.flat_map(|section| &section.relocations);
        let traceable = places.any(|place| {
            let target = &file.symbols[place.symbol];
            let address = target.value.wrapping_add_signed(place.addend);
            target.section == symbol.section
                && target.section != UNDEFINED
                && (symbol.value..symbol.value + 16).contains(&address)
        });
        let is_syscall = ["__do_sys_", "__se_sys_"]
            .iter()
            .any(|prefix| name.starts_with(prefix));
        if !traceable && is_syscall {
            refusals.push(Refusal::new(
                format!("{}: {name}", changes.object),
                "it cannot be intercepted",
                "the function in which a system call is written is declared inline, and so it is \
                 notrace",
                "define the system call by KLP_SYSCALL_DEFINEn of <linux/livepatch_helpers.h>, in \
                 place of SYSCALL_DEFINEn",
            ));
        } else if !traceable {
            refusals.push(Refusal::new(
                format!("{}: {name}", changes.object),
                "it cannot be intercepted",
                "the compiler has put no call of ftrace into it: it is notrace, noinstr or inline, or \
                 tracing is off for its whole file",
                "patch the functions that call it",
            ));
        }
    }
    Ok(refusals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_that_are_removed() {
        let removed = BTreeSet::from(["f".into()]);
        let told = |warning| tells_of_removal(warning, &removed);
        assert!(told("no correlation: f"));
        // Such as a static variable, which keeps its value only if it is found again.
        assert!(!told("no correlation: g.1"));
        assert!(!told("no correlation"));
        assert!(!told("f"));
    }

    #[test]
    fn errors_of_objtool() {
        for (error, place, what) in [
            ("changed data: table", "table", "its initial value changes"),
            (
                "start: can't patch or reference init code/data",
                "start",
                "it is in an init section",
            ),
            (
                "f: new reference to g (exported by m) would create an undeclared module dependency",
                "f",
                "new reference to g (exported by m) would create an undeclared module dependency",
            ),
            (
                "f+0x1: unsupported static branch key k.  Use static_key_enabled() instead",
                "f+0x1",
                "unsupported static branch key k.  Use static_key_enabled() instead",
            ),
        ] {
            let refusal = translate(error).unwrap();
            assert_eq!((refusal.place.as_str(), refusal.what.as_str()), (place, what));
        }
        assert_eq!(translate("hello"), None);
    }

    #[test]
    fn places_of_errors() {
        let after = Definitions::from([("f".into(), vec!["x.o".into()])]);
        let none = Definitions::new();
        for (place, expected) in [
            ("f+0x1f", "x.o: f+0x1f"),
            ("f()+0x1f", "x.o: f()+0x1f"),
            ("g", "g"),
        ] {
            assert_eq!(in_object(place, &none, &after), expected);
        }
    }

    #[test]
    fn warnings_of_objtool() {
        let said = "vmlinux.o: warning: objtool: f+0x12: strange\nhello\n\
                    warning: objtool: no correlation: g\n";
        assert_eq!(warnings(said), ["f+0x12: strange", "no correlation: g"]);
        assert_eq!(without_offsets("f+0x12: is g+0xab"), "f: is g");
    }

    /// The changes of one object, and its file.
    fn changed(source: &str, names: &[&str]) -> (Changes, tempfile::NamedTempFile) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), crate::layout::tests::compile(source)).unwrap();
        let changes = Changes {
            object: "x.o".into(),
            changed: names.iter().copied().map(String::from).collect(),
            ..Changes::default()
        };
        (changes, file)
    }

    #[test]
    fn names_of_one_function() {
        let source = "int f(void) { return 1; } int h(void) { return 2; }\
                      int g(void) __attribute__((alias(\"f\")));";
        let (changes, file) = changed(source, &["f", "g", "h"]);
        let refusals = check_addresses(&changes, file.path()).unwrap();
        let places: Vec<_> = refusals.iter().map(|refusal| &refusal.place[..]).collect();
        assert_eq!(places, ["x.o: f, g"]);
        let (changes, file) = changed(source, &["f", "h"]);
        assert!(check_addresses(&changes, file.path()).unwrap().is_empty());
    }

    #[test]
    fn functions_of_which_there_are_several() {
        assert_eq!(clone_of("f.constprop.1"), Some("f.constprop"));
        assert_eq!(clone_of("f.isra.0"), Some("f.isra"));
        for name in ["f", "f1", "f.1", "f.constprop"] {
            assert_eq!(clone_of(name), None);
        }

        let source = |names: &[&str]| {
            let functions = names.iter().enumerate().map(|(number, name)| {
                format!(
                    "int f{number}(void) __asm__(\"{name}\"); int f{number}(void) {{ return 1; }}"
                )
            });
            functions.collect::<String>()
        };
        let one = source(&["f.constprop.0", "g.isra.0"]);
        let two = source(&["f.constprop.0", "f.constprop.1", "g.isra.0"]);
        let said = |before: &str, after: &str, names: &[&str]| {
            let (changes, before) = changed(before, names);
            let (_, after) = changed(after, &[]);
            let refusals = check_clones(&changes, before.path(), after.path()).unwrap();
            let places = refusals.into_iter().map(|refusal| refusal.place);
            places.collect::<Vec<_>>()
        };
        assert!(said(&one, &one, &["f.constprop.0"]).is_empty());
        assert_eq!(said(&one, &two, &["f.constprop.0"]), ["x.o: f.constprop"]);
        assert_eq!(said(&two, &one, &["f.constprop.1"]), ["x.o: f.constprop"]);
        assert!(said(&one, &two, &["g.isra.0"]).is_empty());
    }

    #[test]
    fn all_errors_are_told() {
        let said = "vmlinux.o: warning: objtool: x\n\
                    vmlinux.o: error: objtool: changed data: a\n\
                    vmlinux.o: error: objtool: changed data: b\n";
        let objects = |paths: &[&str]| paths.iter().copied().map(String::from).collect();
        let before = Definitions::from([
            ("a".into(), objects(&["x.o"])),
            ("b".into(), objects(&["x.o", "y.o"])),
        ]);
        let none = Definitions::new();
        let crate::Error::Refused(refusals) = explain(said, &before, &none) else {
            panic!("not refused");
        };
        let places: Vec<_> = refusals.iter().map(|refusal| &refusal.place[..]).collect();
        assert_eq!(places, ["x.o: a", "x.o, y.o (one of them): b"]);
        let unknown = explain("error: objtool: strange\n", &none, &none).to_string();
        assert_eq!(
            unknown,
            "objtool cannot compare the objects\nerror: objtool: strange"
        );
    }
}
