# SPDX-License-Identifier: GPL-2.0
#
# What turns a header into Rust: cmd_klp_bindgen, with klp-bindgen-items as the options that choose
# what is bound. For the files of kbuild, which include this one.

# Those of the crate klp.
klp-crate-items := --allowlist-item 'klp_.*' --blocklist-item 'klp_modinfo'

# The flags that the kernel gives bindgen, without the allow lists of its own bindings; GCC flags that clang does not
# know are left out, as rust/Makefile does.
bindgen-skip = -mno-fp-ret-in-387 -mpreferred-stack-boundary=% -mskip-rax-setup -mgeneral-regs-only \
	-msign-return-address=% -mindirect-branch=thunk-extern -mindirect-branch-register \
	-mfunction-return=thunk-extern -mrecord-mcount -mabi=lp64 -mindirect-branch-cs-prefix \
	-mstack-protector-guard% -mno-string -fconserve-stack -falign-jumps=% -falign-loops=% \
	-fno-ipa-cp-clone -fno-ipa-sra -fno-partial-inlining -fno-reorder-blocks -fno-allow-store-data-races \
	-fzero-call-used-regs=% -fno-stack-clash-protection -fno-inline-functions-called-once \
	-fsanitize=bounds-strict -fstrict-flex-arrays=% -fmin-function-alignment=% -fzero-init-padding-bits=% \
	-fdiagnostics-show-context -fdiagnostics-show-context=% --param=% --param asan-% \
	-fno-isolate-erroneous-paths-dereference -ftrivial-auto-var-init=%

bindgen-target-x86 := x86_64-linux-gnu
bindgen-target-arm64 := aarch64-linux-gnu

ifndef bindgen-target-$(SRCARCH)
$(error livepatch: no bindings for the architecture $(SRCARCH))
endif

bindgen-cflags = $(if $(CONFIG_CC_IS_CLANG),$(c_flags), \
	$(filter-out $(bindgen-skip),$(c_flags)) -w --target=$(bindgen-target-$(SRCARCH)))

quiet_cmd_klp_bindgen = BINDGEN $@
      cmd_klp_bindgen = \
	$(BINDGEN) $< $(shell grep -Ev '^\#|^$$' $(srctree)/rust/bindgen_parameters) --rust-target 1.85 \
		--use-core --with-derive-default --ctypes-prefix ffi --no-debug '.*' \
		--enable-function-attribute-detection --no-recursive-allowlist $(klp-bindgen-items) \
		-o $@ -- $(bindgen-cflags) -DMODULE -fno-builtin -D__BINDGEN__
