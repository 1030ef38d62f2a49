#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Bad input: the documented errno and message, nothing left behind.
. "$(dirname "$0")/lib.sh"

# refused ERRNO ARGUMENTS...: klp_test_patch is refused, and nothing of it stays. The messages are checked by the caller.
refused() {
	local errno=$1
	shift
	mark
	expect_error "$errno" load klp_test_patch "$@"
	not is_loaded klp_test_patch
	[ -z "$(ls $lp)" ]
	[ "$(refs livepatch)" = 0 ]
}

with_core() {
	load livepatch
	load klp_test_target
	"$@"
	# What was refused has done no harm: a good patch works.
	[ "$(cat /sys/module/klp_test_target/parameters/value)" = 111 ]
	load klp_test_patch
	wait_until 10 settled settled klp_test_patch
	[ "$(cat /sys/module/klp_test_target/parameters/value)" = 112 ]
	remove klp_test_patch
	rmmod klp_test_target
	rmmod livepatch
}

incomplete() {
	local mode
	for mode in null no-module no-objects no-functions no-name; do
		say "$mode"
		refused "$EINVAL" mode=$mode
		expect_log </dev/null
	done
	for mode in no-replacement long-function long-object; do
		say "$mode"
		refused "$EINVAL" mode=$mode
		expect_log </dev/null
	done
}
test_incomplete_patch() { with_core incomplete; }

unmarked() {
	mark
	expect_error "$EINVAL" load klp_test_unmarked
	expect_log <<-END
		livepatch: module klp_test_unmarked is not marked as a livepatch module
	END
}
test_unmarked_module() { with_core unmarked; }

unknown() {
	refused "$EINVAL" name=klp_test_no_such
	expect_log <<<"livepatch: symbol 'klp_test_no_such' not found in symbol table"
	refused "$EINVAL" object=vmlinux name=klp_test_no_such
	expect_log <<<"livepatch: symbol 'klp_test_no_such' not found in symbol table"
	refused "$EINVAL" mode=second-unknown
	expect_log <<<"livepatch: symbol 'klp_test_no_such' not found in symbol table"
}
test_unknown_function() { with_core unknown; }

ambiguous() {
	local name
	name=$(awk '$2 == "t" && NF == 3 && $3 !~ /[.]/ { print $3 }' /proc/kallsyms | sort | uniq -d | head -n 1)
	[ -n "$name" ]
	refused "$EINVAL" object=vmlinux name="$name"
	expect_log <<<"livepatch: unresolvable ambiguity for symbol '$name' in object '(null)'"
	refused "$EINVAL" object=vmlinux name="$name" sympos=999
	expect_log <<<"livepatch: symbol position 999 for symbol '$name' in object 'vmlinux' not found"
	refused "$EINVAL" sympos=2
	expect_log <<<"livepatch: symbol position 2 for symbol 'klp_test_value' in object 'klp_test_target' not found"
}
test_ambiguous_function() { with_core ambiguous; }

position_one() {
	load klp_test_patch sympos=1
	[ -d $lp/klp_test_patch/klp_test_target/klp_test_value,1 ]
	wait_until 10 settled settled klp_test_patch
	remove klp_test_patch
}
test_position_of_a_unique_function() { with_core position_one; }

unhookable() {
	local wrong
	# Alone, and behind a function that has been redirected already.
	for wrong in name=klp_test_notrace mode=second-notrace; do
		say "$wrong"
		refused "$EINVAL" $wrong
		expect_log <<-END
			livepatch: enabling patch 'klp_test_patch'
			livepatch: failed to find location for function 'klp_test_notrace'
			livepatch: failed to patch object 'klp_test_target'
			livepatch: failed to enable patch 'klp_test_patch'
			livepatch: 'klp_test_patch': unpatching complete
		END
	done
}
test_function_without_ftrace() { with_core unhookable; }

