// SPDX-License-Identifier: GPL-2.0

//! A module that fits, and for each rule some that do not.

#[path = "../../convert/tests/module/mod.rs"]
mod file;

mod sample;

use std::collections::HashSet;

use klp_check::{
    check, check_quickly, Exports, Hold, Holder, Installed, Kernel, Layout, Level, Live, Patch,
    Report, Rule, Signatures, Sitting, State, Symbols, Verdict,
};
use sample::{func, kernel, object, Declared, Sample, SIGNATURE};

fn report(sample: &Sample, kernel: &Kernel) -> Report {
    let data = sample.build();
    check(&Patch::parse(&data, None).unwrap(), kernel)
}

/// The findings that count, as rule and level.
fn findings(sample: &Sample, kernel: &Kernel) -> Vec<(Rule, Level)> {
    let report = report(sample, kernel);
    let counted = report
        .findings
        .iter()
        .filter(|finding| finding.level > Level::NoInformation);
    counted
        .map(|finding| (finding.rule, finding.level))
        .collect()
}

/// One change, and what comes of it.
type Case = (
    &'static str,
    fn(&mut Sample, &mut Kernel),
    &'static [(Rule, Level)],
);

const MODULE: &[Case] = &[
    (
        "writable code",
        |sample, _| sample.text_flags |= 1,
        &[(Rule::Module, Level::Error)],
    ),
    (
        "writable code that is not loaded",
        |sample, _| sample.text_flags = 1 | 4,
        &[
            (Rule::Module, Level::Error),
            (Rule::Relocation, Level::Error),
        ],
    ),
    (
        "another architecture",
        |sample, _| sample.machine = 183,
        &[(Rule::Module, Level::Unknown)],
    ),
    (
        "another value of the mark",
        |sample, _| sample.info = sample.info.replace("livepatch=Y", "livepatch=N"),
        &[(Rule::Livepatch, Level::Warning)],
    ),
    (
        "no mark",
        |sample, _| sample.info = sample.info.replace("livepatch=Y\0", ""),
        &[(Rule::Livepatch, Level::Error)],
    ),
    (
        "another release",
        |sample, _| sample.info = sample.info.replace("7.3.4", "7.3.5"),
        &[(Rule::Vermagic, Level::Error)],
    ),
    (
        "another configuration",
        |sample, _| sample.info = sample.info.replace("SMP", "SMP preempt"),
        &[(Rule::Vermagic, Level::Error)],
    ),
    (
        "no vermagic",
        |sample, _| sample.info = sample.info.replace("vermagic", "vrmagic"),
        &[(Rule::Vermagic, Level::Error)],
    ),
    (
        "another release, with checksums",
        |sample, _| {
            sample.info = sample.info.replace("7.3.4", "7.3.5");
            sample.versions = vec![(0xabcd, "printk")];
        },
        &[(Rule::Vermagic, Level::Error)],
    ),
    (
        "no vermagic, for a kernel that loads by force",
        |sample, kernel| {
            sample.info = sample.info.replace("vermagic", "vrmagic");
            kernel.loads_by_force = true;
        },
        &[(Rule::Vermagic, Level::Warning)],
    ),
    (
        "nothing is known of vermagic",
        |_, kernel| kernel.vermagic = None,
        &[(Rule::Vermagic, Level::Unknown)],
    ),
    (
        "no signature",
        |_, kernel| kernel.signatures = Signatures::Demanded,
        &[(Rule::Signature, Level::Error)],
    ),
    (
        "a signature by a key that nobody knows",
        |sample, kernel| {
            sample.signature = SIGNATURE.into();
            kernel.signatures = Signatures::Demanded;
        },
        &[(Rule::Signature, Level::Unknown)],
    ),
    (
        "a signature of which nothing is left",
        |sample, _| sample.signature = vec![0xff; 4],
        &[(Rule::Signature, Level::Error)],
    ),
    (
        "a signature that is longer than the file",
        |sample, _| {
            sample.signature = SIGNATURE.into();
            sample.signature[10] = 1;
        },
        &[(Rule::Signature, Level::Error)],
    ),
    (
        "a signature with a value too many",
        |sample, _| {
            sample.signature = SIGNATURE.into();
            sample.signature[3] = 1;
        },
        &[(Rule::Signature, Level::Error)],
    ),
    (
        "a signature without a message",
        |sample, kernel| {
            sample.signature = SIGNATURE.into();
            sample.signature[0] = 0;
            kernel.signatures = Signatures::Demanded;
        },
        &[(Rule::Signature, Level::Error)],
    ),
];

