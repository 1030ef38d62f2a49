#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Enabling, looking at and disabling patches.
. "$(dirname "$0")/lib.sh"

# Name, type and permissions of everything below a directory.
tree() { (cd "$1" && find . -printf '%P %y %m\n' | LC_ALL=C sort); }

# The same without what the built-in core does not have.
common_tree() { tree "$1" | grep -vE '(^|/)(blockers|direct|remaining) '; }

value() { cat /sys/module/klp_test_target/parameters/value; }

test_function_of_vmlinux() {
	local before
	before=$(cat /proc/cmdline)
	load livepatch
	mark
	load livepatch-cmdline
	[ "$(cat /proc/cmdline)" = "$before live-patched" ]
	wait_until 10 settled settled livepatch_cmdline
	[ "$(cat $lp/livepatch_cmdline/enabled)" = 1 ]
	[ "$(cat $lp/livepatch_cmdline/replace)" = 0 ]
	[ "$(cat $lp/livepatch_cmdline/stack_order)" = 1 ]
	[ "$(cat $lp/livepatch_cmdline/vmlinux/patched)" = 1 ]
	[ "$(refs livepatch_cmdline)" = 1 ]
	expect_error 'in use' command rmmod livepatch_cmdline
	remove livepatch-cmdline
	[ "$(cat /proc/cmdline)" = "$before" ]
	expect_log <<-END
		livepatch: enabling patch 'livepatch_cmdline'
		livepatch: 'livepatch_cmdline': starting patching transition
		livepatch: 'livepatch_cmdline': patching complete
		livepatch: 'livepatch_cmdline': starting unpatching transition
		livepatch: 'livepatch_cmdline': unpatching complete
	END
	rmmod livepatch
}

test_sysfs_tree() {
	load livepatch
	load livepatch-cmdline
	diff <(tree $lp/livepatch_cmdline) - <<-END
		 d 755
		blockers f 400
		direct f 644
		enabled f 644
		force f 200
		remaining f 444
		replace f 444
		stack_order f 444
		transition f 444
		vmlinux d 755
		vmlinux/cmdline_proc_show,1 d 755
		vmlinux/patched f 444
	END
	wait_until 10 settled settled livepatch_cmdline
	remove livepatch-cmdline
	rmmod livepatch
}

# What all files say, but for those that the built-in core does not have.
common_contents() { grep -r --exclude={blockers,direct,remaining} . $lp 2>/dev/null | LC_ALL=C sort; }

# The same operations on both cores leave the same traces: messages (but for our own two) and sysfs.
operations() {
	load klp_test_target
	load livepatch-cmdline
	wait_until 20 settled settled livepatch_cmdline
	load klp_test_patch mode=two
	wait_until 20 settled settled klp_test_patch
	common_tree $lp
	common_contents
	value
	remove livepatch-cmdline
	common_contents
	rmmod klp_test_target
	load klp_test_target
	value
	remove klp_test_patch
	rmmod klp_test_target
	load klp_test_patch object=vmlinux name=klp_test_no_such 2>&1 || true
	load klp_test_unmarked 2>&1 || true
}

test_same_as_built_in_core() {
	local dir
	dir=$(mktemp -d)
	mark
	operations >"$dir/c"
	log >>"$dir/c"
	load livepatch
	mark
	operations >"$dir/rust"
	log >>"$dir/rust"
	rmmod livepatch
	diff "$dir/c" "$dir/rust"
	[ "$(wc -l <"$dir/c")" -gt 40 ]
	rm -r "$dir"
}

test_debug_messages() {
	local control=/sys/kernel/debug/dynamic_debug/control
	mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null || true
	[ -e $control ] || skip "the kernel lacks CONFIG_DYNAMIC_DEBUG"
	load livepatch
	[ "$(grep -c 'kernel/livepatch/.*\[livepatch\]' $control)" -ge 16 ]
	echo 'file kernel/livepatch/* +p; func klp_try_switch_task -p' >$control
	mark
	load livepatch-cmdline
	wait_until 10 settled settled livepatch_cmdline
	remove livepatch-cmdline
	echo 'file kernel/livepatch/* -p' >$control
	expect_log <<-END
		livepatch: enabling patch 'livepatch_cmdline'
		livepatch: 'livepatch_cmdline': initializing patching transition
		livepatch: 'livepatch_cmdline': starting patching transition
		livepatch: 'livepatch_cmdline': completing patching transition
		livepatch: 'livepatch_cmdline': patching complete
		livepatch: 'livepatch_cmdline': initializing unpatching transition
		livepatch: 'livepatch_cmdline': starting unpatching transition
		livepatch: 'livepatch_cmdline': completing unpatching transition
		livepatch: 'livepatch_cmdline': unpatching complete
	END
	rmmod livepatch
}

test_stack_with_kernel_sample() {
	[ -e "${KERNEL_SAMPLES:?}/livepatch-sample.ko" ]
	load livepatch
	load livepatch-cmdline
	wait_until 10 settled settled livepatch_cmdline
	load livepatch-sample
	wait_until 10 settled settled livepatch_sample
	[ "$(cat $lp/livepatch_sample/stack_order)" = 2 ]
	# The newest one wins; the one below shows again when it goes.
	[ "$(cat /proc/cmdline)" = 'this has been live patched' ]
	remove livepatch-sample
	grep -q live-patched /proc/cmdline
	load livepatch-sample
	wait_until 10 settled settled livepatch_sample
	remove livepatch-cmdline
	[ "$(cat /proc/cmdline)" = 'this has been live patched' ]
	remove livepatch-sample
	not grep -q patched /proc/cmdline
	rmmod livepatch
}

test_module_loaded_before() {
	load livepatch
	load klp_test_target
	[ "$(value)" = 111 ]
	load klp_test_patch mode=two
	wait_until 10 settled settled klp_test_patch
	[ "$(value)" = 122 ]
	[ "$(refs klp_test_target)" = 0 ]
	remove klp_test_patch
	[ "$(value)" = 111 ]
	rmmod klp_test_target
	rmmod livepatch
}

test_module_loaded_after_and_again() {
	load livepatch
	load klp_test_patch mode=two
	wait_until 10 settled settled klp_test_patch
	[ "$(cat $lp/klp_test_patch/klp_test_target/patched)" = 0 ]
	for _ in 1 2; do
		load klp_test_target
		[ "$(cat $lp/klp_test_patch/klp_test_target/patched)" = 1 ]
		[ "$(value)" = 122 ]
		rmmod klp_test_target
		[ "$(cat $lp/klp_test_patch/klp_test_target/patched)" = 0 ]
	done
	remove klp_test_patch
	rmmod livepatch
}

test_traced_at_the_same_time() {
	mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null || true
	load livepatch
	load livepatch-cmdline
	wait_until 10 settled settled livepatch_cmdline
	echo cmdline_proc_show >/sys/kernel/tracing/set_ftrace_filter
	echo function >/sys/kernel/tracing/current_tracer
	grep -q live-patched /proc/cmdline
	grep -q cmdline_proc_show /sys/kernel/tracing/trace
	remove livepatch-cmdline
	not grep -q live-patched /proc/cmdline
	echo nop >/sys/kernel/tracing/current_tracer
	echo >/sys/kernel/tracing/set_ftrace_filter
	rmmod livepatch
}

run_tests
