#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Tasks that do not stop running: in user space on a processor without a tick, and in the kernel.
# They are looked at where they run. Processor 1 is to have no tick (nohz_full=1).
. "$(dirname "$0")/lib.sh"

busy=$lp/klp_test_busy_fix
parameters=/sys/module/klp_test_busy/parameters
tracing=/sys/kernel/tracing

# in_time COMMAND...: waits until it succeeds, which must be before the core sends signals.
in_time() {
	local start=$EPOCHREALTIME
	wait_until 12 "$*" "$@"
	say "after $(((${EPOCHREALTIME/./} - ${start/./}) / 1000)) ms: $*"
	not grep -q 'signaling remaining tasks' <(log)
}

# One thread after another on each of the two processors. The kernel would leave the one without a tick alone.
start_threads() {
	local pid
	mark
	load klp_test_busy "$@"
	# Whatever happens, they must not keep the modules for ever.
	trap '{ echo 0 >$parameters/busy; } 2>/dev/null || true' EXIT
	for pid in $(pgrep '^klp_test_busy/'); do
		taskset -pc $((pid % 2)) "$pid" >/dev/null
	done
}

ran_the_patch() { [ "$(cat $parameters/patched)" -gt 0 ]; }

# Neither did a thread switch in the middle of a call, nor did it run the patch when it was off.
expect_consistent() {
	[ "$(cat $parameters/mixed)" = 0 ]
	[ "$(cat $parameters/wrong)" = 0 ]
}

test_kernel_threads() {
	load livepatch
	start_threads
	for _ in 1 2 3 4 5; do
		load klp_test_busy_fix
		in_time settled klp_test_busy_fix
		wait_until 5 "patch in use" ran_the_patch
		echo 0 >$busy/enabled
		in_time gone klp_test_busy_fix
		# The threads may yet have been in the patch, for all that is known without their sleeping.
		[ "$(refs klp_test_busy_fix)" = 1 ]
		echo 0 >$parameters/busy
		rmmod klp_test_busy_fix
		echo 1 >$parameters/busy
	done
	expect_consistent
	rmmod klp_test_busy livepatch
}

# More threads than processors: some wait for one, inside the function.
test_more_kernel_threads_than_processors() {
	load livepatch
	start_threads threads=6
	load klp_test_busy_fix
	wait_until 14 settled settled klp_test_busy_fix
	echo 0 >$busy/enabled
	wait_until 14 gone gone klp_test_busy_fix
	expect_consistent
	echo 0 >$parameters/busy
	rmmod klp_test_busy_fix klp_test_busy livepatch
}

test_they_are_switched_by_an_interrupt() {
	load livepatch
	start_threads
	mount -t tracefs tracefs $tracing 2>/dev/null || true
	echo >$tracing/trace
	echo 1 >$tracing/events/livepatch/enable
	load klp_test_busy_fix
	wait_until 14 settled settled klp_test_busy_fix
	echo 0 >$busy/enabled
	wait_until 14 gone gone klp_test_busy_fix
	echo 0 >$tracing/events/livepatch/enable
	grep -q 'klp_task_switched: comm=klp_test_busy/[01] .* how=interrupt' $tracing/trace
	echo 0 >$parameters/busy
	rmmod klp_test_busy_fix klp_test_busy livepatch
}

test_reversals_of_busy_threads() {
	load livepatch
	start_threads
	load klp_test_busy_fix
	for _ in $(seq 40); do
		# It may be complete already, and then it is gone.
		echo 0 2>/dev/null >$busy/enabled || break
		echo 1 2>/dev/null >$busy/enabled || true
	done
	{ echo 0 >$busy/enabled; } 2>/dev/null || true
	wait_until 14 gone gone klp_test_busy_fix
	expect_consistent
	echo 0 >$parameters/busy
	rmmod klp_test_busy_fix klp_test_busy livepatch
}

# Looks go on while a task sleeps in a function, and processors come and go.
test_cpu_hotplug_during_looks() {
	[ -e /sys/devices/system/cpu/cpu1/online ] || skip "the kernel lacks CONFIG_HOTPLUG_CPU"
	load livepatch
	start_threads
	start_sleeper
	for _ in 1 2 3 4; do
		load livepatch-sleeper-fix
		echo 0 >/sys/devices/system/cpu/cpu1/online
		in_transition livepatch_sleeper_fix
		echo 1 >/sys/devices/system/cpu/cpu1/online
		echo 0 >$fix/enabled
		wait_until 14 gone gone livepatch_sleeper_fix
		echo 0 >$parameters/busy
		rmmod livepatch-sleeper-fix
		echo 1 >$parameters/busy
	done
	stop_sleeper
	echo 0 >$parameters/busy
	rmmod klp_test_busy livepatch
}

# The core goes as soon as it may: no look is left behind.
test_core_goes_after_looks() {
	start_threads
	# The core cannot come while they run: ftrace waits until every task has slept.
	echo 0 >$parameters/busy
	for _ in $(seq 8); do
		load livepatch
		echo 1 >$parameters/busy
		load klp_test_busy_fix
		wait_until 14 settled settled klp_test_busy_fix
		echo 0 >$busy/enabled
		echo 0 >$parameters/busy
		wait_until 14 gone gone klp_test_busy_fix
		rmmod klp_test_busy_fix livepatch
	done
	expect_consistent
	rmmod klp_test_busy
}

test_user_task_without_tick() {
	local task
	grep -qx 1 /sys/devices/system/cpu/nohz_full || skip "the kernel lacks CONFIG_NO_HZ_FULL"
	load livepatch
	mark
	mount -t tracefs tracefs $tracing 2>/dev/null || true
	# No system call in the loop, so nothing but an interrupt brings it into the kernel.
	taskset -c 1 sh -c 'while :; do :; done' &
	task=$!
	wait_until 10 "task running" grep -q '^State:.R' /proc/$task/status
	echo >$tracing/trace
	echo 1 >$tracing/events/livepatch/enable
	for _ in 1 2 3 4 5; do
		load livepatch-cmdline
		in_time settled livepatch_cmdline
		echo 0 >$lp/livepatch_cmdline/enabled
		in_time gone livepatch_cmdline
		rmmod livepatch-cmdline
	done
	echo 0 >$tracing/events/livepatch/enable
	# The interrupts by which the kernel changes its code come to all processors, and may be the first.
	grep -qE "klp_task_switched: comm=sh pid=$task how=(interrupt|user_exit)" $tracing/trace
	not grep -q "klp_signal: comm=sh pid=$task" $tracing/trace
	kill $task
	wait $task || true
	rmmod livepatch
}

run_tests