const SYMBOLS: &[Case] = &[
    (
        "a checksum that differs",
        |sample, _| sample.versions = vec![(0x1234, "printk")],
        &[(Rule::Modversions, Level::Error)],
    ),
    (
        "a checksum that is missing",
        |sample, kernel| {
            sample.info = sample.info.replace("mod_unload", "mod_unload modversions");
            sample.versions = vec![(1, "other"), (5, "module_layout")];
            kernel.vermagic = Some("7.3.4 SMP mod_unload modversions ".into());
        },
        &[(Rule::Modversions, Level::Error)],
    ),
    (
        "checksums that are missing among long names",
        |sample, kernel| {
            sample.info = sample.info.replace("mod_unload", "mod_unload modversions");
            sample.versions = vec![(1, "other")];
            sample.long_names = true;
            kernel.vermagic = Some("7.3.4 SMP mod_unload modversions ".into());
        },
        &[
            (Rule::Modversions, Level::Warning),
            (Rule::Modversions, Level::Warning),
        ],
    ),
    (
        "no checksum at all",
        |sample, kernel| {
            sample.info = sample.info.replace("mod_unload", "mod_unload modversions");
            kernel.vermagic = Some("7.3.4 SMP mod_unload modversions ".into());
        },
        &[(Rule::Modversions, Level::Error)],
    ),
    (
        "no checksum at all, for a kernel that loads by force",
        |sample, kernel| {
            sample.info = sample.info.replace("mod_unload", "mod_unload modversions");
            kernel.vermagic = Some("7.3.4 SMP mod_unload modversions ".into());
            kernel.loads_by_force = true;
        },
        &[(Rule::Modversions, Level::Warning)],
    ),
    (
        "another struct module",
        |sample, _| sample.versions = vec![(0xabcd, "printk"), (7, "module_layout")],
        &[(Rule::Modversions, Level::Error)],
    ),
    (
        "a symbol that nobody exports",
        |sample, _| sample.undefined = vec!["do_nap"],
        &[(Rule::Symbol, Level::Error)],
    ),
    (
        "nothing is known of exports",
        |_, kernel| kernel.exports = None,
        &[(Rule::Symbol, Level::Unknown)],
    ),
    (
        "a symbol for others",
        |sample, _| sample.info = sample.info.replace("license=GPL", "license=mine"),
        &[(Rule::Symbol, Level::Error)],
    ),
    (
        "a name space",
        |sample, _| sample.undefined = vec!["spaced"],
        &[(Rule::Symbol, Level::Error)],
    ),
    (
        "a name space of a kernel that only warns",
        |sample, kernel| {
            sample.undefined = vec!["spaced"];
            kernel.lax_namespaces = true;
        },
        &[(Rule::Symbol, Level::Warning)],
    ),
    (
        "a name space for others",
        |sample, _| sample.undefined = vec!["for_kvm"],
        &[(Rule::Symbol, Level::Error)],
    ),
    (
        "a module that is not loaded",
        |sample, kernel| {
            sample.undefined = vec!["driver_call"];
            kernel.loaded = Some(HashSet::new());
        },
        &[(Rule::Symbol, Level::Error)],
    ),
];

const DECLARATION: &[Case] = &[
    (
        "a function with a name without end",
        |sample, _| sample.funcs(0)[0].name = Some(ENDLESS),
        &[
            (Rule::Declaration, Level::Error),
            (Rule::FunctionMissing, Level::Error),
        ],
    ),
    (
        "a declaration that code makes",
        |sample, _| sample.declared = Declared::Nothing,
        &[(Rule::Declaration, Level::Unknown)],
    ),
    (
        "two declarations",
        |sample, _| sample.declared = Declared::Twice,
        &[(Rule::Declaration, Level::Unknown)],
    ),
    (
        "no functions",
        |sample, _| sample.objects[1].funcs = None,
        &[(Rule::Declaration, Level::Error)],
    ),
    (
        "no replacement",
        |sample, _| sample.funcs(0)[0].replaced = false,
        &[(Rule::Declaration, Level::Error)],
    ),
    (
        "no name",
        |sample, _| sample.funcs(0)[0].name = None,
        &[(Rule::Declaration, Level::Error)],
    ),
    (
        "a replacement that is freed",
        |sample, _| sample.text_name = ".init.text",
        &[
            (Rule::Declaration, Level::Error),
            (Rule::Declaration, Level::Error),
        ],
    ),
    (
        "an object twice",
        |sample, _| sample.objects.push(object(None, vec![])),
        &[(Rule::Declaration, Level::Error)],
    ),
    (
        "a state twice",
        |sample, _| sample.states = vec![(1, 1), (1, 2)],
        &[(Rule::Declaration, Level::Warning)],
    ),
    (
        "a module with a dash",
        |sample, kernel| {
            sample.objects[1].name = Some("dri-ver");
            let driver = kernel.symbols["driver"].clone();
            kernel.symbols.insert("dri-ver".into(), driver);
        },
        &[(Rule::Object, Level::Error)],
    ),
    (
        "the kernel as a module",
        |sample, _| sample.objects[0].name = Some("vmlinux"),
        &[(Rule::Object, Level::Error)],
    ),
    (
        "a module that is built in",
        |_, kernel| kernel.built_in = HashSet::from(["driver".into()]),
        &[(Rule::Object, Level::Error)],
    ),
    (
        "a module that there is not",
        |_, kernel| {
            kernel.modules = Some(HashSet::from(["other".into()]));
            kernel.symbols.remove("driver");
        },
        &[
            (Rule::Object, Level::Warning),
            (Rule::FunctionMissing, Level::Unknown),
        ],
    ),
];

