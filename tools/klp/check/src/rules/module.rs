// SPDX-License-Identifier: GPL-2.0

//! What the kernel's module loader looks at before it looks at symbols.

use klp_module::{Architecture, Module};
use object::elf;

use crate::{
    kernel::{Kernel, Signatures},
    report::{Finding, Level, Report, Rule, Subject},
    Patch,
};

pub(super) fn check(patch: &Patch<'_>, kernel: &Kernel, report: &mut Report) {
    let module = &patch.module;
    format(patch, report);
    livepatch(module, report);
    vermagic(module, kernel, report);
    signature(module, kernel, report);
}

fn format(patch: &Patch<'_>, report: &mut Report) {
    let error = |text: String| Finding::error(Rule::Module, Subject::module(), text);
    // What is in kernels today; the ELF file itself was found to be 64-bit and little-endian.
    if patch.module.architecture() != Some(Architecture::X86_64) {
        report.add(
            Finding::unknown(
                Rule::Module,
                Subject::module(),
                "the module is not for x86-64, the only architecture that is known here",
            )
            .advice("check it on a machine of its architecture, by loading it"),
        );
    }
    for section in &patch.file.sections {
        let both = u64::from(elf::SHF_WRITE | elf::SHF_EXECINSTR | elf::SHF_ALLOC);
        if section.flags & both == both {
            report.add(
                error(format!(
                    "section {} is writable and executable",
                    section.name
                ))
                .note("kernels with STRICT_MODULE_RWX do not load such a module (ENOEXEC)")
                .advice("keep code and data in sections of their own"),
            );
        }
    }
    let this_module = patch.file.section(".gnu.linkonce.this_module");
    if this_module.is_some_and(|index| !patch.file.sections[index].is_loaded()) {
        report.add(error(
            "section .gnu.linkonce.this_module is not marked to be loaded".into(),
        ));
    }
}

fn livepatch(module: &Module, report: &mut Report) {
    match module.info("livepatch") {
        Some("Y") => (),
        Some(other) => report.add(
            Finding::error(
                Rule::Livepatch,
                Subject::module(),
                format!("the module says livepatch={other}, and only Y makes it a live patch"),
            )
            .note("klp_enable_patch() fails (EINVAL)")
            .advice("write MODULE_INFO(livepatch, \"Y\");"),
        ),
        None => report.add(
            Finding::error(
                Rule::Livepatch,
                Subject::module(),
                "the module does not say that it is a live patch",
            )
            .note("klp_enable_patch() fails (EINVAL), and livepatch relocations are not written")
            .advice("add MODULE_INFO(livepatch, \"Y\");"),
        ),
    }
}

fn vermagic(module: &Module, kernel: &Kernel, report: &mut Report) {
    let Some(built) = module.info("vermagic") else {
        report.add(
            Finding::error(
                Rule::Vermagic,
                Subject::module(),
                "the module does not say which kernel it was built for",
            )
            .note("it was not linked by the kernel's build system"),
        );
        return;
    };
    let advice = "build the patch for this kernel";
    let release = built.split(' ').next().unwrap_or_default();
    // With checksums of symbols, the kernel does not compare the releases. We do: positions and
    // functions are those of one build.
    if let Some(wanted) = kernel
        .release
        .as_deref()
        .filter(|wanted| *wanted != release)
    {
        report.add(
            Finding::error(
                Rule::Vermagic,
                Subject::module(),
                format!("the module was built for the kernel {release}, and this is {wanted}"),
            )
            .advice(advice),
        );
    }
    let words = |magic: &str| -> Vec<String> {
        magic
            .split_ascii_whitespace()
            .skip(1)
            .map(Into::into)
            .collect()
    };
    match &kernel.vermagic {
        Some(wanted) if words(wanted) != words(built) => report.add(
            Finding::error(
                Rule::Vermagic,
                Subject::module(),
                "the module was built for another configuration of the kernel",
            )
            .note(format!("the kernel: {}", words(wanted).join(" ")))
            .note(format!("the module: {}", words(built).join(" ")))
            .note("the module loader refuses it (ENOEXEC)")
            .advice(advice),
        ),
        Some(_) => (),
        None => report.add(Finding::new(
            Rule::Vermagic,
            Level::Unknown,
            Subject::module(),
            "what this kernel demands in a module's vermagic is not known",
        )),
    }
}

fn signature(module: &Module, kernel: &Kernel, report: &mut Report) {
    match (kernel.signatures, module.is_signed()) {
        (Signatures::Demanded, false) => report.add(
            Finding::error(
                Rule::Signature,
                Subject::module(),
                "the module is not signed, and the kernel loads signed modules only",
            )
            .advice("sign it with a key that the kernel trusts (scripts/sign-file, mokutil)"),
        ),
        (Signatures::Demanded, true) => report.add(
            Finding::unknown(
                Rule::Signature,
                Subject::module(),
                "whether the kernel trusts the key that the module is signed with is not known",
            )
            .advice(
                "compare modinfo -F signer with what keyctl show %:.machine and \
                     %:.secondary_trusted_keys list",
            ),
        ),
        (Signatures::Unknown, false) => report.add(Finding::new(
            Rule::Signature,
            Level::NoInformation,
            Subject::module(),
            "the module is not signed, and whether the kernel demands that is not known",
        )),
        (Signatures::Optional, _) | (Signatures::Unknown, true) => (),
    }
}
