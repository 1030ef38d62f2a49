#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Livepatch relocations of patch modules: written, cleared, and wrong in every way. On both cores.
. "$(dirname "$0")/lib.sh"

target=/sys/module/klp_test_target/parameters
sym=.klp.sym.klp_test_target.klp_test_hidden

# A variant of klp_test_reloc that tools/testing/wrong-modules made.
load_variant() { insmod "${TEST_FILES:?}/$1.ko"; }

relocated() { cat /sys/module/klp_test_reloc/parameters/relocated; }
value() { cat $target/value; }

target_there() {
	load klp_test_target
	[ "$(cat $target/hidden)" = 3005 ]
	load klp_test_reloc
	wait_until 10 settled settled klp_test_reloc
	[ "$(relocated)" = "1 1" ]
	# The second of two functions of one name, and the only one of another.
	[ "$(value)" = 2115 ]
	remove klp_test_reloc
	[ "$(value)" = 111 ]
	rmmod klp_test_target
}
test_target_is_there() { on_both_cores target_there; }

target_comes_and_goes() {
	load klp_test_reloc
	wait_until 10 settled settled klp_test_reloc
	[ "$(relocated)" = "1 0" ]
	local i
	for i in 1 2 3; do
		load klp_test_target
		[ "$(relocated)" = "1 1" ]
		[ "$(value)" = 2115 ]
		rmmod klp_test_target
		[ "$(relocated)" = "1 0" ]
		# So that the target comes to lie elsewhere.
		[ $i != 1 ] || load livepatch-sleeper
	done
	rmmod livepatch-sleeper
	remove klp_test_reloc
}
test_target_comes_and_goes() { on_both_cores target_comes_and_goes; }

# The built-in core leaves the relocations as they are, and can never write them again.
test_target_is_refused_and_comes_again() {
	load livepatch
	load klp_test_reloc pre_patch_ret=-19
	wait_until 10 settled settled klp_test_reloc
	expect_error "$ENODEV" load klp_test_target
	not is_loaded klp_test_target
	[ "$(relocated)" = "1 0" ]
	echo 0 >/sys/module/klp_test_reloc/parameters/pre_patch_ret
	load klp_test_target
	[ "$(relocated)" = "1 1" ]
	[ "$(value)" = 2115 ]
	remove klp_test_reloc
	rmmod klp_test_target livepatch
}

# wrong VARIANT MESSAGE: it is refused.
wrong() {
	mark
	say "$1"
	expect_error "$EINVAL" load_variant "$1"
	expect_log <<<"livepatch: $2"
	not is_loaded klp_test_reloc
}

# wrong_later VARIANT MESSAGE: it is taken while its target is not there, and the target is refused.
wrong_later() {
	load_variant "$1"
	wait_until 10 settled settled klp_test_reloc
	mark
	expect_error "$EINVAL" load klp_test_target
	expect_log <<-END
		livepatch: $2
		livepatch: failed to initialize patch 'klp_test_reloc' for module 'klp_test_target' (-22)
		livepatch: patch 'klp_test_reloc' failed for module 'klp_test_target', refusing to load module 'klp_test_target'
	END
	not is_loaded klp_test_target
	[ "$(relocated)" = "1 0" ]
	remove klp_test_reloc
}

wrong_sections() {
	load klp_test_target
	wrong section-without-object "section .klp.rela. has an incorrectly formatted name"
	wrong section-with-empty-object "section .klp.rela..text has an incorrectly formatted name"
	wrong section-of-another-kind "section klp has an incorrectly formatted name"
	rmmod klp_test_target
}
test_wrong_sections() { on_both_cores wrong_sections; }

# All that can be wrong with a name is tested on the host; this is about what comes of it.
wrong_symbols() {
	load klp_test_target
	wrong symbol-without-prefix "symbol klp_test_hidden has an incorrectly formatted name"
	wrong symbol-without-object "symbol .klp.sym..klp_test_hidden,0 has an incorrectly formatted name"
	wrong symbol-without-position "symbol $sym has an incorrectly formatted name"
	wrong symbol-with-letter "symbol $sym,x has an incorrectly formatted name"
	wrong symbol-with-long-object \
		"symbol .klp.sym.$(printf 'm%.0s' {1..56}).klp_test_hidden,0 has an incorrectly formatted name"
	wrong symbol-of-vmlinux \
		"invalid access to vmlinux symbol 'klp_test_hidden' from module-specific livepatch relocation section"
	mark
	expect_error "$EINVAL" load_variant symbol-unmarked
	log | grep -q "^livepatch: symbol $sym,0 at rela sec [0-9]* idx 0 is not marked as a livepatch symbol$"
	rmmod klp_test_target
	wrong_later symbol-with-letter "symbol $sym,x has an incorrectly formatted name"
}
test_wrong_symbols() { on_both_cores wrong_symbols; }

symbols_that_are_not_there() {
	local object='klp_test_target'
	load klp_test_target
	wrong symbol-unknown "symbol 'klp_test_nowhere' not found in symbol table"
	wrong symbol-elsewhere "symbol 'klp_test_hidden' not found in symbol table"
	wrong symbol-of-vmlinux-unknown "symbol 'no_such_threads' not found in symbol table"
	wrong position-of-unique-too-high "symbol position 2 for symbol 'klp_test_hidden' in object '$object' not found"
	wrong position-too-high "symbol position 3 for symbol 'klp_test_twin' in object '$object' not found"
	wrong position-missing "unresolvable ambiguity for symbol 'klp_test_twin' in object '$object'"
	rmmod klp_test_target
	wrong_later symbol-unknown "symbol 'klp_test_nowhere' not found in symbol table"
}
test_symbols_that_are_not_there() { on_both_cores symbols_that_are_not_there; }

# The first position is the first function; relocations for an object that the patch does not change stay as they are.
variants() {
	load klp_test_target
	load_variant position-first
	wait_until 10 settled settled klp_test_reloc
	[ "$(value)" = 1115 ]
	remove klp_test_reloc
	load_variant section-for-another-object
	wait_until 10 settled settled klp_test_reloc
	[ "$(relocated)" = "1 0" ]
	[ "$(value)" = 2115 ]
	remove klp_test_reloc
	rmmod klp_test_target
}
test_position_and_section_for_another_object() { on_both_cores variants; }

run_tests
