#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Taking over from the built-in core, and giving back.
. "$(dirname "$0")/lib.sh"

test_take_over_and_hand_back() {
	mark
	load livepatch
	[ -d $lp ]
	rmmod livepatch
	[ -d $lp ]
	expect_log <<-END
		livepatch: the Rust core is in charge
		livepatch: the built-in core is in charge again
	END
}

test_parameter_without_a_meaning() {
	local number
	for number in 3 255; do
		mark
		expect_error "$EINVAL" load livepatch direct=$number
		expect_log <<<"livepatch: cannot take over: direct=$number has no meaning"
		not is_loaded livepatch
	done
}

test_again_and_again() {
	for _ in 1 2 3 4 5; do
		load livepatch
		rmmod livepatch
	done
	# Nothing is left of the redirections.
	mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null || true
	not grep -q klp_ /sys/kernel/tracing/enabled_functions
}

test_redirections_are_seen_by_ftrace() {
	mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null || true
	load livepatch
	for function in klp_enable_patch klp_module_coming klp_module_going klp_copy_process klp_update_patch_state \
		__klp_sched_try_switch klp_get_prev_state; do
		grep -q "^$function .* I" /sys/kernel/tracing/enabled_functions
	done
	rmmod livepatch
}

test_built_in_core_works_before_and_after() {
	load livepatch-cmdline
	grep -q live-patched /proc/cmdline
	wait_until 10 settled settled livepatch_cmdline
	remove livepatch-cmdline
	load livepatch
	rmmod livepatch
	load livepatch-cmdline
	grep -q live-patched /proc/cmdline
	wait_until 10 settled settled livepatch_cmdline
	remove livepatch-cmdline
	not grep -q live-patched /proc/cmdline
}

test_refused_while_built_in_core_has_patches() {
	load livepatch-cmdline
	wait_until 10 settled settled livepatch_cmdline
	mark
	expect_error "$EBUSY" load livepatch
	expect_log <<-END
		livepatch: cannot take over: the core in charge has patches, disable them first
	END
	# Nothing has changed.
	not is_loaded livepatch
	grep -q live-patched /proc/cmdline
	[ "$(cat $lp/livepatch_cmdline/enabled)" = 1 ]
	remove livepatch-cmdline
	load livepatch
	rmmod livepatch
}

test_second_take_over_is_refused() {
	load livepatch
	expect_error "$EEXIST" load livepatch
	[ "$(refs livepatch)" = 0 ]
	load livepatch-cmdline
	remove livepatch-cmdline
	rmmod livepatch
}

test_patches_keep_the_core() {
	load livepatch
	[ "$(refs livepatch)" = 0 ]
	load livepatch-cmdline
	[ "$(refs livepatch)" = 1 ]
	expect_error 'in use' command rmmod livepatch
	load klp_test_patch
	[ "$(refs livepatch)" = 2 ]
	wait_until 10 settled settled klp_test_patch
	remove klp_test_patch
	remove livepatch-cmdline
	[ "$(refs livepatch)" = 0 ]
	rmmod livepatch
}

# Modules come and go, tasks are born, while the core is loaded and unloaded: some of them sleep in one of its functions,
# or in the built-in core's, at the moment of the change.
test_changes_under_load() {
	local pids=() stop
	stop=$(mktemp)
	while [ -e "$stop" ]; do load klp_test_target && rmmod klp_test_target; done &
	pids+=($!)
	while [ -e "$stop" ]; do load livepatch-sleeper && rmmod livepatch-sleeper; done &
	pids+=($!)
	while [ -e "$stop" ]; do /bin/true; done &
	pids+=($!)
	for _ in $(seq 12); do
		load livepatch
		rmmod livepatch
	done
	rm "$stop"
	wait "${pids[@]}"
	# Whoever passed through a change is known to the core in charge.
	load klp_test_target
	load livepatch
	load klp_test_patch
	[ "$(cat $lp/klp_test_patch/klp_test_target/patched)" = 1 ]
	wait_until 10 settled settled klp_test_patch
	[ "$(cat /sys/module/klp_test_target/parameters/value)" = 112 ]
	remove klp_test_patch
	rmmod klp_test_target
	rmmod livepatch
}

