#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# An exiting task that has left the task list and still runs the code of a patch: no transition sees
# it, so the patch's module must stay until it is gone.
. "$(dirname "$0")/lib.sh"

hold=/sys/module/klp_test_exit/parameters/hold
held() { [ "$(cat /sys/module/klp_test_exit/parameters/held)" = Y ]; }
not_held() { ! held; }

# A task in the replacement that no list has. Its parent does not wait for it, so it leaves the list
# by itself.
start_exiting() {
	grep -q ' proc_exit_connector$' /proc/kallsyms || skip "the kernel lacks CONFIG_PROC_EVENTS"
	"$@"
	load klp_test_exit hold=1
	wait_until 10 settled settled klp_test_exit
	exiting=$(perl -e '$SIG{CHLD} = "IGNORE"; $pid = fork; if ($pid) { waitpid $pid, 0; print $pid } else { $0 = "klp-exit" }')
	wait_until 10 "a task in the replacement" held
	[ -n "$exiting" ] && [ ! -e "/proc/$exiting" ]
}

# The patch gives way to one of the same function: nothing stops being intercepted.
replace() {
	load klp_test_exit_again
	wait_until 30 gone gone klp_test_exit
}

stop_exiting() {
	echo 0 >$hold
	wait_until 10 "the task has gone" not_held
	# Taking the last patch off waits until the task has left the code of the first one.
	remove klp_test_exit_again
	rmmod klp_test_exit
}

# The built-in core would let the module go, and its code with it.
test_exiting_task_on_the_built_in_core() {
	start_exiting :
	replace
	wait_until 10 "no references" unreferenced klp_test_exit
	held
	stop_exiting
}

test_exiting_task_keeps_the_module() {
	start_exiting load livepatch
	replace
	# Another transition from start to end, without the module becoming free.
	load klp_test_target
	load klp_test_patch
	wait_until 10 settled settled klp_test_patch
	remove_without_unloading klp_test_patch
	held
	[ "$(refs klp_test_exit)" = 1 ]
	expect_error 'in use' command rmmod klp_test_exit
	stop_exiting
	rmmod klp_test_patch klp_test_target livepatch
}

# The module of a patch that is disabled meanwhile is not given up before the task has gone, either.
remove_without_unloading() {
	echo 0 >"$lp/$1/enabled"
	wait_until 30 gone gone "$1"
}

run_tests
