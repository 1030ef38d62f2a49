#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Calls that jump to a replacement while nothing is in transition (direct=1), and who else comes to such a function.
. "$(dirname "$0")/lib.sh"

tracing=/sys/kernel/tracing
function=version_proc_show
value=/sys/module/klp_test_target/parameters/value
busy=$lp/klp_test_busy_fix
parameters=/sys/module/klp_test_busy/parameters
mount -t tracefs tracefs $tracing 2>/dev/null
mount -t bpf bpf /sys/fs/bpf 2>/dev/null
sysctl -qw kernel.bpf_stats_enabled=1

start_core() {
	can_jump || skip "the kernel lacks CONFIG_DYNAMIC_FTRACE_WITH_JMP"
	load livepatch direct=1
}

# listed FUNCTION USERS [FLAG]: what ftrace tells of a function, of a module or not; R: it saves all registers.
listed() { grep -A 1 "^$1 \(\[[a-z_]*\] \)\?($2)${3:+ $3}" $tracing/enabled_functions; }
# jumps FUNCTION: its calls jump, and nobody else is there.
jumps() { listed "$1" 1 | grep -q 'direct(jmp)-->'; }
# shares FUNCTION: its calls jump after somebody else was called.
shares() { listed "$1" '[2-9]' | grep -q 'direct(jmp)-->'; }
# The core's own function that nobody calls jumps all the time.
has_no_jump() { not grep -q 'direct(jmp)-->[^l]' $tracing/enabled_functions; }
# handled FUNCTION [FLAG]: it has a handler and nobody else.
handled() { listed "$1" 1 "${2:-}" | head -n 1 | grep -q ' I .*livepatch_ftrace_thunk'; }

# The time after which calls would jump has passed, for anything that happened before.
let_time_pass() {
	load livepatch-cmdline
	wait_until 10 settled settled livepatch_cmdline
	wait_until 10 "a jump" jumps cmdline_proc_show
	remove livepatch-cmdline
}

patch_it() {
	load klp_test_a vmlinux=1
	wait_until 20 settled settled klp_test_a
}
is_patched() { grep -q '^patched by 1' /proc/version; }
is_original() { grep -q '^Linux version' /proc/version; }
patch_and_jump() {
	patch_it
	is_patched
	wait_until 10 "a jump" jumps $function
	is_patched
}

test_jumps_outside_transitions() {
	start_core
	# What keeps the filter from becoming empty, whoever else is at the functions by which the core is called.
	handled livepatch_filter_anchor R
	jumps livepatch_jump_anchor
	for _ in 1 2 3; do
		patch_and_jump
		remove klp_test_a
		is_original
		has_no_jump
	done
	rmmod livepatch
}

test_not_without_the_parameter() {
	load livepatch
	not grep -q 'direct(jmp)-->' $tracing/enabled_functions
	patch_it
	handled $function
	not handled $function R
	# The work would have been done by then.
	sleep 2
	handled $function
	[ "$(cat $lp/klp_test_a/direct)" = 0 ]
	expect_error 'Operation not supported' put 1 $lp/klp_test_a/direct
	echo 0 >$lp/klp_test_a/direct
	remove klp_test_a
	rmmod livepatch
}

# A patch that is not to have jumps, and one that is, in the same function and others.
test_file_of_a_patch() {
	local direct=$lp/klp_test_a/direct
	start_core
	load klp_test_target
	patch_and_jump
	wait_until 10 "a jump" jumps klp_test_value
	[ "$(cat "$direct")" = 1 ]
	# At once, and for as long as it says so.
	echo 0 >"$direct"
	[ "$(cat "$direct")" = 0 ]
	handled $function R
	handled klp_test_value R
	is_patched
	load klp_test_b
	wait_until 20 settled settled klp_test_b
	wait_until 10 "a jump" jumps klp_test_value
	handled $function R
	[ "$(cat $value)" = 2110 ]
	# What is decided by the one on top is not changed by the one below.
	echo 1 >"$direct"
	wait_until 10 "a jump" jumps $function
	echo 0 >"$direct"
	jumps klp_test_value
	handled $function R
	remove klp_test_b
	let_time_pass
	handled klp_test_value R
	[ "$(cat $value)" = 1110 ]
	echo 1 >"$direct"
	wait_until 10 "a jump" jumps $function
	wait_until 10 "a jump" jumps klp_test_value
	is_patched
	[ "$(cat $value)" = 1110 ]
	expect_error 'Invalid argument' put perhaps "$direct"
	[ "$(cat "$direct")" = 1 ]
	# Without a jump, the patch goes as any other.
	echo 0 >"$direct"
	remove klp_test_a
	is_original
	rmmod klp_test_target livepatch
}