const FUNCTIONS: &[Case] = &[
    (
        "a function that is missing",
        |sample, _| sample.funcs(0)[0].name = Some("do_naps"),
        &[(Rule::FunctionMissing, Level::Error)],
    ),
    (
        "a function that is missing in a module",
        |sample, _| sample.funcs(1)[0].name = Some("do_nap"),
        &[(Rule::FunctionMissing, Level::Error)],
    ),
    (
        "a function that is missing in a module that is not loaded",
        |sample, kernel| {
            kernel.loaded = Some(HashSet::new());
            sample.funcs(1)[0].name = Some("do_nap");
        },
        &[(Rule::FunctionMissing, Level::Error)],
    ),
    (
        "data of a module that is not loaded",
        |sample, kernel| {
            kernel.loaded = Some(HashSet::new());
            target(kernel, &Sample::default());
            sample.funcs(1)[0].name = Some("funcs");
            sample.funcs(1)[0].position = 1;
        },
        &[(Rule::FunctionTraceable, Level::Error)],
    ),
    (
        "a function of the initialisation of a module that is not loaded",
        |sample, kernel| {
            kernel.loaded = Some(HashSet::new());
            let file = Sample {
                text_name: ".init.text",
                ..Sample::default()
            };
            target(kernel, &file);
            sample.funcs(1)[0].name = Some("replacement");
        },
        &[(Rule::FunctionInit, Level::Error)],
    ),
    (
        "a module's file that does not tell what ftrace can intercept",
        |sample, kernel| {
            target(kernel, &Sample::default());
            sample.funcs(1)[0].name = Some("replacement");
        },
        &[(Rule::FunctionTraceable, Level::Unknown)],
    ),
    (
        "a module's file that cannot be read",
        |_, kernel| {
            kernel.symbols.remove("driver");
            let reason = "driver.ko: damaged".to_owned();
            kernel.unreadable.insert("driver".into(), reason);
        },
        &[(Rule::FunctionMissing, Level::Unknown)],
    ),
    (
        "nothing is known of the module's symbols",
        |_, kernel| _ = kernel.symbols.remove("driver"),
        &[(Rule::FunctionMissing, Level::Unknown)],
    ),
    (
        "which of two",
        |sample, _| sample.funcs(0)[0].name = Some("twin"),
        &[(Rule::FunctionAmbiguous, Level::Error)],
    ),
    (
        "the third of two",
        |sample, _| sample.objects[0] = object(None, vec![func("twin", 3)]),
        &[(Rule::FunctionPosition, Level::Error)],
    ),
    (
        "the second of one",
        |sample, _| sample.objects[0] = object(None, vec![func("do_nap", 2)]),
        &[(Rule::FunctionPosition, Level::Error)],
    ),
    (
        "a function without a call of ftrace",
        |sample, _| sample.funcs(0)[0].name = Some("hidden"),
        &[(Rule::FunctionTraceable, Level::Error)],
    ),
    (
        "data",
        |sample, _| sample.funcs(0)[0].name = Some("jiffies"),
        &[(Rule::FunctionTraceable, Level::Error)],
    ),
    (
        "nothing is known of ftrace",
        |_, kernel| kernel.symbols = Symbols::parse("kallsyms", sample::KALLSYMS).unwrap(),
        &[
            (Rule::FunctionTraceable, Level::Unknown),
            (Rule::FunctionTraceable, Level::Unknown),
        ],
    ),
    (
        "ftrace can intercept one of two, and only tells names",
        |sample, kernel| {
            by_name(kernel, "do_nap\ntwin\nprobe [driver]\n");
            sample.objects[0] = object(None, vec![func("twin", 2)]);
        },
        &[(Rule::FunctionTraceable, Level::Unknown)],
    ),
    (
        "a function without a call of ftrace, which only tells names",
        |sample, kernel| {
            by_name(kernel, "do_nap\nprobe [driver]\n");
            sample.funcs(0)[0].name = Some("hidden");
        },
        &[(Rule::FunctionTraceable, Level::Error)],
    ),
    (
        "a function of the initialisation",
        |sample, _| sample.funcs(0)[0].name = Some("start_up"),
        &[(Rule::FunctionInit, Level::Error)],
    ),
    (
        "a function whose end is not known",
        |sample, kernel| {
            sample.livepatch.clear();
            let text = "ffffffff81000000 T _stext\nffffffff81000010 t do_nap\n";
            let mut symbols = Symbols::parse("kallsyms", text).unwrap();
            Symbols::set_sites(&mut symbols, "ffffffff81000010 do_nap\n");
            kernel.symbols.extend(symbols);
        },
        &[
            (Rule::FunctionTraceable, Level::Unknown),
            (Rule::FunctionSize, Level::Unknown),
        ],
    ),
    (
        "a copy that stays",
        |sample, _| sample.funcs(0)[0].name = Some("copied"),
        &[(Rule::FunctionCopies, Level::Warning)],
    ),
    (
        "a function twice",
        |sample, _| {
            sample.objects[0] = object(None, vec![func("do_nap", 0), func("do_nap", 1)]);
        },
        &[(Rule::FunctionTwice, Level::Error)],
    ),
    (
        "two names of a function",
        |sample, _| sample.objects[0] = object(None, vec![func("do_nap", 0), func("alias", 0)]),
        &[(Rule::FunctionTwice, Level::Error)],
    ),
];

