// SPDX-License-Identifier: GPL-2.0

//! Types, layouts and inlined copies: a patch as a compiler makes it, against BTF and DWARF.

#[path = "../../convert/tests/module/mod.rs"]
mod file;

mod sample;

use std::{collections::BTreeSet, fs, path::Path, process::Command, sync::OnceLock};

use klp_check::{check, Inlined, Kernel, Layout, Level, Patch, Report, Rule, Types};
use proptest::prelude::*;

/// A patch of `do_nap()`, of which `HEADER` and `REPLACEMENT` are to be filled in.
const PATCH: &str = r#"
#include "include/task.h"
typedef unsigned long ulong_;
struct kobject { char space[64]; };
struct list_head { void *next, *prev; };
struct klp_func {
	const char *old_name;
	void *new_func;
	ulong_ old_sympos;
	void *old_func;
	struct kobject kobj;
	struct list_head node, stack_node;
	ulong_ old_size, new_size;
	char nop, patched, transition;
};
struct klp_object {
	const char *name;
	struct klp_func *funcs;
	void *callbacks[5];
	struct kobject kobj;
	struct list_head func_list, node;
	void *mod;
	char dynamic, patched;
};
struct klp_patch {
	void *mod;
	struct klp_object *objs;
	void *states;
	char replace;
	char rest[199];
};
__attribute__((used, section(".modinfo"))) static const char info[] =
	"license=GPL\0livepatch=Y\0vermagic=7.3.4 SMP mod_unload ";
__attribute__((section(".gnu.linkonce.this_module"))) struct { char space[24], name[104]; }
	__this_module = { .name = "fix" };
int printk(const char *format, ...);
REPLACEMENT
static struct klp_func funcs[] = { { .old_name = "do_nap", .new_func = replacement }, { } };
static struct klp_object objs[] = { { .funcs = funcs }, { } };
static struct klp_patch patch = { .mod = &__this_module, .objs = objs };
int klp_enable_patch(struct klp_patch *patch);
int init_module(void) { return klp_enable_patch(&patch) + printk("x"); }
"#;

const HEADER: &str = "struct task { int pid; long flags; };\n";
const RIGHT: &str =
    "static int replacement(struct task *task, int how) { return task->pid + how; }";

fn compile(directory: &Path, source: &str, output: &str, options: &[&str]) -> Vec<u8> {
    let file = directory.join("source.c");
    fs::write(&file, source).unwrap();
    let output = directory.join(output);
    let status = Command::new("gcc")
        .args(["-g", "-O2", "-fno-pic", "-fcf-protection=none"])
        .args(options)
        .current_dir(directory)
        .args([&file, Path::new("-o"), &output])
        .status();
    assert!(status.unwrap().success());
    fs::read(output).unwrap()
}

fn patch(header: &str, replacement: &str) -> Vec<u8> {
    patch_from(PATCH, header, replacement)
}

fn patch_from(source: &str, header: &str, replacement: &str) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("include")).unwrap();
    fs::write(directory.path().join("include/task.h"), header).unwrap();
    let source = source.replace("REPLACEMENT", replacement);
    compile(directory.path(), &source, "fix.ko", &["-c"])
}

/// BTF of `int do_nap(struct task *task, int how)`, and of the core's structures.
fn btf(task_size: u32, flags_at: u32) -> Vec<u8> {
    let mut strings = vec![0];
    let mut name = |text: &str| {
        let at = strings.len() as u32;
        strings.extend(text.bytes().chain([0]));
        at
    };
    let kind = |kind: u32, count: u32| kind << 24 | count;
    let words = [
        // 1: int, of 32 bits with a sign; 2: long.
        vec![name("int"), kind(1, 0), 4, 1 << 24 | 32],
        vec![name("long"), kind(1, 0), 8, 1 << 24 | 64],
        // 3: the structure, 4: a pointer to it.
        vec![
            name("task"),
            kind(4, 2),
            task_size,
            name("pid"),
            1,
            0,
            name("flags"),
            2,
            flags_at,
        ],
        vec![0, kind(2, 0), 3],
        // 5: the type of the function, 6: the function.
        vec![0, kind(13, 2), 1, name("task"), 4, name("how"), 1],
        vec![name("do_nap"), kind(12, 0), 5],
        vec![name("klp_func"), kind(4, 0), 152],
        vec![name("klp_object"), kind(4, 0), 168],
        vec![name("module"), kind(4, 0), 128],
    ]
    .concat();
    let types: Vec<_> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut data = vec![0x9f, 0xeb, 1, 0];
    let sizes = [24, 0, types.len(), types.len(), strings.len()];
    data.extend(sizes.iter().flat_map(|size| (*size as u32).to_le_bytes()));
    data.extend(types);
    data.extend(strings);
    data
}