# In a transition, the functions have handlers in any case.
test_file_in_a_transition() {
	local direct=$lp/livepatch_sleeper_fix/direct
	start_core
	start_sleeper
	load livepatch-sleeper-fix nap=600
	in_transition livepatch_sleeper_fix
	echo 0 >"$direct"
	echo 1 >"$direct"
	sleep 2
	handled sleeper_wait R
	echo 0 >"$direct"
	echo go >/proc/sleeper
	wait "$sleeper"
	wait_until 5 settled settled livepatch_sleeper_fix
	let_time_pass
	handled sleeper_wait R
	stop_fix
}

test_only_those_that_ask() {
	can_jump || skip "the kernel lacks CONFIG_DYNAMIC_FTRACE_WITH_JMP"
	load livepatch direct=2
	patch_it
	[ "$(cat $lp/klp_test_a/direct)" = 0 ]
	load livepatch-cmdline
	wait_until 10 settled settled livepatch_cmdline
	echo 1 >$lp/livepatch_cmdline/direct
	wait_until 10 "a jump" jumps cmdline_proc_show
	handled $function R
	is_patched
	remove livepatch-cmdline
	remove klp_test_a
	rmmod livepatch
}

# A BPF program can be attached when the jump is gone, which then comes back when the program has gone and a transition
# has ended.
test_room_for_bpf() {
	[ -e /sys/kernel/btf/vmlinux ] || skip "the kernel lacks CONFIG_DEBUG_INFO_BTF"
	start_core
	patch_and_jump
	not attach fentry
	echo 0 >$lp/klp_test_a/direct
	attach fentry
	is_patched
	echo 1 >$lp/klp_test_a/direct
	let_time_pass
	not jumps $function
	not shares $function
	is_patched
	detach
	not jumps $function
	let_time_pass
	jumps $function
	is_patched
	remove klp_test_a
	rmmod livepatch
}

test_handler_during_a_transition() {
	start_core
	patch_and_jump
	start_sleeper
	load livepatch-sleeper-fix nap=600
	in_transition livepatch_sleeper_fix
	# Other patches are not concerned.
	jumps $function
	handled sleeper_wait R
	sleep 2
	handled sleeper_wait R
	echo go >/proc/sleeper
	wait "$sleeper"
	wait_until 5 settled settled livepatch_sleeper_fix
	wait_until 10 "a jump" jumps sleeper_wait
	# And back: a task is in the replacement.
	start_napper
	echo 0 >"$fix/enabled"
	in_transition livepatch_sleeper_fix
	handled sleeper_wait R
	echo 1 >"$fix/enabled"
	wait_until 5 settled settled livepatch_sleeper_fix
	wait_until 10 "a jump" jumps sleeper_wait
	kill "$napper"
	wait "$napper" || true
	remove klp_test_a
	stop_fix
}

test_stack_and_replace() {
	start_core
	patch_and_jump
	load klp_test_b vmlinux=1
	wait_until 20 settled settled klp_test_b
	grep -q '^patched by 2' /proc/version
	wait_until 10 "a jump" jumps $function
	grep -q '^patched by 2' /proc/version
	# The lower one goes first.
	remove klp_test_a
	grep -q '^patched by 2' /proc/version
	wait_until 10 "a jump" jumps $function
	patch_it
	is_patched
	wait_until 10 "a jump" jumps $function
	is_patched
	# One that does not have the function replaces both.
	load klp_test_c replace=1
	wait_until 10 "klp_test_a replaced" gone klp_test_a
	wait_until 10 "klp_test_b replaced" gone klp_test_b
	is_original
	has_no_jump
	rmmod klp_test_a klp_test_b
	remove klp_test_c
	rmmod livepatch
}

hits() { [ "$(grep -c "$1" $tracing/trace)" = "$2" ]; }

# All probes have been hit so often.
probes_hit() {
	local event
	for event in at_entry at_return entered left; do
		hits "$event:" "$1"
	done
}