/// What only kpatch's lists tell, or can be wrong about.
const KPATCH: &[Case] = &[
    (
        "two callbacks of a kind",
        |sample, _| {
            sample.declared = Declared::Kpatch;
            sample.callbacks = vec![("post_patch", "driver"), ("post_patch", "driver")];
        },
        &[(Rule::Declaration, Level::Error)],
    ),
    (
        "another position than that of the function",
        |sample, _| {
            sample.declared = Declared::Kpatch;
            sample.objects[0] = object(None, vec![made_for("twin", 1, 0x9000_0090)]);
        },
        &[(Rule::FunctionPosition, Level::Error)],
    ),
    (
        "a position in another build",
        |sample, _| {
            sample.declared = Declared::Kpatch;
            sample.objects[0] = object(None, vec![made_for("twin", 1, 0x9000_0050)]);
        },
        &[(Rule::FunctionPosition, Level::Unknown)],
    ),
    (
        "functions of another build",
        |sample, _| {
            sample.declared = Declared::Kpatch;
            let funcs = vec![
                made_for("do_nap", 1, 0x9000_0020),
                made_for("copied.part.0", 0, 0x9000_00c0),
            ];
            sample.objects[0] = object(None, funcs);
        },
        &[(Rule::Vermagic, Level::Warning)],
    ),
];

