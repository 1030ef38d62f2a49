#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# ftrace stops working for good. Nothing can be patched any more; in a machine of its own.
. "$(dirname "$0")/lib.sh"

says_that_it_stays() { since_mark | grep -q 'ftrace is dead and still calls this module'; }

test_ftrace_is_dead() {
	load livepatch
	load klp_test_target
	load klp_test_patch
	wait_until 10 settled settled klp_test_patch
	[ "$(cat /sys/module/klp_test_target/parameters/value)" = 112 ]
	load klp_test_kill
	remove klp_test_patch
	[ "$(cat /sys/module/klp_test_target/parameters/value)" = 111 ]
	expect_error "$ENODEV" load klp_test_patch
	# The functions of livepatch still lead here, so the code must stay.
	mark
	command rmmod livepatch &
	wait_until 20 "rmmod held up" says_that_it_stays
	grep -q '^livepatch .* Unloading ' /proc/modules
	for _ in 1 2 3; do /bin/true; done
	rmmod klp_test_kill
	rmmod klp_test_target
	stays=livepatch
}

run_tests