bad_replacement() {
	refused 'Unknown symbol' mode=bad-replacement
	expect_log <<<"livepatch: kallsyms size lookup failed for 'klp_test_value' replacement"
}
test_replacement_that_is_no_code() { with_core bad_replacement; }

callback() {
	refused "$ENODEV" pre_patch_ret=-19
	expect_log <<-END
		livepatch: enabling patch 'klp_test_patch'
		livepatch: pre-patch callback failed for object 'klp_test_target'
		livepatch: failed to enable patch 'klp_test_patch'
		livepatch: 'klp_test_patch': unpatching complete
	END
}
test_callback_that_fails() { with_core callback; }

coming() {
	rmmod klp_test_target
	load klp_test_patch name=klp_test_no_such
	wait_until 10 settled settled klp_test_patch
	mark
	expect_error "$EINVAL" load klp_test_target
	expect_log <<-END
		livepatch: symbol 'klp_test_no_such' not found in symbol table
		livepatch: failed to initialize patch 'klp_test_patch' for module 'klp_test_target' (-22)
		livepatch: patch 'klp_test_patch' failed for module 'klp_test_target', refusing to load module 'klp_test_target'
	END
	not is_loaded klp_test_target
	remove klp_test_patch
	load klp_test_target
}
test_module_that_cannot_be_patched() { with_core coming; }

twice() {
	mark
	load klp_test_patch mode=twice
	since_mark | grep -q 'second call: -17$'
	log | grep -qx 'livepatch: module klp_test_patch has registered a patch already'
	wait_until 10 settled settled klp_test_patch
	[ "$(refs klp_test_patch)" = 1 ]
	remove klp_test_patch
}
test_same_patch_twice() { with_core twice; }

garbage() {
	local file text
	load klp_test_patch
	wait_until 10 settled settled klp_test_patch
	mark
	for file in enabled force direct; do
		for text in '' x 2 -1 'garbage with spaces' $'\n' "$(printf 'z%.0s' {1..4000})"; do
			expect_error 'Invalid argument' put "$text" $lp/klp_test_patch/$file
		done
	done
	# Enabled already; not in transition.
	expect_error 'Invalid argument' put 1 $lp/klp_test_patch/enabled
	expect_error 'Invalid argument' put 1 $lp/klp_test_patch/force
	put 0 $lp/klp_test_patch/force
	for file in transition replace stack_order klp_test_target/patched; do
		expect_error 'Permission denied' dd of=$lp/klp_test_patch/$file conv=notrunc status=none <<<1
	done
	expect_error 'Permission denied' dd if=$lp/klp_test_patch/force status=none
	expect_log </dev/null
	[ "$(cat $lp/klp_test_patch/enabled)" = 1 ]
	remove klp_test_patch
}
test_garbage_in_sysfs() { with_core garbage; }

# Two names of one function, in which somebody else may change the instruction pointer.
taken() {
	load klp_test_target
	load klp_test_hook function=klp_test_aliased
	mark
	expect_error "$EBUSY" load klp_test_patch name=klp_test_aliased
	expect_error "$EBUSY" load klp_test_patch name=klp_test_aliased mode=alias
	[ "$(log | grep -c "failed to register ftrace handler for function 'klp_test_aliased' (-16)")" = 2 ]
	[ "$(cat /sys/module/klp_test_target/parameters/value)" = 111 ]
	rmmod klp_test_hook
	rmmod klp_test_target
}
test_function_that_is_taken() { on_both_cores taken; }

# The built-in core takes the end of its list of replacements for one of them when it looks for tasks
# that run the first, and may find it on every stack.
function_of_two_names() {
	load klp_test_patch name=klp_test_aliased mode=alias
	wait_until 30 settled settled klp_test_patch
	[ "$(cat /sys/module/klp_test_target/parameters/value)" = 113 ]
	remove klp_test_patch
	[ "$(cat /sys/module/klp_test_target/parameters/value)" = 111 ]
}
test_function_of_two_names() { with_core function_of_two_names; }

run_tests