const RELOCATIONS: &[Case] = &[
    (
        "a symbol that is missing",
        |sample, _| sample.livepatch = vec![("vmlinux", ".klp.sym.vmlinux.nowhere,0")],
        &[(Rule::Relocation, Level::Error)],
    ),
    (
        "a symbol that is not clear",
        |sample, _| sample.livepatch = vec![("vmlinux", ".klp.sym.vmlinux.twin,0")],
        &[(Rule::Relocation, Level::Error)],
    ),
    (
        "the third of two",
        |sample, _| sample.livepatch = vec![("vmlinux", ".klp.sym.vmlinux.twin,3")],
        &[(Rule::Relocation, Level::Error)],
    ),
    (
        "a symbol that is gone",
        |sample, _| sample.livepatch = vec![("vmlinux", ".klp.sym.vmlinux.start_up,0")],
        &[(Rule::Relocation, Level::Error)],
    ),
    (
        "a symbol without a position",
        |sample, _| sample.livepatch = vec![("vmlinux", ".klp.sym.vmlinux.twin")],
        &[(Rule::Relocation, Level::Error)],
    ),
    (
        "a symbol of an object that nobody knows",
        |sample, kernel| {
            kernel.loaded = None;
            sample.livepatch = vec![("driver", ".klp.sym.stranger.it,0")];
        },
        &[(Rule::Relocation, Level::Unknown)],
    ),
    (
        "a symbol of an object that is not loaded",
        |sample, kernel| {
            kernel.loaded = Some(HashSet::from(["driver".into()]));
            sample.livepatch = vec![("driver", ".klp.sym.stranger.it,0")];
        },
        &[(Rule::Relocation, Level::Error)],
    ),
    (
        "an object that is not patched",
        |sample, _| {
            sample.objects.pop();
            sample.livepatch = vec![("driver", ".klp.sym.driver.probe,0")];
        },
        &[(Rule::Relocation, Level::Error)],
    ),
    (
        "a symbol of the kernel in relocations of a module",
        |sample, _| sample.livepatch = vec![("driver", ".klp.sym.vmlinux.do_nap,0")],
        &[(Rule::Relocation, Level::Error)],
    ),
    (
        "a symbol of a module in relocations of the kernel",
        |sample, _| sample.livepatch = vec![("vmlinux", ".klp.sym.driver.probe,0")],
        &[(Rule::Relocation, Level::Error)],
    ),
    (
        "a symbol of the kernel in relocations of a module, of a kernel that takes that",
        |sample, kernel| {
            sample.info = sample.info.replace("7.3.4", "6.12.1");
            kernel.release = Some("6.12.1".into());
            kernel.vermagic = Some("6.12.1 SMP mod_unload ".into());
            sample.livepatch = vec![("driver", ".klp.sym.vmlinux.do_nap,0")];
        },
        &[(Rule::Relocation, Level::Error)],
    ),
    (
        "a symbol that is missing in a module that is not loaded",
        |sample, kernel| {
            kernel.loaded = Some(HashSet::new());
            sample.livepatch = vec![("driver", ".klp.sym.driver.nowhere,0")];
        },
        &[(Rule::Relocation, Level::Error)],
    ),
    (
        "a symbol that lost its mark, of a module that is not loaded",
        |sample, kernel| {
            kernel.loaded = Some(HashSet::new());
            sample.livepatch = vec![("driver", ".klp.sym.driver.probe,0")];
            sample.livepatch_section = 0xfff1;
        },
        &[(Rule::Relocation, Level::Error)],
    ),
    (
        "a relocation of what is not in the section",
        |sample, _| sample.livepatch_place = 1 << 20,
        &[(Rule::Relocation, Level::Error)],
    ),
    (
        "a section without an object",
        |sample, _| sample.livepatch = vec![("", ".klp.sym.vmlinux.do_nap,0")],
        &[(Rule::Relocation, Level::Error)],
    ),
    (
        "a section that lost its mark",
        |sample, _| sample.livepatch_marked = false,
        &[
            (Rule::Relocation, Level::Error),
            (Rule::Relocation, Level::Error),
        ],
    ),
    (
        "a symbol that lost its mark",
        |sample, _| sample.livepatch_section = 0xfff1,
        &[(Rule::Relocation, Level::Error)],
    ),
    (
        "relocations that come too late",
        |sample, _| {
            sample.text_name = ".init.text";
            sample.objects[0] = object(None, vec![]);
            sample.objects[1] = object(Some("driver"), vec![]);
            sample.declared = Declared::External;
            sample.livepatch = vec![("driver", ".klp.sym.driver.probe,0")];
        },
        &[(Rule::Relocation, Level::Error)],
    ),
];

const LIVE: &[Case] = &[
    (
        "a function that is redirected",
        |_, kernel| live(kernel).holders = Some(vec![holder(Hold::Redirected)]),
        &[(Rule::Held, Level::Error)],
    ),
    (
        "a function with a BPF trampoline",
        |_, kernel| live(kernel).holders = Some(vec![holder(Hold::Direct)]),
        &[(Rule::Held, Level::Warning)],
    ),
    (
        "a function with a kprobe",
        |_, kernel| live(kernel).holders = Some(vec![holder(Hold::Probe)]),
        &[(Rule::Held, Level::Warning)],
    ),
    (
        "who holds functions cannot be seen",
        |_, kernel| live(kernel).holders = None,
        &[(Rule::Held, Level::Unknown)],
    ),
    (
        "another patch has a newer state",
        |sample, kernel| {
            sample.states = vec![(1, 1)];
            live(kernel).patches = vec![installed(Some((1, 2)))];
        },
        &[(Rule::Installed, Level::Error)],
    ),
    (
        "another patch has a state that its replacement does not know",
        |sample, kernel| {
            sample.replace = true;
            live(kernel).patches = vec![installed(Some((1, 2)))];
        },
        &[(Rule::Installed, Level::Error)],
    ),
    (
        "nothing is known of another patch's states",
        |sample, kernel| {
            sample.replace = true;
            live(kernel).patches = vec![installed(None)];
        },
        &[(Rule::Installed, Level::Unknown)],
    ),
    (
        "a transition",
        |_, kernel| {
            let mut other = installed(Some((1, 1)));
            other.in_transition = true;
            live(kernel).patches = vec![other];
        },
        &[(Rule::Busy, Level::Error)],
    ),
    (
        "a module of this name",
        |_, kernel| {
            live(kernel);
            kernel.loaded = Some(HashSet::from(["fix".into()]));
        },
        &[(Rule::Busy, Level::Error)],
    ),
    (
        "no modules any more",
        |_, kernel| live(kernel).obstacles = vec![("closed".into(), "reboot".into())],
        &[(Rule::Busy, Level::Error)],
    ),
];

