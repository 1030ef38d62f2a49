#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Transitions that wait for tasks: reversal, signals, force, CPUs and tasks that come and go.
. "$(dirname "$0")/lib.sh"

test_waits_and_completes_when_the_task_leaves() {
	load livepatch
	start_sleeper
	mark
	load livepatch-sleeper-fix
	in_transition livepatch_sleeper_fix
	[ "$(cat $fix/enabled)" = 1 ]
	# All others have switched.
	wait_until 10 "only the sleeper left" only_one_left
	[ "$(patch_state $sleeper)" = 0 ]
	echo go >/proc/sleeper
	wait $sleeper
	wait_until 5 settled settled livepatch_sleeper_fix
	[ "$(cat "$answer")" = slept ]
	[ "$(cat /proc/sleeper)" = awake ]
	expect_log <<-END
		livepatch: enabling patch 'livepatch_sleeper_fix'
		livepatch: 'livepatch_sleeper_fix': starting patching transition
		livepatch: 'livepatch_sleeper_fix': patching complete
	END
	stop_fix
}

# When the task in sleeper_wait was in the way: the times of the last two passes over the tasks.
last_passes() { dmesg | sed -n 's/^\[ *\([0-9.]*\)\] .* is sleeping on function sleeper_wait$/\1/p' | tail -n 2; }
slow_passes() { last_passes | awk 'NR == 1 { first = $1 } END { exit !(NR == 2 && $1 - first > 0.9) }'; }
# The time of the next pass, as soon as it is over: reading the whole log takes too long for that.
next_pass() {
	sed -n 's/^\[ *\([0-9.]*\)\] .* is sleeping on function sleeper_wait$/\1/p; T; q' \
		< <(dmesg --follow-new)
}

test_completes_as_soon_as_the_last_task_leaves() {
	local last complete
	mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null || true
	load livepatch
	start_sleeper
	load livepatch-sleeper-fix
	echo 'func klp_try_switch_task +p' >/sys/kernel/debug/dynamic_debug/control
	# The core looks once a second by now. Directly after it did, the task leaves.
	wait_until 20 "passes a second apart" slow_passes
	last=$(next_pass)
	mark
	echo go >/proc/sleeper
	wait $sleeper
	wait_until 5 settled settled livepatch_sleeper_fix
	complete=$(dmesg | sed -n "/$mark_text/,\$ s/^\[ *\([0-9.]*\)\] .*patching complete$/\1/p")
	awk -v last="$last" -v complete="$complete" 'BEGIN { exit !(complete - last < 0.7) }'
	stop_fix
}

# only_one_left [STATE]: one task is in this state, 0 if it is to be patched.
only_one_left() { [ "$(cat /proc/[0-9]*/task/*/patch_state 2>/dev/null | grep -c "^${1:-0}\$")" = 1 ]; }

test_nobody_has_a_state_afterwards() {
	load livepatch
	load livepatch-cmdline
	wait_until 10 settled settled livepatch_cmdline
	[ -z "$(cat /proc/[0-9]*/task/*/patch_state 2>/dev/null | { grep -v '^-1$' || true; })" ]
	remove livepatch-cmdline
	rmmod livepatch
}

test_children_inherit_the_state() {
	load livepatch
	start_sleeper
	load livepatch-sleeper-fix
	wait_until 10 "only the sleeper left" only_one_left
	[ "$(bash -c 'cat /proc/self/patch_state')" = 1 ]
	stop_sleeper_and_fix
}

tracing=/sys/kernel/tracing
mount -t tracefs tracefs $tracing 2>/dev/null

stop_tracing() {
	echo nop >$tracing/current_tracer
	echo >$tracing/set_ftrace_filter
	[ ! -e $tracing/events/kprobes ] || echo 0 >$tracing/events/kprobes/enable
	echo >$tracing/kprobe_events
}

# Whatever happens.
end_sleeper_and_tracing() {
	[ -z "${sleeper:-}" ] || kill "$sleeper" 2>/dev/null || true
	stop_tracing
}

# A task that sleeps in a function of the kernel's image; its process ID is in $sleeper.
start_nanosleep() {
	sleep 600 &
	sleeper=$!
	wait_until 10 "task asleep in $1" grep -q "$1+" /proc/$sleeper/stack
}
stop_nanosleep() {
	kill "$sleeper"
	wait "$sleeper" || true
	sleeper=
}