fn kernel() -> Kernel {
    let mut kernel = sample::kernel();
    let mut exports = klp_check::Exports::default();
    exports
        .add(concat!(
            "0x0\t__asan_register_globals\tvmlinux\tEXPORT_SYMBOL\t\n",
            "0x0\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n",
            "0x0\tklp_enable_patch\tvmlinux\tEXPORT_SYMBOL_GPL\t\n",
        ))
        .unwrap();
    kernel.exports = Some(exports);
    kernel.types = Some(Types::parse(&btf(16, 64)).unwrap());
    kernel
}

fn report(data: &[u8], kernel: &Kernel) -> Report {
    let layout = kernel.types.as_ref().and_then(Types::layout);
    let mut report = check(&Patch::parse(data, layout).unwrap(), kernel);
    report.sort();
    report
}

/// The findings that are no lack of information.
fn findings(data: &[u8], kernel: &Kernel) -> Vec<(Rule, Level, Vec<String>)> {
    let findings = report(data, kernel).findings.into_iter();
    let findings = findings.filter(|finding| finding.level != Level::NoInformation);
    findings
        .map(|finding| (finding.rule, finding.level, finding.notes))
        .collect()
}

#[test]
fn a_patch_that_a_compiler_made() {
    let data = patch(HEADER, RIGHT);
    assert_eq!(findings(&data, &kernel()), []);
    assert_eq!(report(&data, &kernel()).without_information(), ["inlined"]);
    // The sizes of entries are found without the kernel's types, too.
    let found = Patch::parse(&data, None).unwrap();
    let sizes = found.declaration().unwrap().sizes;
    let layout = Layout {
        func: 152,
        object: 168,
    };
    assert_eq!(sizes, Some(layout));
    assert_eq!(kernel().types.unwrap().layout(), Some(layout));
}

#[test]
fn lists_with_redzones() {
    let lists = "static struct klp_func funcs[] = { { .old_name = \"do_nap\", .new_func = \
                 replacement }, { } };\nstatic struct klp_object objs[] = { { .funcs = funcs }, { } };";
    // As Clang makes them for a kernel with KASAN.
    let padded = "void __asan_register_globals(void *globals, long count);\n\
                  static struct { struct klp_func list[2]; char redzone[80]; } funcs = \
                  { { { .old_name = \"do_nap\", .new_func = replacement }, { } }, { } };\n\
                  static struct { struct klp_object list[2]; char redzone[80]; } objs = \
                  { { { .funcs = funcs.list }, { } }, { } };";
    assert!(PATCH.contains(lists));
    let source = PATCH
        .replace(lists, padded)
        .replace(".objs = objs", ".objs = objs.list")
        .replace(
            "return klp_enable_patch",
            "__asan_register_globals(0, 0); return klp_enable_patch",
        );
    let data = patch_from(&source, HEADER, RIGHT);
    assert_eq!(findings(&data, &kernel()), []);
}

