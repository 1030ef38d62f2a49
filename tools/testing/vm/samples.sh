#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The kernel's own livepatch samples, unmodified, do what their header comments say.
. "$(dirname "$0")/lib.sh"

patch=livepatch_callbacks_demo

said() { since_mark | grep -q "$1"; }

sample() {
	local before after
	before=$(cat /proc/cmdline)
	load livepatch-sample
	wait_until 10 settled settled livepatch_sample
	cat /proc/cmdline
	remove livepatch-sample
	after=$(cat /proc/cmdline)
	[ "$before" = "$after" ]
}
test_sample() {
	local same_log
	same_log=$(mktemp)
	same_on_both_cores sample
	grep -qx 'this has been live patched' "$same_log"
	rm "$same_log"
}

target_before() {
	load livepatch-callbacks-mod
	load livepatch-callbacks-demo
	wait_until 10 settled settled $patch
	remove $patch
	rmmod livepatch-callbacks-mod
}
test_callbacks_target_before() { same_on_both_cores target_before; }

target_after() {
	load livepatch-callbacks-demo
	wait_until 10 settled settled $patch
	load livepatch-callbacks-mod
	remove $patch
	rmmod livepatch-callbacks-mod
	# And gone before the patch.
	load livepatch-callbacks-demo
	wait_until 10 settled settled $patch
	load livepatch-callbacks-mod
	rmmod livepatch-callbacks-mod
	remove $patch
}
test_callbacks_target_after() { same_on_both_cores target_after; }

target_absent() {
	load livepatch-callbacks-demo
	wait_until 10 settled settled $patch
	remove $patch
}
test_callbacks_target_absent() { same_on_both_cores target_absent; }

refusal_at_enable() {
	load livepatch-callbacks-mod
	expect_error "$ENODEV" load livepatch-callbacks-demo pre_patch_ret=-19
	not is_loaded $patch
	rmmod livepatch-callbacks-mod
}
test_callbacks_refuse_the_patch() { same_on_both_cores refusal_at_enable; }

refusal_of_target() {
	load livepatch-callbacks-demo
	wait_until 10 settled settled $patch
	echo -19 >/sys/module/$patch/parameters/pre_patch_ret
	expect_error "$ENODEV" load livepatch-callbacks-mod
	not is_loaded livepatch-callbacks-mod
	echo 0 >/sys/module/$patch/parameters/pre_patch_ret
	load livepatch-callbacks-mod
	rmmod livepatch-callbacks-mod
	remove $patch
}
test_callbacks_refuse_the_target() { same_on_both_cores refusal_of_target; }

busy_target() {
	load livepatch-callbacks-busymod sleep_secs=8
	wait_until 10 "work started" said 'busymod_work_func, sleeping'
	load livepatch-callbacks-demo
	in_transition $patch
	load livepatch-callbacks-mod
	rmmod livepatch-callbacks-mod
	in_transition $patch
	wait_until 30 settled settled $patch
	remove $patch
	rmmod livepatch-callbacks-busymod
}
test_callbacks_busy_target() { same_on_both_cores busy_target; }

busy_target_reversed() {
	load livepatch-callbacks-busymod sleep_secs=8
	wait_until 10 "work started" said 'busymod_work_func, sleeping'
	load livepatch-callbacks-demo
	in_transition $patch
	echo 0 >$lp/$patch/enabled
	wait_until 30 gone gone $patch
	rmmod $patch
	wait_until 30 "work done" said 'busymod_work_func exit'
	rmmod livepatch-callbacks-busymod
}
test_callbacks_busy_target_reversed() { same_on_both_cores busy_target_reversed; }

# Both fixes use shadow variables; fix2 is stacked on fix1. Dummies live for twelve seconds.
test_shadow_fixes() {
	memory_may_leak
	load livepatch
	mark
	load livepatch-shadow-mod
	wait_until 10 "a dummy" said 'dummy_alloc: dummy @'
	load livepatch-shadow-fix1
	wait_until 10 settled settled livepatch_shadow_fix1
	wait_until 10 "a dummy with a shadow variable" said 'livepatch_fix1_dummy_alloc: dummy @'
	wait_until 40 "one from before is freed" said 'livepatch_fix1_dummy_free: dummy @ .* leaked!'
	wait_until 40 "one that was fixed is freed" said 'livepatch_fix1_.*: dummy @ .*, prevented leak @'

	load livepatch-shadow-fix2
	wait_until 10 settled settled livepatch_shadow_fix2
	[ "$(cat $lp/livepatch_shadow_fix2/stack_order)" = 2 ]
	wait_until 40 "a counter" said 'livepatch_fix2_dummy_free: dummy @ .*, check counter = [1-9]'
	said 'livepatch_fix2_.*: dummy @ .*, prevented leak @'
	remove livepatch-shadow-fix2
	remove livepatch-shadow-fix1
	rmmod livepatch-shadow-mod
	rmmod livepatch
}

run_tests
