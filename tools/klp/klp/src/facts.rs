// SPDX-License-Identifier: GPL-2.0

//! What can be learned of a kernel on this machine, for `klp check`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
};

use klp_check::{
    Exports, Function, Hold, Holder, Inlined, Installed, Kernel as Known, Layout, Live, Patch,
    Signatures, Sitting, State, Symbols, Types,
};
use klp_live::{store::Store, Escaped, Machine, PatchStatus};
use klp_module::Module;

use crate::{
    booted::Booted,
    commands::Result,
    explain,
    kernel::{is_loaded_build, module_name, read_module, Kernel},
};

/// Where tracefs has the functions that ftrace can intercept, with their addresses.
const TRACEABLE: &str = "/sys/kernel/tracing/available_filter_functions_addrs";
/// And without; that is all there is before 6.5.
const TRACEABLE_BY_NAME: &str = "/sys/kernel/tracing/available_filter_functions";

/// How much is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// The module itself, and what goes on in the running kernel.
    Module,
    /// The symbols of the kernel too.
    Symbols,
    /// Everything.
    #[default]
    Everything,
}

/// What the user names.
#[derive(Default)]
pub struct Sources<'a> {
    /// A vmlinux.
    pub vmlinux: Option<&'a Path>,
    /// A list of the kernel's symbols.
    pub system_map: Option<&'a Path>,
    /// Files of modules that are patched.
    pub targets: &'a [PathBuf],
    /// What other modules export.
    pub exports: &'a [PathBuf],
    /// How much is wanted.
    pub depth: Depth,
}

/// What is known of a kernel, and where more can be found.
pub struct Facts<'a> {
    machine: &'a Machine,
    named: &'a Kernel<'a>,
    depth: Depth,
    /// A vmlinux that may have DWARF.
    vmlinux: Option<PathBuf>,
    /// What was learned.
    pub kernel: Known,
}

