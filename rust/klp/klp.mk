# SPDX-License-Identifier: GPL-2.0
#
# For the Kbuild file of a directory with live patches in Rust, which needs only these lines:
#
#	obj-m := my-patch.o
#	include .../rust/klp/klp.mk
#
# It builds the crate klp for the kernel at hand, and gives it to all Rust files of the directory.
# Only metadata, with the code in it: all of the crate is generic or inlined, and so becomes part of
# each patch, which depends on no other module.

klp-source := $(patsubst %/,%,$(dir $(abspath $(lastword $(MAKEFILE_LIST)))))
include $(klp-source)/bindgen.mk

$(obj)/klp_bindings.rs: klp-bindgen-items = $(klp-crate-items)
$(obj)/klp_bindings.rs: $(klp-source)/bindings.h FORCE
	$(call if_changed,klp_bindgen)

quiet_cmd_klp_crate = $(RUSTC_OR_CLIPPY_QUIET) L $@
      cmd_klp_crate = \
	OBJTREE=$(abspath $(objtree)) KLP_BINDINGS=$(abspath $(obj)/klp_bindings.rs) \
	$(RUSTC_OR_CLIPPY) $(filter-out --extern=klp,$(rust_flags)) \
		-Zallow-features=$(rust_allowed_features) -Zcrate-attr=no_std \
		-Zcrate-attr='feature($(rust_allowed_features))' -Zunstable-options \
		--extern pin_init --extern kernel --crate-name klp --crate-type rlib -L $(objtree)/rust/ \
		-Zalways-encode-mir --sysroot=/dev/null --emit=dep-info=$(depfile) --emit=metadata=$@ $<

$(obj)/libklp.rmeta: part-of-module := y
$(obj)/libklp.rmeta: $(klp-source)/klp.rs $(obj)/klp_bindings.rs FORCE
	+$(call if_changed_dep,klp_crate)

targets += klp_bindings.rs libklp.rmeta
clean-files += klp_bindings.rs libklp.rmeta

rustflags-y += --extern=klp -L $(obj)
$(patsubst $(src)/%.rs,$(obj)/%.o,$(filter-out %/klp_bindings.rs,$(wildcard $(src)/*.rs))): $(obj)/libklp.rmeta
