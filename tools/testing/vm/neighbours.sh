#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# What others do to the core and its patches that they should not, or that has nothing to do with live
# patching: modules that are unloaded by force or fail half way, ftrace that is to be switched off, a
# machine that is suspended.
. "$(dirname "$0")/lib.sh"

target_value() { [ "$(cat /sys/module/klp_test_target/parameters/value)" = "$1" ]; }
is_unloading() { grep -q "^$1 .* Unloading " /proc/modules; }

# The built-in core lets a patch module go whose code is in use, so this is for the Rust core only.
test_init_fails_after_enabling() {
	load livepatch
	load klp_test_target
	mark
	expect_error "$ENODEV" load klp_test_patch init_ret=-19
	# When insmod returns, all is as it was.
	gone klp_test_patch
	not is_loaded klp_test_patch
	target_value 111
	expect_log <<-END
	livepatch: enabling patch 'klp_test_patch'
	livepatch: 'klp_test_patch': starting patching transition
	livepatch: 'klp_test_patch': patching complete
	livepatch: module 'klp_test_patch' goes with its patch in force
	livepatch: 'klp_test_patch': starting unpatching transition
	livepatch: 'klp_test_patch': unpatching complete
	END
	load klp_test_patch
	wait_until 10 settled settled klp_test_patch
	remove klp_test_patch
	rmmod klp_test_target
	rmmod livepatch
}

freed_load() {
	load livepatch
	load klp_test_target
	load klp_test_grave
	mark
}

# The core has neither read nor written what the module has freed. The target and others come and go meanwhile.
freed_gone() {
	gone klp_test_freed
	not is_loaded klp_test_freed
	target_value 111
	[ "$(cat /sys/module/klp_test_grave/parameters/disturbed)" = 0 ]
	# The freed callbacks were not called, nor was what is at their place now.
	not grep -q "unpatch: " <(since_mark)
	rmmod klp_test_grave klp_test_target livepatch
}

test_init_fails_and_frees_the_patch() {
	freed_load
	expect_error "$ENODEV" load klp_test_freed init_ret=-19
	freed_gone
}

# A patch module that does not get as far as its init function.
wrong_parameter() {
	expect_error "$EINVAL" load klp_test_patch sympos=first
	not is_loaded klp_test_patch
	load klp_test_target
	expect_error "$EINVAL" load klp_test_patch sympos=first
	load klp_test_patch
	wait_until 10 settled settled klp_test_patch
	target_value 112
	remove klp_test_patch
	rmmod klp_test_target
}
test_patch_with_a_wrong_parameter() { on_both_cores wrong_parameter; }

enable_cmdline() {
	load livepatch
	load livepatch-cmdline
	wait_until 10 settled settled livepatch_cmdline
	grep -q 'live-patched$' /proc/cmdline
}

# Sees whether the kernel unloads modules that are in use.
need_forced_unload() {
	enable_cmdline
	if ! command rmmod -f livepatch_cmdline; then
		remove livepatch-cmdline
		rmmod livepatch
		skip "the kernel lacks CONFIG_MODULE_FORCE_UNLOAD"
	fi
	gone livepatch_cmdline
	not is_loaded livepatch_cmdline
	not grep -q 'live-patched$' /proc/cmdline
	rmmod livepatch
}
test_forced_unload_of_a_patch() { need_forced_unload; }

# The exit function, which runs first, frees all that describes the patch.
test_forced_unload_of_a_patch_that_frees() {
	need_forced_unload
	freed_load
	load klp_test_freed
	wait_until 10 settled settled klp_test_freed
	target_value 112
	command rmmod -f klp_test_freed
	freed_gone
}

# A patch that takes over a state gets the same answer before and after, though the state is freed meanwhile. Nor is
# a module patched then whose callback cannot be asked.
test_forced_unload_of_a_patch_with_an_heir() {
	local sleeper rmmod
	need_forced_unload
	freed_load
	load klp_test_freed
	wait_until 10 settled settled klp_test_freed
	sleep 600 &
	sleeper=$!
	wait_until 10 "asleep" sleeps_in $sleeper hrtimer_nanosleep
	load klp_test_heir
	in_transition klp_test_heir
	command rmmod -f klp_test_freed &
	rmmod=$!
	wait_until 10 "the module is going" is_unloading klp_test_freed
	rmmod klp_test_target
	expect_error "$ENODEV" load klp_test_target
	kill $sleeper
	wait $rmmod
	wait_until 10 settled settled klp_test_heir
	grep -q 'heir: the same$' <(since_mark)
	remove klp_test_heir
	load klp_test_target
	freed_gone
}