/// What the kernel takes, though it is an error: the patch does something else than it should, or
/// what is loaded later is refused.
const TAKEN: &[&str] = &[
    "another release, with checksums",
    "a module with a dash",
    "the kernel as a module",
    "a module that is built in",
    "a function that is missing in a module that is not loaded",
    "data of a module that is not loaded",
    "a function of the initialisation of a module that is not loaded",
    "two names of a function",
    "another position than that of the function",
    "a symbol of a module in relocations of the kernel",
    "a symbol of the kernel in relocations of a module, of a kernel that takes that",
    "a symbol that is missing in a module that is not loaded",
    "a symbol that lost its mark, of a module that is not loaded",
];

const ENDLESS: &str = match std::str::from_utf8(&[b'x'; 600]) {
    Ok(name) => name,
    Err(_) => "",
};

/// A function as kpatch's list has it.
fn made_for(name: &'static str, position: u64, address: u64) -> sample::Func {
    sample::Func {
        made_for: address,
        ..func(name, position)
    }
}

/// Has the symbols of the module `driver` come from a file.
fn target(kernel: &mut Kernel, file: &Sample) {
    let symbols = Symbols::of_module("driver.ko", &file.build()).unwrap();
    kernel.symbols.insert("driver".into(), symbols);
}

/// Has ftrace tell the names of functions only.
fn by_name(kernel: &mut Kernel, names: &str) {
    kernel.symbols = Symbols::parse("kallsyms", sample::KALLSYMS).unwrap();
    Symbols::set_sites_by_name(&mut kernel.symbols, names);
}

fn cases() -> impl Iterator<Item = &'static Case> {
    let all = [
        MODULE,
        SYMBOLS,
        DECLARATION,
        FUNCTIONS,
        KPATCH,
        RELOCATIONS,
        LIVE,
    ];
    all.into_iter().flatten()
}

fn live(kernel: &mut Kernel) -> &mut Live {
    kernel.live.insert(Live {
        holders: Some(vec![]),
        ..Live::default()
    })
}

fn holder(hold: Hold) -> Holder {
    Holder {
        object: "vmlinux".into(),
        func: "do_nap".into(),
        hold,
    }
}

fn installed(state: Option<(u64, u64)>) -> Installed {
    Installed {
        name: "older".into(),
        funcs: vec![("vmlinux".into(), "other".into(), 1)],
        states: state.map(|(id, version)| vec![State { id, version }]),
        in_transition: false,
    }
}

#[test]
fn what_fits() {
    let report = report(&Sample::default(), &kernel());
    assert_eq!(report.verdict(false), Verdict::Fits, "{report:#?}");
    assert_eq!(
        report.without_information(),
        ["inlined", "prototype", "structure"]
    );
    assert_eq!(report.verdict(true), Verdict::Unknown);
}

#[test]
fn shapes() {
    for declared in [Declared::External, Declared::Kpatch] {
        let sample = Sample {
            declared,
            ..Sample::default()
        };
        assert_eq!(findings(&sample, &kernel()), [], "{declared:?}");
        let data = sample.build();
        let patch = Patch::parse(&data, None).unwrap();
        let declaration = patch.declaration().unwrap();
        assert_eq!(declaration.objects.len(), 2, "{declared:?}");
        assert_eq!(declaration.objects[1].name(), "driver");
    }
}

#[test]
fn broken_modules() {
    for (name, change, expected) in cases() {
        let (mut sample, mut kernel) = (Sample::default(), kernel());
        change(&mut sample, &mut kernel);
        assert_eq!(findings(&sample, &kernel), *expected, "{name}");
    }
}

#[test]
fn what_the_kernel_refuses() {
    for (name, change, _) in cases() {
        let (mut sample, mut kernel) = (Sample::default(), kernel());
        change(&mut sample, &mut kernel);
        let report = report(&sample, &kernel);
        let refused = report.findings.iter().any(|finding| finding.refused);
        let errors = report.findings.iter();
        let errors = errors.filter(|finding| finding.level == Level::Error);
        assert_eq!(
            refused,
            errors.count() > 0 && !TAKEN.contains(name),
            "{name}"
        );
    }
    for name in TAKEN {
        assert!(cases().any(|(case, ..)| case == name), "{name}");
    }
}

#[test]
fn what_is_quickly_seen() {
    let data = Sample::default().build();
    let report = check_quickly(&Patch::parse(&data, None).unwrap(), &kernel());
    assert_eq!(report.verdict(false), Verdict::Fits);
    assert_eq!(
        report.without_information(),
        ["inlined", "prototype", "structure"]
    );
    assert_eq!(report.verdict(true), Verdict::Unknown);
}

