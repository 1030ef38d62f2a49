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
    vermagic(patch, kernel, report);
    signature(patch, kernel, report);
}

/// Says that the kernel refuses what it could load by force only, or that it does so.
pub(super) fn forced(kernel: &Kernel, finding: Finding) -> Finding {
    if kernel.loads_by_force {
        Finding {
            level: Level::Warning,
            ..finding.taken()
        }
        .note("this kernel loads such a module by force (MODULE_FORCE_LOAD), and is tainted then")
    } else {
        finding.note("the module loader refuses the module (ENOEXEC)")
    }
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
        // The loader looks at sections that are not loaded, too.
        let both = u64::from(elf::SHF_WRITE | elf::SHF_EXECINSTR);
        if section.flags & both == both {
            report.add(
                error(format!(
                    "section {} is writable and executable",
                    section.name
                ))
                .note("the module loader refuses it (ENOEXEC)")
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
            Finding::new(
                Rule::Livepatch,
                Level::Warning,
                Subject::module(),
                format!("the module says livepatch={other}, and live patches say livepatch=Y"),
            )
            .note("the kernel only looks whether it says livepatch, but programs look for the Y")
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

fn vermagic(patch: &Patch<'_>, kernel: &Kernel, report: &mut Report) {
    let module = &patch.module;
    let Some(built) = module.info("vermagic") else {
        report.add(
            forced(
                kernel,
                Finding::error(
                    Rule::Vermagic,
                    Subject::module(),
                    "the module does not say which kernel it was built for",
                ),
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
            .advice(advice)
            .taken_if(patch.file.section("__versions").is_some()),
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

fn signature(patch: &Patch<'_>, kernel: &Kernel, report: &mut Report) {
    let new = |level, text: &str| Finding::new(Rule::Signature, level, Subject::module(), text);
    let signed = patch.module.is_signed();
    let damaged = signed.then(|| damage(patch.data)).flatten();
    match (kernel.signatures, signed, damaged) {
        (Signatures::Ignored, _, _) | (Signatures::Optional, false, _) => (),
        (Signatures::Optional | Signatures::Demanded, true, Some(damage)) => report.add(
            new(Level::Error, "the signature of the module is damaged")
                .note(damage)
                .note("the module loader refuses it (EBADMSG), whether it demands signatures or not")
                .advice("sign the module again, after everything else is done with it"),
        ),
        (Signatures::Demanded, false, _) => report.add(
            new(
                Level::Error,
                "the module is not signed, and the kernel loads signed modules only",
            )
            .advice("sign it with a key that the kernel trusts (scripts/sign-file, mokutil)"),
        ),
        (Signatures::Demanded, true, None) => report.add(
            new(
                Level::Unknown,
                "whether the kernel trusts the key that the module is signed with is not known",
            )
            .advice(
                "compare modinfo -F signer with what keyctl show %:.machine and \
                     %:.secondary_trusted_keys list",
            ),
        ),
        (Signatures::Optional, true, None) => report.add(
            new(
                Level::NoInformation,
                "whether the module was changed after it was signed is not known",
            )
            .note(
                "the kernel takes modules that are not signed, and those by a key that it does not \
                   know, but none with a wrong signature by one that it knows (EKEYREJECTED)",
            ),
        ),
        (Signatures::Unknown, false, _) => report.add(new(
            Level::NoInformation,
            "the module is not signed, and whether the kernel demands that is not known",
        )),
        (Signatures::Unknown, true, _) => report.add(new(
            Level::NoInformation,
            "what the kernel makes of the signature of the module is not known",
        )),
    }
}

/// What is wrong with the form of an appended signature, as far as the kernel refuses a module for
/// that. Its last part is a `struct module_signature` and a mark.
fn damage(data: &[u8]) -> Option<&'static str> {
    const MARK: usize = b"~Module signature appended~\n".len();
    const PKCS7: u8 = 2;
    const SEQUENCE: u8 = 0x30;
    let cut_off = Some("it is longer than the file");
    let Some((rest, end)) = data[..data.len().saturating_sub(MARK)].split_last_chunk::<12>() else {
        return cut_off;
    };
    let [algorithm, hash, kind, signer, key, a, b, c, length @ ..] = *end;
    let length = u32::from_be_bytes(length) as usize;
    if length >= rest.len() {
        return cut_off;
    }
    // One of another kind is taken for one by a key that is not known.
    if kind != PKCS7 {
        return None;
    }
    if [algorithm, hash, signer, key, a, b, c] != [0; 7] {
        return Some("it has values where PKCS#7 has none");
    }
    match rest[rest.len() - length..].first() {
        Some(&SEQUENCE) => None,
        _ => Some("it is no PKCS#7 message"),
    }
}