#[test]
fn a_declaration_that_code_changes() {
    let code = |text: &str| {
        let replacement = format!(
            "static struct klp_func funcs[]; static struct klp_object objs[]; \
             static struct klp_patch patch; {RIGHT} void change(int which) {{ {text} }}"
        );
        findings(&patch(HEADER, &replacement), &kernel())
    };
    let unknown = [(Rule::Declaration, Level::Unknown)];
    for text in ["funcs[0].old_sympos = which;", "objs[0].name = \"x\";"] {
        let found: Vec<_> = code(text).into_iter().map(|one| (one.0, one.1)).collect();
        assert_eq!(found, unknown, "{text}");
    }
    // A callback may look at the patch.
    assert_eq!(code("printk(\"x\", &patch);"), []);
    let data = patch(
        HEADER,
        &format!("static struct klp_patch patch; {RIGHT} void change(int which) {{ patch.replace = 1; }}"),
    );
    let found = Patch::parse(&data, None).unwrap();
    assert_eq!(found.declaration().unwrap().replace, None);
}

#[test]
fn prototypes() {
    let cases: &[(&str, Level, &str)] = &[
        (
            "static int replacement(struct task *task) { return task->pid; }",
            Level::Error,
            "the function has 2 parameters, the replacement 1",
        ),
        (
            "static int replacement(struct task *task, long how) { return task->pid + how; }",
            Level::Error,
            "parameter 2 is a signed integer of 4 bytes, and a signed integer of 8 bytes in the \
             replacement",
        ),
        (
            "struct other { int x; }; static int replacement(struct other *o, int how) \
             { return o->x + how; }",
            Level::Error,
            "parameter 1 is a pointer to task, and a pointer to other in the replacement",
        ),
        (
            "static void replacement(struct task *task, int how) { task->pid = how; }",
            Level::Error,
            "the result is a signed integer of 4 bytes, and nothing in the replacement",
        ),
        (
            "static int replacement(struct task *task, unsigned how) { return task->pid + how; }",
            Level::Warning,
            "parameter 2 is a signed integer of 4 bytes, and an unsigned integer of 4 bytes in the \
             replacement",
        ),
    ];
    for (replacement, level, note) in cases {
        let found = findings(&patch(HEADER, replacement), &kernel());
        let [(Rule::Prototype, found_level, notes)] = &found[..] else {
            panic!("{replacement}: {found:?}");
        };
        assert_eq!((found_level, notes[0].as_str()), (level, *note));
    }
    // Nobody knows what such a pointer points to.
    let replacement = "static int replacement(void *task, int how) { return *(int *)task + how; }";
    assert_eq!(findings(&patch(HEADER, replacement), &kernel()), []);
}

#[test]
fn structures() {
    let data = patch(
        "struct task { int pid; int more; long flags[2]; };\n",
        RIGHT,
    );
    let found = findings(&data, &kernel());
    let [(Rule::Structure, Level::Error, notes)] = &found[..] else {
        panic!("{found:?}");
    };
    assert_eq!(
        notes[0],
        "it has 16 bytes in the kernel, and 24 in the module"
    );
    // The same size, but another order.
    let data = patch("struct task { long flags; int pid; };\n", RIGHT);
    let notes = &findings(&data, &kernel())[0].2;
    assert_eq!(
        notes[0],
        "the kernel has pid at byte 0, and the module flags at byte 0"
    );
    // The lists of another kernel.
    let mut other = kernel();
    let mut data = btf(16, 64);
    let size = data
        .windows(4)
        .position(|word| word == 152_u32.to_le_bytes())
        .unwrap();
    data[size] = 160;
    other.types = Some(Types::parse(&data).unwrap());
    let found = findings(&patch(HEADER, RIGHT), &other);
    assert_eq!((found[0].0, found[0].1), (Rule::Structure, Level::Error));
}

#[test]
fn bit_fields() {
    let header = "struct task { int pid; int : 4, flags : 8; } __attribute__((aligned(16)));\n";
    for options in [["-c", "-gdwarf-4"], ["-c", "-gdwarf-5"]] {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("include")).unwrap();
        fs::write(directory.path().join("include/task.h"), header).unwrap();
        let source = PATCH.replace("REPLACEMENT", RIGHT);
        let data = compile(directory.path(), &source, "fix.ko", &options);
        for (place, rules) in [(36, 0), (40, 1)] {
            let mut kernel = kernel();
            kernel.types = Some(Types::parse(&btf(16, place)).unwrap());
            let found = findings(&data, &kernel);
            assert_eq!(found.len(), rules, "{options:?}, bit {place}: {found:?}");
        }
    }
}