test_tracers_and_probes() {
	local tracer
	start_core
	patch_and_jump
	for tracer in function function_graph; do
		echo $function >$tracing/set_ftrace_filter
		echo $tracer >$tracing/current_tracer
		shares $function
		: >$tracing/trace
		is_patched
		[ "$(grep -c "$function" $tracing/trace)" -ge 1 ]
		echo nop >$tracing/current_tracer
		: >$tracing/set_ftrace_filter
		jumps $function
		is_patched
	done
	put_probes
	: >$tracing/trace
	is_patched
	probes_hit 1
	# The patch goes and comes while they are there.
	remove klp_test_a
	is_original
	probes_hit 2
	patch_it
	wait_until 10 "a jump" shares $function
	is_patched
	probes_hit 3
	take_probes
	is_patched
	remove klp_test_a
	is_original
	rmmod livepatch
}

# A program that is there first keeps its place, and the function its handler; one that comes to a jump is refused,
# and is not when the function is in the handler's hands again.
test_bpf() {
	[ -e /sys/kernel/btf/vmlinux ] || skip "the kernel lacks CONFIG_DEBUG_INFO_BTF"
	start_core
	attach fentry
	patch_it
	let_time_pass
	not jumps $function
	not shares $function
	is_patched
	remove klp_test_a
	is_original
	detach
	patch_and_jump
	not attach fentry
	is_patched
	remove klp_test_a
	is_original
	attach fexit
	is_original
	detach
	rmmod livepatch
}

# Somebody who changes the instruction pointer is refused, as where there is a handler.
test_somebody_else_who_redirects() {
	start_core
	patch_and_jump
	expect_error "$EBUSY" load klp_test_hook function=$function
	is_patched
	remove klp_test_a
	is_original
	rmmod livepatch
}

# Somebody who is registered for another function first is not. That is a matter of this function alone.
test_somebody_else_who_gets_in() {
	start_core
	patch_and_jump
	load klp_test_hook function=$function mode=grow
	is_patched
	expect_error "$EBUSY" put 0 $lp/klp_test_a/enabled
	expect_error "$EBUSY" put 0 $lp/klp_test_a/direct
	[ "$(cat $lp/klp_test_a/direct)" = 1 ]
	expect_error "$EBUSY" load klp_test_b vmlinux=1
	is_patched
	let_time_pass
	is_patched
	rmmod klp_test_hook
	remove klp_test_a
	is_original
	rmmod livepatch
}

test_module_goes() {
	start_core
	load klp_test_target
	load klp_test_a
	load klp_test_b
	wait_until 20 settled settled klp_test_b
	wait_until 10 "a jump" jumps klp_test_value
	for _ in 1 2 3; do
		[ "$(cat $value)" = 2110 ]
		rmmod klp_test_target
		has_no_jump
		load klp_test_target
		[ "$(cat $value)" = 2110 ]
		wait_until 10 "a jump" jumps klp_test_value
	done
	remove klp_test_b
	[ "$(cat $value)" = 1110 ]
	remove klp_test_a
	[ "$(cat $value)" = 111 ]
	rmmod klp_test_target livepatch
}

# One of the functions is in the target's init section, which is freed when the target has been initialised.
test_function_that_is_freed() {
	start_core
	load klp_test_patch mode=init
	wait_until 10 settled settled klp_test_patch
	for _ in 1 2 3; do
		load klp_test_target
		[ "$(cat $value)" = 112 ]
		wait_until 10 "a jump" jumps klp_test_value
		not grep -q 'direct(jmp)-->new_zero' $tracing/enabled_functions
		# Another patch has its transitions, with a jump in between.
		let_time_pass
		rmmod klp_test_target
	done
	load klp_test_target
	wait_until 10 "a jump" jumps klp_test_value
	remove klp_test_patch
	[ "$(cat $value)" = 111 ]
	has_no_jump
	rmmod klp_test_target livepatch
}

test_replacement_at_an_odd_address() {
	start_core
	load klp_test_target
	load klp_test_patch mode=odd
	wait_until 10 settled settled klp_test_patch
	[ $((0x$(awk '$3 == "new_at_odd_address" { print $1 }' /proc/kallsyms) & 1)) = 1 ]
	let_time_pass
	handled klp_test_value R
	[ "$(cat $value)" = 113 ]
	remove klp_test_patch
	[ "$(cat $value)" = 111 ]
	rmmod klp_test_target livepatch
}