# A patch is enabled over and over while the core changes: it must end up with one core or the other, or be refused.
test_patches_under_load() {
	local stop pid
	stop=$(mktemp)
	while [ -e "$stop" ]; do
		if load livepatch-cmdline 2>/dev/null; then
			grep -q live-patched /proc/cmdline || touch "$stop.lost"
			wait_until 20 settled settled livepatch_cmdline
			remove livepatch-cmdline || touch "$stop.lost"
		fi
	done &
	pid=$!
	for _ in $(seq 30); do
		load livepatch 2>/dev/null || continue
		until rmmod livepatch 2>/dev/null; do :; done
	done
	rm "$stop"
	wait $pid
	[ ! -e "$stop.lost" ]
}

held_up() { [ "$(cat /sys/module/klp_test_hook/parameters/reached)" = Y ]; }

# The module is on its way out, and has not handed back yet, when a patch comes: the built-in core takes the patch.
test_patch_while_the_core_goes() {
	local unloading
	load livepatch
	load klp_test_hook mode=delay function=livepatch:cleanup_module
	mark
	command rmmod livepatch &
	unloading=$!
	wait_until 10 "rmmod held up" held_up
	load livepatch-cmdline
	wait $unloading
	not is_loaded livepatch
	wait_until 10 settled settled livepatch_cmdline
	grep -q live-patched /proc/cmdline
	[ "$(log | sort)" = "livepatch: 'livepatch_cmdline': patching complete
livepatch: 'livepatch_cmdline': starting patching transition
livepatch: enabling patch 'livepatch_cmdline'
livepatch: the built-in core is in charge again" ]
	remove livepatch-cmdline
	rmmod klp_test_hook
}

# On a mutex, which the stack does not show.
take_over_waits() {
	local stack
	stack=$(grep -ls '\[livepatch\]' /proc/[0-9]*/stack) && grep -q '^State:.D ' "${stack%stack}status"
}

# The directory of a patch of the built-in core is about to go, and somebody in a file of it waits for
# that core's lock, behind the one who takes over.
test_somebody_is_in_a_directory_that_goes() {
	local parameters=/sys/module/klp_test_patch/parameters disabling loading reading
	load klp_test_target
	load klp_test_patch
	wait_until 30 settled settled klp_test_patch
	# Past the built-in core's function for modules that come, which takes the lock, too.
	load klp_test_hook mode=coming function=livepatch
	load livepatch &
	loading=$!
	wait_until 10 "the module held up" held_up
	put 1 $parameters/hold
	echo 0 >$lp/klp_test_patch/enabled &
	disabling=$!
	wait_until 30 "the callback to be held" grep -qx Y $parameters/held
	put 0 /sys/module/klp_test_hook/parameters/hold
	# Twice, since it may have waited for something else.
	wait_until 10 "the take-over to wait" eval 'take_over_waits && sleep 0.2 && take_over_waits'
	cat $lp/klp_test_patch/stack_order >/dev/null &
	reading=$!
	wait_until 10 "the reader to wait" sleeps_in $reading stack_order_show
	put 0 $parameters/hold
	wait_until 30 "the take-over" grep -q '^livepatch .* Live' /proc/modules
	wait $disabling
	wait $loading
	wait $reading || true
	wait_until 10 gone gone klp_test_patch
	rmmod klp_test_patch
	rmmod klp_test_target
	rmmod klp_test_hook
	rmmod livepatch
}

# Looking a shadow variable up is as fast as ever.
test_shadow_get_is_left_alone() {
	load livepatch
	grep -q '^klp_shadow_alloc ' /sys/kernel/tracing/enabled_functions
	not grep -q '^klp_shadow_get ' /sys/kernel/tracing/enabled_functions
	rmmod livepatch
}

run_tests