#[test]
fn a_symbol_without_a_place() {
    let data = patch(
        HEADER,
        &format!("int nowhere __attribute__((common)); {RIGHT}"),
    );
    let found = findings(&data, &kernel());
    let [(Rule::Symbol, Level::Error, notes)] = &found[..] else {
        panic!("{found:?}");
    };
    assert_eq!(notes[0], "the module loader refuses the module (ENOEXEC)");
}

/// The kernel's bindings have structures that the patch only has pointers to, and bindgen does not
/// get each of them right.
#[test]
fn structures_of_bindings() {
    const BINDINGS: &str = "#![no_std]
        pub mod bindings {
            #[repr(C)]
            pub struct module { a: [u64; 20] }
            #[repr(C)]
            pub struct task { a: [u64; SIZE] }
        }
        #[no_mangle]
        pub fn use_them(_: &bindings::module, _: &bindings::task) {}";
    let levels = |size: &str| {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("c.o"), patch(HEADER, RIGHT)).unwrap();
        fs::write(path("rust.rs"), BINDINGS.replace("SIZE", size)).unwrap();
        let run = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            let command = command.args(arguments).current_dir(directory.path());
            assert!(command.status().unwrap().success());
        };
        let rustc = "--crate-type=lib --emit=obj -g -Copt-level=0 -Cpanic=abort -o rust.o rust.rs";
        run("rustc", &rustc.split(' ').collect::<Vec<_>>());
        run("ld", &["-r", "-o", "fix.ko", "c.o", "rust.o"]);
        let found = findings(&fs::read(path("fix.ko")).unwrap(), &kernel());
        let levels: Vec<_> = found
            .into_iter()
            .map(|(rule, level, _)| (rule, level))
            .collect();
        levels
    };
    assert_eq!(levels("2"), [(Rule::Structure, Level::Warning)]);
    // This one the patched function gets.
    assert_eq!(
        levels("3"),
        [
            (Rule::Structure, Level::Error),
            (Rule::Structure, Level::Warning)
        ]
    );
}

#[test]
fn no_information() {
    let directory = tempfile::tempdir().unwrap();
    let stripped = directory.path().join("fix.ko");
    fs::write(&stripped, patch(HEADER, RIGHT)).unwrap();
    let status = Command::new("objcopy").arg("-g").arg(&stripped).status();
    assert!(status.unwrap().success());
    let data = fs::read(stripped).unwrap();
    let report = report(&data, &kernel());
    assert_eq!(
        report.without_information(),
        ["inlined", "prototype", "structure"]
    );
}

/// What is found for functions of `source`, linked like a kernel, and the same as a module.
fn inlined(directory: &Path, source: &str, functions: &[(&str, u64)]) -> (Inlined, Inlined) {
    let functions = functions.iter();
    let functions = functions.map(|(name, position)| ((*name).to_owned(), *position));
    let functions = functions.collect();
    let options = ["-nostdlib", "-static", "-Wl,-e0"];
    let vmlinux = compile(directory, source, "vmlinux", &options);
    let module = compile(directory, source, "module.ko", &["-c"]);
    let found = Inlined::in_vmlinux(&*vmlinux, &functions);
    let in_module = Inlined::in_module(&module, &functions);
    (found.unwrap().unwrap(), in_module.unwrap().unwrap())
}

/// What is said of a patch of `do_nap()` when these are its copies.
fn said(inlined: Inlined) -> Vec<(Level, String)> {
    let mut kernel = kernel();
    kernel.inlined.insert("vmlinux".into(), Ok(inlined));
    let report = report(&patch(HEADER, RIGHT), &kernel);
    let findings = report.findings.into_iter();
    let findings = findings.filter(|finding| finding.rule == Rule::Inlined);
    findings
        .map(|finding| (finding.level, finding.notes[0].clone()))
        .collect()
}