# The transition is turned round.
test_forced_unload_in_transition() {
	need_forced_unload
	load livepatch
	start_sleeper
	load livepatch-sleeper-fix
	in_transition livepatch_sleeper_fix
	command rmmod -f livepatch_sleeper_fix
	gone livepatch_sleeper_fix
	not is_loaded livepatch_sleeper_fix
	sleeps_in_target $sleeper
	stop_sleeper
	rmmod livepatch
}

# A task is in the patch's code: the module stays as long.
test_forced_unload_waits() {
	local rmmod
	need_forced_unload
	patched_with_napper
	command rmmod -f livepatch_sleeper_fix &
	rmmod=$!
	wait_until 10 "the patch is being disabled" in_transition livepatch_sleeper_fix
	is_unloading livepatch_sleeper_fix
	naps_in_patch $napper
	kill $napper
	wait $rmmod
	gone livepatch_sleeper_fix
	not is_loaded livepatch_sleeper_fix
	wait $napper || true
	rmmod livepatch-sleeper
	rmmod livepatch
}

# The patches go first; one that comes meanwhile is for the built-in core.
test_forced_unload_of_the_core() {
	local rmmod insmod
	need_forced_unload
	enable_cmdline
	load klp_test_target
	mark
	command rmmod -f livepatch &
	rmmod=$!
	wait_until 10 "rmmod held up" is_unloading livepatch
	load klp_test_patch &
	insmod=$!
	grep -q 'live-patched$' /proc/cmdline
	remove livepatch-cmdline
	wait $rmmod
	wait $insmod
	not is_loaded livepatch
	wait_until 10 settled settled klp_test_patch
	target_value 112
	since_mark | grep -q '^livepatch: unloaded by force: waiting until the patches are gone$'
	remove klp_test_patch
	rmmod klp_test_target
}

# Linux 7.3 does not support it any more, 7.2 refuses while the core has its functions redirected.
test_ftrace_cannot_be_switched_off() {
	enable_cmdline
	not sysctl -qw kernel.ftrace_enabled=0
	[ "$(cat /proc/sys/kernel/ftrace_enabled)" = 1 ]
	grep -q 'live-patched$' /proc/cmdline
	remove livepatch-cmdline
	rmmod livepatch
}

# The loader refuses the target for another reason, after its patch has been applied.
fails_half_way() {
	load livepatch-sleeper-fix
	wait_until 10 settled settled livepatch_sleeper_fix
	for _ in 1 2 3; do
		mark
		expect_error "$EINVAL" load livepatch-sleeper stubborn=maybe
		since_mark | grep -q "^livepatch: applying patch 'livepatch_sleeper_fix' to loading module"
		since_mark | grep -q "^livepatch: reverting patch 'livepatch_sleeper_fix' on unloading module"
		[ "$(cat $fix/livepatch_sleeper/patched)" = 0 ]
	done
	load livepatch-sleeper
	[ "$(cat $fix/livepatch_sleeper/patched)" = 1 ]
	rmmod livepatch-sleeper
	remove livepatch-sleeper-fix
}
test_module_fails_half_way() { on_both_cores fails_half_way; }

# To be frozen, the sleeper leaves the function; it goes on in the new one.
frozen() {
	start_sleeper
	load livepatch-sleeper-fix
	in_transition livepatch_sleeper_fix
	echo freezer >/sys/power/pm_test
	echo freeze >/sys/power/state
	echo none >/sys/power/pm_test
	wait_until 10 settled settled livepatch_sleeper_fix
	wait $sleeper
	remove livepatch-sleeper-fix
	rm "$answer"
	rmmod livepatch-sleeper
}
test_suspend_in_transition() {
	[ -e /sys/power/pm_test ] || skip "the kernel lacks CONFIG_PM_SLEEP_DEBUG"
	echo 1 >/sys/module/suspend/parameters/pm_test_delay
	on_both_cores frozen
}

run_tests