# Only the sleeper is left, in the function, in the state that is given.
sleeper_holds_up() {
	local blockers=$lp/klp_test_nap/blockers
	wait_until 10 "only the sleeper left" only_one_left "$1"
	[ "$(patch_state "$sleeper")" = "$1" ]
	[ ! -e "$blockers" ] || [ "$(cut -f 3 "$blockers")" = "sleeping in hrtimer_nanosleep" ]
}

# It holds the patch up, there and back, and nobody else does.
nap_holds_up() {
	trap end_sleeper_and_tracing EXIT
	start_nanosleep hrtimer_nanosleep
	load klp_test_nap
	sleeper_holds_up 0
	stop_nanosleep
	wait_until 10 settled settled klp_test_nap
	start_nanosleep nap
	echo 0 >$lp/klp_test_nap/enabled
	sleeper_holds_up 1
	stop_nanosleep
	wait_until 10 "klp_test_nap gone" gone klp_test_nap
	rmmod klp_test_nap
}

test_sleeper_in_the_image() { on_both_cores nap_holds_up; }

# What the function calls returns to the tracer, whose code is on the stack instead of the function's.
test_sleeper_with_traced_returns() {
	local function called="do_nanosleep schedule_hrtimeout"
	for function in $called; do
		echo "$function" >>$tracing/set_ftrace_filter
	done
	echo function_graph >$tracing/current_tracer
	on_both_cores nap_holds_up
	stop_tracing
	for function in $called; do
		echo "r:at_return_of_$function $function" >>$tracing/kprobe_events
		echo 1 >"$tracing/events/kprobes/at_return_of_$function/enable"
	done
	on_both_cores nap_holds_up
	stop_tracing
}

