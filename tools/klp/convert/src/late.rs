// SPDX-License-Identifier: GPL-2.0

//! What cannot be relocated late.
//!
//! Relocations against symbols of vmlinux are applied with the ordinary ones, before the loader looks
//! at what the sections hold. Those against symbols of a module are applied when both modules are
//! there, which may be long after the livepatch module has been loaded, and again each time that the
//! other one comes. By then the kernel has read some sections for good, or freed them: the module
//! would load, and do something else than its source says.
//!
//! | sections | what becomes of them | in the kernel |
//! | --- | --- | --- |
//! | `.init*` | freed when the init function has returned | `do_init_module()` |
//! | `.data..percpu` | copied for each CPU | `post_relocation()` |
//! | `__ex_table`, `.orc_unwind_ip` | sorted | `post_relocation()`, `unwind_module_init()` |
//! | `__param` | read for the parameters | `load_module()` |
//! | `.ctors` | its functions are called | `do_mod_ctors()` |
//! | `_ftrace_events`, `_ftrace_eval_map` | registered as trace events | `trace_module_notify()` |
//! | `_kprobe_blacklist` | registered | `kprobes_module_callback()` |
//! | `_error_injection_whitelist` | registered | `ei_module_callback()` |
//! | `___srcu_struct_ptrs` | each structure is given its memory | `srcu_module_coming()` |
//! | `__jump_table`, `.static_call_sites` | code is patched by them | `jump_label_module_notify()`, `static_call_module_notify()` |
//! | `.altinstructions` and what it uses, `*_sites`, `.ibt_endbr_seal` | code is patched by them | `module_finalize()` of x86 |
//! | `__mcount_loc`, `__patchable_function_entries` | recorded by ftrace | `ftrace_module_init()` |
//! | `.gnu.linkonce.this_module` | the init function is called through it | `do_init_module()` |
//!
//! klp-build refuses `__jump_table` and `.static_call_sites` for the same reason
//! (`tools/objtool/klp-diff.c`).

/// Says why no late relocation can be in a section of this name; `None` if one can.
pub fn obstacle(section: &str) -> Option<&'static str> {
    // As the kernel's `module_init_section()`.
    if section.starts_with(".init") {
        return Some("is freed when the module has been initialised");
    }
    match section {
        ".data..percpu" => Some("is copied for each CPU when this module is loaded"),
        "__ex_table" | ".orc_unwind_ip" => Some("is sorted when this module is loaded"),
        "__param" => Some("is read for the parameters when this module is loaded"),
        ".ctors" => Some("lists functions that are called when this module is initialised"),
        "_ftrace_events"
        | "_ftrace_eval_map"
        | "_kprobe_blacklist"
        | "_error_injection_whitelist"
        | "___srcu_struct_ptrs" => Some("is registered when this module is loaded"),
        "__jump_table"
        | ".static_call_sites"
        | ".altinstructions"
        | ".altinstr_replacement"
        | ".altinstr_aux"
        | ".retpoline_sites"
        | ".return_sites"
        | ".call_sites"
        | ".cfi_sites"
        | ".ibt_endbr_seal" => Some("patches code when this module is loaded"),
        "__mcount_loc" | "__patchable_function_entries" => {
            Some("is read by ftrace when this module is loaded")
        }
        ".gnu.linkonce.this_module" => Some("is read when this module is initialised"),
        _ => None,
    }
}