/// What a kernel without demands makes of a signature is not known, unless it cannot check any.
#[test]
fn signatures_that_are_not_known() {
    let sample = Sample {
        signature: SIGNATURE.into(),
        ..Sample::default()
    };
    let mut kernel = kernel();
    let mut without = |signatures| {
        kernel.signatures = signatures;
        let report = report(&sample, &kernel);
        assert_eq!(report.verdict(false), Verdict::Fits);
        report.without_information().contains(&"signature")
    };
    assert!(without(Signatures::Optional));
    assert!(without(Signatures::Unknown));
    assert!(!without(Signatures::Ignored));
}

#[test]
fn a_patch_of_too_many_functions() {
    for declared in [Declared::Static, Declared::External, Declared::Kpatch] {
        let sample = |count| Sample {
            declared,
            objects: vec![object(None, vec![func("do_nap", 0); count])],
            ..Sample::default()
        };
        let declaration = |count| {
            let data = sample(count).build();
            let layout = Layout {
                func: 152,
                object: 168,
            };
            let patch = Patch::parse(&data, Some(layout))?;
            patch.declaration().map(|_| ()).map_err(str::to_owned)
        };
        assert_eq!(declaration(2), Ok(()), "{declared:?}");
        let error = declaration(65_600).unwrap_err();
        assert!(error.contains("more than 65536"), "{declared:?}: {error}");
    }
}

#[test]
fn all_rules_are_tried() {
    // These have tests of their own.
    let elsewhere = [Rule::Prototype, Rule::Structure, Rule::Inlined, Rule::Tasks];
    for rule in Rule::ALL.iter().filter(|rule| !elsewhere.contains(rule)) {
        let mut expected = cases().flat_map(|(_, _, expected)| *expected);
        assert!(expected.any(|(tried, _)| tried == rule), "{rule}");
    }
}

#[test]
fn what_is_right_though_it_looks_wrong() {
    type Fit = (&'static str, fn(&mut Sample, &mut Kernel));
    let fits: &[Fit] = &[
        ("the second of two", |sample, _| {
            sample.objects[0] = object(None, vec![func("twin", 2)]);
        }),
        ("both of two, and one more", |sample, _| {
            let funcs = vec![func("do_nap", 0), func("twin", 1), func("twin", 2)];
            sample.objects[0] = object(None, funcs);
        }),
        ("the first of one", |sample, _| {
            sample.objects[0] = object(None, vec![func("do_nap", 1)]);
        }),
        ("a livepatch symbol that has a position", |sample, _| {
            sample.livepatch = vec![("vmlinux", ".klp.sym.vmlinux.twin,2")];
        }),
        ("an object for its relocations only", |sample, _| {
            sample.objects[1] = object(Some("driver"), vec![]);
            sample.livepatch = vec![("driver", ".klp.sym.driver.probe,0")];
        }),
        ("an object with nothing but a callback", |sample, _| {
            sample.declared = Declared::Kpatch;
            sample.objects.pop();
            sample.callbacks = vec![("pre_patch", "driver")];
            sample.livepatch = vec![("driver", ".klp.sym.driver.probe,0")];
        }),
        ("a callback of each kind for each object", |sample, _| {
            sample.declared = Declared::Kpatch;
            let kinds = ["pre_patch", "post_patch", "pre_unpatch", "post_unpatch"];
            let of = |object| kinds.map(|kind| (kind, object));
            sample.callbacks = [of("vmlinux"), of("driver")].concat();
        }),
        (
            "functions of a kernel that was put elsewhere",
            |sample, _| {
                sample.declared = Declared::Kpatch;
                let funcs = vec![
                    made_for("do_nap", 1, 0x9000_0010),
                    made_for("twin", 2, 0x9000_0090),
                ];
                sample.objects[0] = object(None, funcs);
                // That of a module's function is a place in a file.
                sample.objects[1] = object(Some("driver"), vec![made_for("probe", 1, 0x1230)]);
            },
        ),
        (
            "a patch of kpatch-build on top of another",
            |sample, kernel| {
                sample.declared = Declared::Kpatch;
                let data = sample.build();
                let older = Patch::parse(&data, None).unwrap();
                let states = older.declaration().unwrap().states.clone();
                live(kernel).patches = vec![Installed {
                    states,
                    ..installed(None)
                }];
            },
        ),
        (
            "functions of which ftrace tells the names",
            |sample, kernel| {
                by_name(kernel, "do_nap\ntwin\ntwin\nprobe [driver]\n");
                let funcs = vec![func("do_nap", 0), func("twin", 2)];
                sample.objects[0] = object(None, funcs);
            },
        ),
        ("a signature where nobody can check it", |sample, kernel| {
            sample.signature = vec![0xff; 4];
            kernel.signatures = Signatures::Ignored;
        }),
        ("a signature of another kind", |sample, _| {
            sample.signature = SIGNATURE.into();
            sample.signature[0] = 0;
            sample.signature[4] = 1;
        }),
        ("what objtool leaves behind", |sample, _| {
            sample.left_behind = true;
        }),
        ("a weak symbol that is not there", |sample, _| {
            sample.weak = true;
            sample.undefined = vec!["nowhere"];
        }),
        ("a name space that is imported", |sample, _| {
            sample.undefined = vec!["spaced"];
            sample.info += "import_ns=SPACE\0";
        }),
        ("a checksum that agrees", |sample, _| {
            sample.versions = vec![(0xabcd, "printk")];
        }),
        ("a function that a patch redirects", |_, kernel| {
            let live = live(kernel);
            live.holders = Some(vec![holder(Hold::Redirected)]);
            let mut other = installed(Some((1, 1)));
            other.funcs = vec![("vmlinux".into(), "do_nap".into(), 1)];
            live.patches = vec![other];
        }),
        ("states of a patch that is not replaced", |_, kernel| {
            live(kernel).patches = vec![installed(Some((1, 2)))];
        }),
        ("a state in the same version", |sample, kernel| {
            sample.replace = true;
            sample.states = vec![(1, 2)];
            live(kernel).patches = vec![installed(Some((1, 2)))];
        }),
    ];
    for (name, change) in fits {
        let (mut sample, mut kernel) = (Sample::default(), kernel());
        change(&mut sample, &mut kernel);
        assert_eq!(findings(&sample, &kernel), [], "{name}");
    }
}

#[test]
fn tasks_are_told() {
    let mut kernel = kernel();
    let sitting = |task: &str, object: &str| Sitting {
        task: task.into(),
        object: object.into(),
        func: "do_nap".into(),
    };
    live(&mut kernel).tasks = Some(vec![sitting("7 cat", "vmlinux"), sitting("8 x", "driver")]);
    let report = report(&Sample::default(), &kernel);
    let told = report.findings.iter().find(|one| one.rule == Rule::Tasks);
    assert_eq!(told.unwrap().text, "tasks are in do_nap: 7 cat");
    assert_eq!(report.verdict(false), Verdict::Fits);
}

#[test]
fn reasons_and_advice() {
    let text = |name: &'static str| {
        let mut sample = Sample::default();
        sample.funcs(0)[0].name = Some(name);
        let report = report(&sample, &kernel());
        let mut findings = report.findings.iter();
        let finding = findings.find(|finding| finding.level == Level::Error);
        let finding = finding.unwrap();
        format!("{:?} {:?}", finding.notes, finding.advice)
    };
    assert!(text("gone").contains("gone.constprop.0"));
    assert!(text("probe").contains("declare it in the object driver"));
    assert!(text("sys_read").contains("__x64_sys_read"));
    assert!(text("quiet").contains("noinstr"));
}

