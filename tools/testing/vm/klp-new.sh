#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Live patches that klp new started: loaded, tested, unloaded, with nothing but what is in their
# directories. And klp convert on the machine that runs the kernel. tools/testing/new-patches has
# made $TEST_FILES.
. "$(dirname "$0")/lib.sh"

patch=$TEST_FILES/klp-test-new
rust=$TEST_FILES/klp-test-rust
plain=$TEST_FILES/plain

convert() { "$TEST_FILES/klp" convert --kernel "$TEST_FILES/kernel" "$@"; }

# make_test DIRECTORY
make_test() {
	local output
	output=$(make -s -C "$1" test)
	[ "$output" = "test.sh: passed" ] || fail "$output"
	not is_loaded "$(basename "$1")"
}

test_c() { on_both_cores make_test "$patch"; }

test_rust() { on_both_cores make_test "$rust"; }

with_target() {
	load livepatch-sleeper
	make_test "$TEST_FILES/klp-test-function"
	rmmod livepatch-sleeper
}

test_function_of_a_module() { on_both_cores with_target; }

load_and_unload() {
	make -s -C "$patch" load
	settled klp_test_new
	grep -q ' live-patched$' /proc/cmdline
	make -s -C "$patch" unload
	not grep -q ' live-patched$' /proc/cmdline
}

test_load_and_unload() { on_both_cores load_and_unload; }

# The test can fail: with a patch that does something else.
test_failing_test() {
	local copy
	copy=$(mktemp -d)
	cp -a "$patch/." "$copy"
	sed -i "s/ live-patched/ changed otherwise/" "$copy/test.sh"
	expect_error "loaded, but not in effect" make -s -C "$copy" test
	not is_loaded klp_test_new
	rm -r "$copy"
}

insmod_and_look() {
	insmod "$1"
	wait_until 30 "in effect" settled klp_test_new
	grep -q ' live-patched$' /proc/cmdline
	remove klp_test_new
}

# From /proc/kallsyms and the exported symbols, without being told a name.
test_automatic_conversion() {
	local output=/tmp/automatic.ko said
	expect_error "Unknown symbol" insmod "$plain/klp-test-new.ko"
	said=$(convert --auto --output $output "$plain/klp-test-new.ko" 2>&1)
	grep -q 'vmlinux:saved_command_line, used by patched_cmdline_proc_show+' <<<"$said"
	on_both_cores insmod_and_look $output
	rm $output
}

# Every kernel has several functions of this name. Which is meant can be said by a position only, as
# nothing on this machine knows their source files.
test_several_of_a_name() {
	local output=/tmp/klp-test-several.ko count
	count=$(awk '$3 == "name_show" && NF == 3' /proc/kallsyms | wc -l)
	[ "$count" -gt 1 ]
	expect_error "has $count symbols name_show: say which with --position vmlinux:name_show=N" \
		convert --auto --output $output "$plain/klp-test-several.ko"
	expect_error "no source files are known" convert --auto --from drivers/base/core.c \
		--output $output "$plain/klp-test-several.ko"
	expect_error "number $((count + 1)) is asked for" convert \
		--unexported "name_show=$((count + 1))" --output $output "$plain/klp-test-several.ko"
	not test -e $output
	convert --quiet --unexported "name_show=$count" --output $output "$plain/klp-test-several.ko"
	on_both_cores load_and_remove $output klp_test_several
	rm $output
}

load_and_remove() {
	insmod "$1"
	wait_until 30 "in effect" settled "$2"
	remove "$2"
}

run_tests