#[test]
fn inlined_copies() {
    const KERNEL: &str = "
        int pid;
        static inline __attribute__((always_inline)) int do_nap(int how) { return pid += how; }
        int replaced(void) { return do_nap(1) * 2; }
        int forgotten(void) { return do_nap(2) * 3; }
        __attribute__((section(\".init.text\"))) int gone(void) { return do_nap(4) * 5; }
        __attribute__((noinline)) static int other(int how) { return pid *= how; }
        int without(void) { return other(3); }
        int (*pointer)(int) = do_nap;
    ";
    let directory = tempfile::tempdir().unwrap();
    let functions = [("do_nap", 0), ("other", 0)];
    let (found, in_module) = inlined(directory.path(), KERNEL, &functions);
    assert_eq!(
        said(found.clone()),
        [(Level::Error, "forgotten, replaced".into())]
    );
    // A module's file, whose DWARF is relocated, tells the same.
    assert_eq!(in_module, found);
    // What is replaced, too, does not matter.
    let functions = [("do_nap", 0), ("replaced", 0), ("forgotten", 1)];
    let (found, in_module) = inlined(directory.path(), KERNEL, &functions);
    assert_eq!(said(found), []);
    assert_eq!(said(in_module), []);
    // Without DWARF nothing is known.
    let options = ["-g0", "-nostdlib", "-static", "-Wl,-e0"];
    let plain = compile(directory.path(), KERNEL, "vmlinux", &options);
    let names = BTreeSet::from([("do_nap".into(), 0)]);
    assert_eq!(Inlined::in_vmlinux(&*plain, &names), Ok(None));
}

/// Another function of the name, in another file, has copies of its own. One of a header is the same
/// function in all files that include it.
#[test]
fn copies_of_namesakes() {
    const HEADER: &str = "
        extern int pid;
        static inline __attribute__((always_inline)) int shared(int how) { return pid ^= how; }
    ";
    const ONE: &str = "
        #include \"shared.h\"
        int pid;
        static inline __attribute__((always_inline)) int do_nap(int how) { return pid += how; }
        int mine(void) { return do_nap(2) * 3; }
        int (*one)(int) = do_nap;
        int (*two)(int) = shared;
    ";
    const OTHER: &str = "
        #include \"shared.h\"
        static inline __attribute__((always_inline)) int do_nap(int how) { return pid -= how; }
        int theirs(void) { return do_nap(2) * 3; }
        int user(void) { return shared(2) * 3; }
        int (*other)(int) = do_nap;
    ";
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::write(path.join("shared.h"), HEADER).unwrap();
    for (source, object) in [(ONE, "one.o"), (OTHER, "other.o")] {
        fs::write(path.join(object).with_extension("c"), source).unwrap();
        let file = path.join(object).with_extension("c");
        let status = Command::new("gcc")
            .args(["-g", "-O2", "-fno-pic", "-c"])
            .current_dir(path)
            .args([&file, Path::new("-o"), &path.join(object)])
            .status();
        assert!(status.unwrap().success());
    }
    for (file, options) in [
        ("vmlinux", &["-static", "-e0", "-o", "vmlinux"][..]),
        ("module.ko", &["-r", "-o", "module.ko"]),
    ] {
        let status = Command::new("ld")
            .args(options)
            .args(["one.o", "other.o"])
            .current_dir(path)
            .status();
        assert!(status.unwrap().success());
        let data = fs::read(path.join(file)).unwrap();
        let look = |name: &str, position| {
            let functions = BTreeSet::from([(name.to_owned(), position)]);
            let found = match file {
                "vmlinux" => Inlined::in_vmlinux(&*data, &functions),
                _ => Inlined::in_module(&data, &functions),
            };
            format!("{:?}", found.unwrap().unwrap())
        };
        assert_eq!(
            look("do_nap", 1),
            r#"Inlined({("do_nap", 1): {"mine"}})"#,
            "{file}"
        );
        assert_eq!(look("do_nap", 2), r#"Inlined({("do_nap", 2): {"theirs"}})"#);
        assert_eq!(look("shared", 0), r#"Inlined({("shared", 0): {"user"}})"#);
        // Which of the two is not said; and one that there is not.
        assert_eq!(look("do_nap", 0), "Inlined({})");
        assert_eq!(look("do_nap", 3), "Inlined({})");
    }
}

/// A compiler names the functions that it makes of others in its own way.
#[test]
fn copies_of_variants() {
    const KERNEL: &str = "
        int pid;
        int variant(int how) asm(\"do_nap.isra.0\");
        __attribute__((noinline)) int caller(int how) asm(\"caller.constprop.0\");
        inline __attribute__((always_inline)) int variant(int how) { return pid += how; }
        int caller(int how) { return variant(how) * 2; }
        int forgotten(void) { return variant(2) * 3 + caller(1); }
        int (*pointer)(int) = variant;
    ";
    let directory = tempfile::tempdir().unwrap();
    let look = |functions: &[(&str, u64)]| {
        let (found, in_module) = inlined(directory.path(), KERNEL, functions);
        assert_eq!(found, in_module);
        format!("{found:?}")
    };
    assert_eq!(
        look(&[("do_nap.isra.0", 0)]),
        r#"Inlined({("do_nap.isra.0", 0): {"caller.constprop.0", "forgotten"}})"#
    );
    let both = look(&[("do_nap.isra.0", 0), ("caller.constprop.0", 0)]);
    assert!(
        both.contains(r#"("do_nap.isra.0", 0): {"forgotten"}"#),
        "{both}"
    );
}

/// What DWARF does not tell of, or cannot be read, is not known; it does not fit for that.
#[test]
fn copies_that_are_not_known() {
    const KERNEL: &str = "
        asm(\".globl do_nap; .type do_nap, @function; do_nap: ret; .size do_nap, .-do_nap\");
        int with_dwarf(void) { return 1; }
    ";
    let directory = tempfile::tempdir().unwrap();
    let (found, _) = inlined(directory.path(), KERNEL, &[("do_nap", 0)]);
    let [(Level::NoInformation, note)] = &said(found)[..] else {
        panic!("DWARF tells of it");
    };
    assert!(note.starts_with("DWARF does not tell of it"));
    let mut kernel = kernel();
    let reason = "its DWARF is compressed".to_owned();
    kernel.inlined.insert("vmlinux".into(), Err(reason.clone()));
    let report = report(&patch(HEADER, RIGHT), &kernel);
    assert_eq!(report.without_information(), ["inlined"]);
    assert_eq!(report.findings[0].notes[1], reason);
}

fn damage() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40)
}

proptest! {
    #[test]
    fn damaged_types_of_a_kernel(damage in damage()) {
        let mut data = btf(16, 64);
        for (index, byte) in damage {
            let at = index.index(data.len());
            data[at] = byte;
        }
        if let Ok(types) = Types::parse(&data) {
            static MODULE: OnceLock<Vec<u8>> = OnceLock::new();
            let module = MODULE.get_or_init(|| patch(HEADER, RIGHT));
            let mut kernel = kernel();
            kernel.types = Some(types);
            let _ = report(module, &kernel);
        }
        let _ = Types::parse_module(&data, &Types::parse(&btf(16, 64)).unwrap());
    }

    #[test]
    fn damaged_dwarf_of_a_module(damage in damage()) {
        static MODULE: OnceLock<Vec<u8>> = OnceLock::new();
        let mut data = MODULE.get_or_init(|| patch(HEADER, RIGHT)).clone();
        for (index, byte) in damage {
            let at = index.index(data.len());
            data[at] = byte;
        }
        let names = BTreeSet::from([("replacement".into(), 0)]);
        let _ = Inlined::in_module(&data, &names);
        let _ = Inlined::in_vmlinux(&*data, &names);
        if let Ok(patch) = Patch::parse(&data, None) {
            let _ = check(&patch, &kernel());
        }
    }
}