#[test]
fn exports_of_an_image() {
    let found = |undefined: &'static str, live: bool| {
        let mut kernel = kernel();
        let text =
            "ffffffff82000100 r __ksymtab_printk\nffffffff82000110 r __ksymtab_klp_enable_patch\n";
        let tables = Symbols::parse("System.map", text).unwrap();
        let mut exports = Exports::default();
        exports.add_tables(&tables, live);
        kernel.exports = Some(exports);
        kernel.vermagic = Some("7.3.4 SMP mod_unload modversions ".into());
        let mut sample = Sample {
            undefined: vec![undefined],
            versions: vec![(0xabcd, "printk"), (3, "driver_call"), (5, "module_layout")],
            ..Sample::default()
        };
        sample.info = sample.info.replace("mod_unload", "mod_unload modversions");
        let report = report(&sample, &kernel);
        (report.verdict(false), report.without_information())
    };
    let without = vec!["inlined", "modversions", "prototype", "structure", "symbol"];
    assert_eq!(found("printk", false), (Verdict::Fits, without.clone()));
    // A module may export it, and which ones there will be is not known.
    assert_eq!(
        found("driver_call", false),
        (Verdict::Unknown, without.clone())
    );
    assert_eq!(found("driver_call", true), (Verdict::DoesNotFit, without));
}

#[test]
fn files_of_exports() {
    let mut exports = Exports::default();
    assert_eq!(
        exports.add("0x1\tname\n"),
        Err("1: expected checksum, symbol, object and kind of export".into())
    );
    assert_eq!(
        exports.add("\nx\tname\tvmlinux\tEXPORT_SYMBOL\n"),
        Err("2: 'x' is no checksum".into())
    );
}

#[test]
fn lists_of_symbols() {
    for (text, error) in [
        ("x t name\n", "1: 'x' is no address"),
        ("1 t\n", "1: expected address, type and name"),
    ] {
        assert_eq!(Symbols::parse("list", text).unwrap_err(), error);
    }
    let symbols = &Symbols::parse("list", "0 T _stext\n0 t other\n").unwrap()["vmlinux"];
    assert!(symbols.is_of_kernel() && !symbols.has_addresses());
}