/// The error of a file, for the user.
fn in_file(path: &Path, error: impl std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

impl<'a> Facts<'a> {
    /// Learns what all patches need.
    ///
    /// # Errors
    ///
    /// What the user names cannot be read.
    pub fn gather(
        machine: &'a Machine,
        named: &'a Kernel<'a>,
        sources: &Sources<'_>,
    ) -> Result<Self> {
        let mut this = Self {
            machine,
            named,
            depth: sources.depth,
            vmlinux: None,
            kernel: Known {
                release: Some(named.release().into()),
                ..Known::default()
            },
        };
        let config = named.config();
        if this.depth != Depth::Module {
            this.learn_kernel(sources, config.as_ref())?;
        }
        let has = |option: &str| {
            config
                .as_ref()
                .is_some_and(|config| config.contains(option))
        };
        this.kernel.lax_namespaces = has("MODULE_ALLOW_MISSING_NAMESPACE_IMPORTS");
        this.kernel.loads_by_force = has("MODULE_FORCE_LOAD");
        if named.is_running() {
            this.kernel.loaded = this.loaded();
            this.kernel.signatures = this.signatures(config.as_ref());
            this.kernel.live = Some(this.live()?);
        } else if let Some(config) = &config {
            // Secure boot may demand them later.
            this.kernel.signatures = if config.contains("MODULE_SIG_FORCE") {
                Signatures::Demanded
            } else if config.contains("MODULE_SIG") {
                Signatures::Optional
            } else {
                Signatures::Ignored
            };
        }
        for target in sources.targets {
            let data = read_module(target).map_err(|error| in_file(target, error))?;
            this.add_module(&module_name(target), target, &data)
                .map_err(|error| in_file(target, error))?;
        }
        Ok(this)
    }

    /// Learns what the kernel consists of.
    fn learn_kernel(
        &mut self,
        sources: &Sources<'_>,
        config: Option<&HashSet<String>>,
    ) -> Result<()> {
        let mut image = match self.named.image() {
            Some(path) => Some(Booted::read(path).map_err(|error| in_file(path, error))?),
            None => None,
        };
        self.vmlinux = self.named.vmlinux(sources.vmlinux, image.as_ref())?;
        self.kernel.modules = self.named.modules();
        self.kernel.built_in = self.named.built_in();
        self.add_symbols(sources, &mut image)?;
        let release = self.named.release();
        let told = image
            .as_ref()
            .and_then(|image| image.image.vermagic(release));
        self.kernel.vermagic = told.or_else(|| self.named.vermagic()).or_else(|| {
            config
                // A seed of the configuration is part of it.
                .filter(|config| !config.contains("RANDSTRUCT"))
                .map(|config| vermagic(release, config))
        });
        self.add_exports(sources.exports, image.is_some())?;
        if self.depth == Depth::Everything {
            self.add_types(image.as_ref());
        }
        Ok(())
    }

    /// How much is looked at.
    pub fn depth(&self) -> Depth {
        self.depth
    }

    /// The layout of a patch's lists.
    pub fn layout(&self) -> Option<Layout> {
        self.kernel.types.as_ref()?.layout()
    }

    /// Learns the symbols of an object that a patch needs, if they are to be found.
    pub fn learn(&mut self, object: &str) {
        if self.depth == Depth::Module
            || object == "vmlinux"
            || self.kernel.files.contains_key(object)
        {
            return;
        }
        if self.kernel.symbols.contains_key(object) {
            // What is loaded counts; its file tells more if it is the same.
            if let Some(data) = self.file_of_loaded(object) {
                self.kernel.files.insert(object.into(), data);
            }
            return;
        }
        let Ok(path) = self.named.module(object) else {
            return;
        };
        let read = read_module(&path).map_err(|error| error.to_string());
        if let Err(error) = read.and_then(|data| self.add_module(object, &path, &data)) {
            let reason = in_file(&path, error);
            self.kernel.unreadable.insert(object.into(), reason);
        }
    }

    /// The file of a module that is loaded, if it is that of the same build.
    fn file_of_loaded(&self, module: &str) -> Option<Vec<u8>> {
        let data = read_module(&self.named.module(module).ok()?).ok()?;
        let parsed = Module::parse(&data).ok()?;
        is_loaded_build(self.machine, module, &parsed)?.then_some(data)
    }

    /// Learns into which functions those of a patch were inlined, if that is to be found. What
    /// cannot be read is no more than not known.
    pub fn learn_inlined(&mut self, patch: &Patch<'_>) {
        let mut learned = HashMap::new();
        let functions = patch.functions("vmlinux");
        if let (Some(path), false) = (&self.vmlinux, functions.is_empty()) {
            let found = inlined_in_vmlinux(path, &functions);
            let found = found.map_err(|error| in_file(path, error)).transpose();
            learned.extend(found.map(|found| ("vmlinux".into(), found)));
        }
        for (name, data) in &self.kernel.files {
            let found = Inlined::in_module(data, &patch.functions(name));
            let found = found.map_err(|error| format!("module {name}: {error}"));
            learned.extend(found.transpose().map(|found| (name.clone(), found)));
        }
        self.kernel.inlined = learned;
    }

    fn add_module(
        &mut self,
        name: &str,
        path: &Path,
        data: &[u8],
    ) -> std::result::Result<(), String> {
        let symbols = Symbols::of_module(&path.to_string_lossy(), data)?;
        self.kernel.symbols.insert(name.into(), symbols);
        if let Some(kernel) = &self.kernel.types {
            if let Ok(Some(types)) = Types::of_module(data, kernel) {
                self.kernel.module_types.insert(name.into(), types);
            }
        }
        self.kernel.files.insert(name.into(), data.into());
        Ok(())
    }

    fn add_exports(&mut self, named: &[PathBuf], of_image: bool) -> Result<()> {
        let found = Some(self.named.module_symvers()).filter(|path| path.is_file());
        let mut exports = Exports::default();
        for path in found.iter().chain(named) {
            let text = fs::read_to_string(path).map_err(|error| in_file(path, error))?;
            exports.add(&text).map_err(|error| in_file(path, error))?;
        }
        let live = self.named.is_running();
        if live || of_image {
            exports.add_tables(&self.kernel.symbols, live);
        }
        self.kernel.exports = Some(exports).filter(Exports::has_kernel);
        Ok(())
    }

    /// The symbols of the kernel, and of what is loaded.
    ///
    /// `image` is the one that the user names, or becomes the one that is found, if it is needed.
    fn add_symbols(&mut self, sources: &Sources<'_>, image: &mut Option<Booted>) -> Result<()> {
        let mut objects = BTreeMap::new();
        // What the user names must be good, what is found may be of no use.
        if let Some(path) = sources.system_map {
            let text = fs::read_to_string(path).map_err(|error| in_file(path, error))?;
            objects = Symbols::parse(&path.to_string_lossy(), &text)
                .map_err(|error| in_file(path, error))?;
            if !objects.get("vmlinux").is_some_and(Symbols::is_of_kernel) {
                return Err(in_file(path, "no symbols of a kernel").into());
            }
        } else if self.named.is_running() {
            objects = self.live_symbols();
        } else if let Some(image) = &image {
            let symbols = image.symbols();
            let symbols = symbols.map_err(|error| in_file(&image.path, error))?;
            objects.insert("vmlinux".into(), symbols);
        }
        let named = sources.vmlinux.is_some() && sources.system_map.is_none();
        if named || !objects.contains_key("vmlinux") {
            if let Some(path) = &self.vmlinux {
                match vmlinux(path) {
                    // What the kernel itself tells is better than what a file does not.
                    Ok(Some(symbols))
                        if symbols.has_sites() || !objects.contains_key("vmlinux") =>
                    {
                        objects.insert("vmlinux".into(), symbols);
                    }
                    Ok(_) => (),
                    Err(_) if sources.vmlinux.is_none() => (),
                    Err(error) => return Err(in_file(path, error).into()),
                }
            }
        }
        if !objects.contains_key("vmlinux") && !self.named.is_running() {
            // It tells more than a list, namely where ftrace can intercept calls.
            if let Some(path) = self.named.found_image() {
                let found = Booted::found(&path, self.named.release());
                match found.and_then(|found| Ok((found.symbols()?, found))) {
                    Ok((symbols, found)) => {
                        objects.insert("vmlinux".into(), symbols);
                        *image = Some(found);
                    }
                    Err(error) => {
                        let reason = in_file(&path, error);
                        self.kernel.unreadable.insert("vmlinux".into(), reason);
                    }
                }
            }
        }
        if !objects.contains_key("vmlinux") {
            for path in self.named.symbol_lists() {
                let Ok(text) = fs::read_to_string(&path) else {
                    continue;
                };
                match Symbols::parse(&path.to_string_lossy(), &text) {
                    Ok(found) if found.get("vmlinux").is_some_and(Symbols::is_of_kernel) => {
                        objects.extend(found);
                        break;
                    }
                    _ => (),
                }
            }
        }
        self.kernel.symbols = objects;
        Ok(())
    }

    /// The symbols of the running kernel and its modules, with their places if those may be seen.
    fn live_symbols(&self) -> BTreeMap<String, Symbols> {
        const KALLSYMS: &str = "/proc/kallsyms";
        let read = |path: &str| self.machine.read(path).ok().flatten();
        let Some(text) = read(KALLSYMS) else {
            return BTreeMap::new();
        };
        let mut objects = Symbols::parse(KALLSYMS, &text).unwrap_or_default();
        objects.retain(|name, symbols| name != "vmlinux" || symbols.has_addresses());
        if let Some(sites) = read(TRACEABLE) {
            Symbols::set_sites(&mut objects, &sites);
        } else if let Some(names) = read(TRACEABLE_BY_NAME) {
            Symbols::set_sites_by_name(&mut objects, &names);
        }
        objects
    }

    fn add_types(&mut self, image: Option<&Booted>) {
        if self.named.is_running() {
            let path = |name: &str| self.machine.path(format!("/sys/kernel/btf/{name}"));
            let Ok(data) = fs::read(path("vmlinux")) else {
                return;
            };
            let Ok(kernel) = Types::parse(&data) else {
                return;
            };
            let modules = self.kernel.symbols.keys();
            let modules: HashMap<_, _> = modules
                .filter_map(|name| {
                    let data = fs::read(path(name)).ok()?;
                    Some((name.clone(), Types::parse_module(&data, &kernel).ok()?))
                })
                .collect();
            self.kernel.module_types = modules;
            self.kernel.types = Some(kernel);
            return;
        }
        if let Some(path) = &self.vmlinux {
            if let Ok(data) = fs::read(path) {
                self.kernel.types = Types::of_file(&data).ok().flatten();
            }
        }
        if self.kernel.types.is_none() {
            self.kernel.types = image.and_then(Booted::types);
        }
    }

    /// What goes on in the running kernel.
    fn live(&self) -> Result<Live> {
        let mut live = Live {
            holders: self.holders()?,
            tasks: match self.depth {
                Depth::Everything => self.tasks()?,
                _ => None,
            },
            ..Live::default()
        };
        let mut obstacle = |text: &str, advice: &str| {
            live.obstacles.push((text.into(), advice.into()));
        };
        if explain::is_switched_off(self.machine) {
            obstacle(
                "no module can be loaded any more (kernel.modules_disabled)",
                "reboot",
            );
        }
        if explain::is_ftrace_off(self.machine) {
            obstacle(
                "ftrace is switched off, so that no patch can be enabled",
                "sysctl kernel.ftrace_enabled=1",
            );
        }
        match self.machine.status() {
            Ok(status) => {
                let mut patches = status.patches;
                patches.sort_by_key(|patch| patch.stack_order);
                live.patches = patches.iter().map(|patch| self.installed(patch)).collect();
            }
            Err(klp_live::Error::NoLivepatch(_)) => obstacle(
                "this kernel has no live patching",
                "boot a kernel with CONFIG_LIVEPATCH=y",
            ),
            Err(error) => return Err(error.into()),
        }
        Ok(live)
    }

    /// Who changes or follows calls of functions.
    fn holders(&self) -> Result<Option<Vec<Holder>>> {
        let Some(functions) = self.machine.enabled_functions()? else {
            return Ok(None);
        };
        let mut holders = vec![];
        for function in functions {
            let holds = [
                (function.ipmodify, Hold::Redirected),
                (function.direct, Hold::Direct),
            ];
            for (_, hold) in holds.into_iter().filter(|(is, _)| *is) {
                holders.push(Holder {
                    object: function.object.clone(),
                    func: function.name.clone(),
                    hold,
                });
            }
        }
        // A kprobe that keeps a patch from loading is among those above.
        for probe in self.machine.probes()?.unwrap_or_default() {
            holders.push(Holder {
                object: probe.object,
                func: probe.name,
                hold: Hold::Probe,
            });
        }
        Ok(Some(holders))
    }

    /// Which tasks have which functions on their stacks, if it can be seen.
    fn tasks(&self) -> Result<Option<Vec<Sitting>>> {
        let tids = match self.machine.tids() {
            Err(error) if error.is_permission_denied() => return Ok(None),
            tids => tids?,
        };
        let mut sitting = vec![];
        for tid in tids {
            let Some(task) = self.machine.task(tid)? else {
                continue;
            };
            for frame in task.stack.iter().flatten() {
                sitting.push(Sitting {
                    task: format!("{} {}", task.tid, Escaped(&task.comm)),
                    object: frame.module.clone().unwrap_or_else(|| "vmlinux".into()),
                    func: frame.func.clone(),
                });
            }
        }
        Ok(Some(sitting))
    }

    fn installed(&self, patch: &PatchStatus) -> Installed {
        let funcs = patch.objects.iter().flat_map(|object| {
            let funcs = object.funcs.iter();
            funcs.map(|func| (object.name.clone(), func.name.clone(), func.position.max(1)))
        });
        Installed {
            name: patch.name.clone(),
            funcs: funcs.collect(),
            states: self.states(&patch.name),
            in_transition: patch.transition.is_some(),
        }
    }

    /// The states that an installed patch declares, from its file if that is to be found, and is
    /// that of the module that is loaded.
    fn states(&self, name: &str) -> Option<Vec<State>> {
        let found = Store::new(self.machine).find(self.named.release(), name);
        let data = fs::read(found.ok()??.path).ok()?;
        let patch = Patch::parse(&data, self.layout()).ok()?;
        if !is_loaded_build(self.machine, name, patch.module())? {
            return None;
        }
        patch.declaration().ok()?.states.clone()
    }

    /// The names of the modules that are loaded.
    fn loaded(&self) -> Option<HashSet<String>> {
        let text = self.machine.read("/proc/modules").ok()??;
        let names = text.lines().filter_map(|line| line.split(' ').next());
        Some(names.map(Into::into).collect())
    }

    fn signatures(&self, config: Option<&HashSet<String>>) -> Signatures {
        let read = |path: &str| self.machine.read(path).ok().flatten();
        let enforced = read("/sys/module/module/parameters/sig_enforce");
        let lockdown = read("/sys/kernel/security/lockdown");
        let locked = lockdown.as_deref().is_some_and(|lockdown| {
            lockdown.contains("[integrity]") || lockdown.contains("[confidentiality]")
        });
        // Without securityfs nobody tells whether the kernel is locked down.
        let security = self.machine.path("/sys/kernel/security");
        let hidden = security.is_dir()
            && !security.join("lsm").exists()
            && config.is_none_or(|config| config.contains("SECURITY_LOCKDOWN_LSM"));
        match enforced.as_deref() {
            Some("Y") => Signatures::Demanded,
            _ if locked => Signatures::Demanded,
            // A kernel without the parameter has no code that checks signatures.
            None => Signatures::Ignored,
            Some(_) if lockdown.is_none() && hidden => Signatures::Unknown,
            Some(_) => Signatures::Optional,
        }
    }
}

/// The symbols of a vmlinux; [`None`] if it has others only, such as one with types alone.
fn vmlinux(path: &Path) -> std::result::Result<Option<Symbols>, String> {
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    let cache = object::ReadCache::new(file);
    let symbols = Symbols::of_vmlinux(&path.to_string_lossy(), &cache)?;
    Ok(Some(symbols).filter(Symbols::is_of_kernel))
}

/// The copies of functions in a vmlinux; [`None`] if it has no DWARF.
fn inlined_in_vmlinux(
    path: &Path,
    functions: &BTreeSet<Function>,
) -> std::result::Result<Option<Inlined>, String> {
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    Inlined::in_vmlinux(&object::ReadCache::new(file), functions)
}

/// What a kernel with these options demands in a module's `vermagic`.
fn vermagic(release: &str, config: &HashSet<String>) -> String {
    let has = |option: &str| config.contains(option);
    let mut words = vec![release];
    words.extend(has("SMP").then_some("SMP"));
    if has("PREEMPT_RT") {
        words.push("preempt_rt");
    } else if has("PREEMPT_BUILD") {
        words.push("preempt");
    }
    words.extend(has("MODULE_UNLOAD").then_some("mod_unload"));
    words.extend(has("MODVERSIONS").then_some("modversions"));
    words.join(" ")
}

impl Kernel<'_> {
    /// What the kernel demands, as one of its own modules has it.
    fn vermagic(&self) -> Option<String> {
        let path = self.first_module()?;
        let module = Module::parse(&read_module(&path).ok()?).ok()?;
        module.info("vermagic").map(Into::into)
    }
}