# A function of two names.
test_alias() {
	start_core
	load klp_test_target
	load klp_test_patch mode=alias name=klp_test_aliased
	wait_until 10 settled settled klp_test_patch
	wait_until 10 "a jump" grep -q 'direct(jmp)-->new_value' $tracing/enabled_functions
	[ "$(cat $value)" = 113 ]
	remove klp_test_patch
	[ "$(cat $value)" = 111 ]
	has_no_jump
	rmmod klp_test_target livepatch
}

# A patch that cannot be enabled.
test_failure_to_enable() {
	start_core
	load klp_test_target
	load klp_test_a
	wait_until 20 settled settled klp_test_a
	wait_until 10 "a jump" jumps klp_test_value
	expect_error "$EINVAL" load klp_test_patch mode=second-notrace
	[ "$(cat $value)" = 1110 ]
	wait_until 10 "a jump" jumps klp_test_value
	[ "$(cat $value)" = 1110 ]
	remove klp_test_a
	rmmod klp_test_target livepatch
}

# The core, and threads that call two functions of which a patch replaces both. More threads than processors: some are
# preempted anywhere. The tracer knows the functions, and does not ask for all registers; it records nothing. Since it
# makes them take long, and threads cannot switch there, the threads do something else in between.
start_threads() {
	start_core
	load klp_test_busy threads=6 pause=2000
	trap '{ echo 0 >$parameters/busy; } 2>/dev/null || true' EXIT
	echo 0 >$tracing/tracing_on
	echo 'klp_test_busy_*' >$tracing/set_ftrace_filter
}

# Whether one thread or another has run a wrong function in between, for which it need not be in a transition.
stop_threads() {
	[ "$(cat $parameters/mixed)" = 0 ]
	[ "$(cat $parameters/wrong)" = 0 ]
	[ "$(cat $parameters/patched)" -gt 0 ]
	echo 0 >$parameters/busy
	: >$tracing/set_ftrace_filter
	echo 1 >$tracing/tracing_on
	rmmod klp_test_busy livepatch
}

# change_all_the_time COMMAND...: the functions change between jump, handler and original code, and at each jump COMMAND
# is run.
change_all_the_time() {
	for _ in 1 2 3 4 5; do
		load klp_test_busy_fix
		wait_until 14 settled settled klp_test_busy_fix
		wait_until 10 "a jump" grep -q 'direct(jmp)-->new_inner' $tracing/enabled_functions
		"$@"
		echo 0 >$busy/enabled
		wait_until 14 gone gone klp_test_busy_fix
		echo 0 >$parameters/busy
		rmmod klp_test_busy_fix
		echo 1 >$parameters/busy
	done
}

trace_for_a_moment() {
	echo function >$tracing/current_tracer
	echo nop >$tracing/current_tracer
}

test_under_load() {
	start_threads
	change_all_the_time trace_for_a_moment
	stop_threads
}

test_traced_under_load() {
	start_threads
	echo function >$tracing/current_tracer
	change_all_the_time true
	echo nop >$tracing/current_tracer
	stop_threads
}

# Last of all, since nothing can be patched afterwards.
test_ftrace_is_dead() {
	start_core
	patch_and_jump
	start_sleeper
	load livepatch-sleeper-fix
	in_transition livepatch_sleeper_fix
	load klp_test_kill
	echo go >/proc/sleeper
	wait "$sleeper"
	wait_until 5 settled settled livepatch_sleeper_fix
	# Nobody can take the jump away, so it stays, and the patch does.
	expect_error "$ENODEV" put 0 $lp/klp_test_a/enabled
	expect_error "$ENODEV" put 0 $lp/klp_test_a/direct
	is_patched
	[ "$(cat $lp/klp_test_a/enabled)" = 1 ]
	# Neither can anything be put on top of it, nor another function be patched.
	expect_error "$ENODEV" load klp_test_b vmlinux=1
	expect_error "$ENODEV" load livepatch-cmdline
	# The other one gets no jump, and so can be disabled. The time after which it would have jumped has to pass.
	sleep 3
	remove livepatch-sleeper-fix
	rm "$answer"
	rmmod livepatch-sleeper klp_test_kill
	is_patched
	stays=$'livepatch\nklp_test_a'
}

run_tests