# How many stacks were unwound for a patch that nobody runs, for 100 tasks; in $percent.
unwound() {
	local tasks=(/proc/[0-9]*/task/[0-9]*) count
	echo >$tracing/trace
	load livepatch-cmdline
	wait_until 20 settled settled livepatch_cmdline
	count=$(grep -c stack_trace_save_tsk_reliable $tracing/trace)
	say "$count stacks unwound, ${#tasks[@]} tasks"
	percent=$((100 * count / ${#tasks[@]}))
	remove livepatch-cmdline
}

test_most_stacks_are_not_unwound() {
	trap stop_tracing EXIT
	echo stack_trace_save_tsk_reliable >$tracing/set_ftrace_filter
	echo function >$tracing/current_tracer
	# The others switch on their own.
	unwound
	[ $percent -gt 50 ] || fail "the tracer does not see it"
	load livepatch
	unwound
	rmmod livepatch
	stop_tracing
	[ $percent -lt 30 ] || fail "more than a few"
}

test_another_patch_has_to_wait() {
	load livepatch
	load livepatch-cmdline
	wait_until 10 settled settled livepatch_cmdline
	start_sleeper
	load livepatch-sleeper-fix
	in_transition livepatch_sleeper_fix
	expect_error "$EBUSY" load klp_test_patch
	not is_loaded klp_test_patch
	[ "$(ls $lp)" = "livepatch_cmdline
livepatch_sleeper_fix" ]
	expect_error "busy" put 0 $lp/livepatch_cmdline/enabled
	[ "$(cat $lp/livepatch_cmdline/enabled)" = 1 ]
	echo go >/proc/sleeper
	wait $sleeper
	wait_until 5 settled settled livepatch_sleeper_fix
	remove livepatch-cmdline
	stop_fix
}

test_reversal() {
	load livepatch
	start_sleeper
	mark
	load livepatch-sleeper-fix
	echo 0 >$fix/enabled
	wait_until 10 gone gone livepatch_sleeper_fix
	rmmod livepatch-sleeper-fix
	expect_log <<-END
		livepatch: enabling patch 'livepatch_sleeper_fix'
		livepatch: 'livepatch_sleeper_fix': starting patching transition
		livepatch: 'livepatch_sleeper_fix': starting unpatching transition
		livepatch: 'livepatch_sleeper_fix': unpatching complete
	END
	stop_sleeper
	rmmod livepatch
}

# One task sleeps in the old function and holds up patching, another in the new one and holds up unpatching: the
# transition is turned round again and again and cannot complete either way.
test_reversal_there_and_back() {
	load livepatch
	start_sleeper
	mark
	load livepatch-sleeper-fix nap=600
	wait_until 10 "only the sleeper left" only_one_left
	start_napper
	for _ in 1 2 3; do
		echo 0 >$fix/enabled
		in_transition livepatch_sleeper_fix
		[ "$(cat $fix/enabled)" = 0 ]
		wait_until 10 "napper left" [ "$(patch_state $napper)" = 1 ]
		echo 1 >$fix/enabled
		in_transition livepatch_sleeper_fix
		[ "$(cat $fix/enabled)" = 1 ]
		[ "$(patch_state $sleeper)" = 0 ]
	done
	kill $napper
	wait $napper || true
	echo go >/proc/sleeper
	wait $sleeper
	wait_until 5 settled settled livepatch_sleeper_fix
	expect_log <<-END
		livepatch: enabling patch 'livepatch_sleeper_fix'
		livepatch: 'livepatch_sleeper_fix': starting patching transition
		livepatch: 'livepatch_sleeper_fix': starting unpatching transition
		livepatch: 'livepatch_sleeper_fix': starting patching transition
		livepatch: 'livepatch_sleeper_fix': starting unpatching transition
		livepatch: 'livepatch_sleeper_fix': starting patching transition
		livepatch: 'livepatch_sleeper_fix': starting unpatching transition
		livepatch: 'livepatch_sleeper_fix': starting patching transition
		livepatch: 'livepatch_sleeper_fix': patching complete
	END
	stop_fix
}

# A task sleeps in the new function while the patch is disabled: the code must stay until it has left.
test_unpatching_waits() {
	patched_with_napper
	echo 0 >$fix/enabled
	in_transition livepatch_sleeper_fix
	expect_error 'in use' command rmmod livepatch-sleeper-fix
	expect_error 'Invalid argument' put 0 $fix/enabled
	kill $napper
	wait $napper || true
	wait_until 10 gone gone livepatch_sleeper_fix
	rmmod livepatch-sleeper-fix
	rmmod livepatch-sleeper
	rmmod livepatch
}

test_stalled_tasks_are_signalled() {
	local start
	load livepatch
	start_sleeper
	mark
	start=$(date +%s%N)
	load livepatch-sleeper-fix
	in_transition livepatch_sleeper_fix
	wait_until 30 settled settled livepatch_sleeper_fix
	start=$((($(date +%s%N) - start) / 1000000))
	say "completed after $start ms"
	[ $start -ge 14500 ]
	[ $start -le 18000 ]
	# The system call was restarted and runs the new function.
	wait $sleeper
	[ "$(cat "$answer")" = awake ]
	expect_log <<-END
		livepatch: enabling patch 'livepatch_sleeper_fix'
		livepatch: 'livepatch_sleeper_fix': starting patching transition
		livepatch: signaling remaining tasks
		livepatch: 'livepatch_sleeper_fix': patching complete
	END
	stop_fix
}

is_going() { grep -q "^livepatch_sleeper .* Unloading " /proc/modules; }

# Modules come and go meanwhile, and at last the one that is being patched.
test_target_unloaded_in_transition() {
	local pid
	load livepatch
	start_sleeper
	load livepatch-sleeper-fix
	in_transition livepatch_sleeper_fix
	load klp_test_target
	rmmod klp_test_target
	rmmod livepatch-sleeper &
	pid=$!
	wait_until 10 "target going" is_going
	in_transition livepatch_sleeper_fix
	kill $sleeper
	wait $pid
	wait $sleeper || true
	wait_until 10 settled settled livepatch_sleeper_fix
	[ "$(cat $fix/livepatch_sleeper/patched)" = 0 ]
	load livepatch-sleeper
	[ "$(cat /proc/sleeper)" = awake ]
	stop_fix
}

test_cpu_hotplug_in_transition() {
	[ -e /sys/devices/system/cpu/cpu1/online ] || skip "the kernel lacks CONFIG_HOTPLUG_CPU"
	load livepatch
	start_sleeper
	load livepatch-sleeper-fix
	for _ in 1 2 3; do
		echo 0 >/sys/devices/system/cpu/cpu1/online
		in_transition livepatch_sleeper_fix
		echo 1 >/sys/devices/system/cpu/cpu1/online
	done
	echo 0 >/sys/devices/system/cpu/cpu1/online
	echo go >/proc/sleeper
	wait $sleeper
	wait_until 10 settled settled livepatch_sleeper_fix
	remove livepatch-sleeper-fix
	echo 1 >/sys/devices/system/cpu/cpu1/online
	# The idle task of the CPU that was away is as all others.
	load livepatch-cmdline
	wait_until 10 settled settled livepatch_cmdline
	remove livepatch-cmdline
	rm "$answer"
	rmmod livepatch-sleeper
	rmmod livepatch
}

test_forks_in_transition() {
	local stop pids=() i
	load livepatch
	stop=$(mktemp)
	for i in 1 2 3; do
		while [ -e "$stop" ]; do (/bin/true; (/bin/true &)); done &
		pids+=($!)
	done
	for i in $(seq 8); do
		load livepatch-cmdline
		echo 0 >$lp/livepatch_cmdline/enabled 2>/dev/null || true
		if [ $((i % 2)) = 0 ]; then
			echo 1 >$lp/livepatch_cmdline/enabled 2>/dev/null || true
		fi
		if [ "$(cat $lp/livepatch_cmdline/enabled 2>/dev/null)" = 1 ]; then
			wait_until 30 settled settled livepatch_cmdline
			grep -q live-patched /proc/cmdline
			echo 0 >$lp/livepatch_cmdline/enabled
		fi
		wait_until 30 gone gone livepatch_cmdline
		rmmod livepatch-cmdline
		not grep -q live-patched /proc/cmdline
	done
	rm "$stop"
	wait "${pids[@]}"
	rmmod livepatch
}

test_busy_tasks() {
	local stop pids=() i
	load livepatch
	stop=$(mktemp)
	# One busy loop in user space for each CPU: they switch when the timer takes them into the kernel and out again.
	for i in 1 2; do
		while [ -e "$stop" ]; do :; done &
		pids+=($!)
	done
	load livepatch-cmdline
	wait_until 14 settled settled livepatch_cmdline
	remove livepatch-cmdline
	rm "$stop"
	wait "${pids[@]}"
	rmmod livepatch
}

test_forced_patching() {
	load livepatch
	start_sleeper
	load livepatch-sleeper-fix
	in_transition livepatch_sleeper_fix
	mark
	echo 1 >$fix/force
	wait_until 5 settled settled livepatch_sleeper_fix
	expect_log <<-END
		livepatch: forcing remaining tasks to the patched state
		livepatch: 'livepatch_sleeper_fix': patching complete
	END
	# Forcing it on leaves no doubt about the new code: the patch can still go.
	echo go >/proc/sleeper
	wait $sleeper
	stop_fix
}

late() { cat /sys/module/klp_test_late/parameters/late; }
was_preempted() { [ "$(cat /sys/module/klp_test_late/parameters/preempted)" -gt "$1" ]; }

# A task is preempted when the replacement has been chosen for it and it is not there yet: its stack does not show the
# replacement, and still it has not left it.
rounds_of_late_tasks() {
	local before busy=() i
	load klp_test_late
	for i in 1 2; do
		while :; do :; done &
		busy+=($!)
	done
	for _ in $(seq "$1"); do
		load klp_test_late_fix
		wait_until 30 settled settled klp_test_late_fix
		before=$(cat /sys/module/klp_test_late/parameters/preempted)
		wait_until 10 "threads on the way" was_preempted $((before + 4))
		echo 0 >$lp/klp_test_late_fix/enabled
		wait_until 30 gone gone klp_test_late_fix
		rmmod klp_test_late_fix
		[ "$(late)" = 0 ]
	done
	kill "${busy[@]}"
	wait "${busy[@]}" || true
	rmmod klp_test_late
}
test_replacement_is_not_entered_after_post_unpatch() {
	load livepatch
	rounds_of_late_tasks 6
	rmmod livepatch
}

# Last, since it cannot be undone: nobody knows whether a task still runs the code, so the module
# stays for ever.
test_forced_unpatching() {
	patched_with_napper
	mark
	echo 0 >$fix/enabled
	in_transition livepatch_sleeper_fix
	echo 1 >$fix/force
	wait_until 10 gone gone livepatch_sleeper_fix
	expect_log <<-END
		livepatch: 'livepatch_sleeper_fix': starting unpatching transition
		livepatch: forcing remaining tasks to the patched state
		livepatch: 'livepatch_sleeper_fix': unpatching complete
	END
	stays=livepatch_sleeper_fix
	[ "$(refs $stays)" = 1 ]
	expect_error 'in use' command rmmod livepatch-sleeper-fix
	naps_in_patch $napper
	kill $napper
	wait $napper || true
	rmmod livepatch-sleeper
	# The core itself may go: it has nothing to do with the module any more.
	rmmod livepatch
}

run_tests
