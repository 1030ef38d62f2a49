#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# What klp shows of patches and transitions, and what stops, reverses and ends these. The program is
# in $TEST_FILES.
. "$(dirname "$0")/lib.sh"

fix=livepatch_sleeper_fix
tracing=/sys/kernel/tracing
mount -t tracefs tracefs $tracing 2>/dev/null

# The release of the kernel, to be matched.
release=$(uname -r | sed 's/[.+]/\\&/g')

klp() { "$TEST_FILES/klp" "$@"; }

# The core in charge, as klp calls it.
core() { if [ -e /sys/module/livepatch ]; then echo Rust; else echo built-in; fi; }

# A task that sleeps in the function to be patched, or in the new one if that is in effect. Its
# process ID is in $sleeper.
start_sleeper() {
	cat /proc/sleeper >/dev/null &
	sleeper=$!
	wait_until 10 "task asleep in $1" sleeps_in "$sleeper" "$1"
}

# Patches a function in which a task sleeps: the transition goes on until it leaves.
stall() {
	load livepatch-sleeper
	start_sleeper sleeper_wait
	load livepatch-sleeper-fix
	wait_until 20 "only the sleeper left" only_the_sleeper_left
}

# only_the_sleeper_left [STATE]: no other task has the state that is to be left, 0 when patching.
# The Rust core counts idle tasks, too.
only_the_sleeper_left() {
	[ "$(grep -l "^${1:-0}$" /proc/[0-9]*/task/*/patch_state 2>/dev/null)" = \
		"/proc/$sleeper/task/$sleeper/patch_state" ] &&
		{ [ ! -e $lp/$fix/remaining ] || [ "$(cat $lp/$fix/remaining)" = 1 ]; }
}

let_go() {
	echo go >/proc/sleeper
	wait "$sleeper"
}

end_stall() {
	let_go
	wait_until 10 settled settled $fix
	remove livepatch-sleeper-fix
	rmmod livepatch-sleeper
}

# expect_output PATTERN... reads what klp printed and wants a line for each of the patterns, in
# their order.
expect_output() {
	local output pattern rest found
	output=$(cat)
	rest=$output
	for pattern; do
		found=$(grep -nE -m 1 -- "$pattern" <<<"$rest") ||
			fail "no line «$pattern» in its place: $output"
		rest=$(tail -n "+$((${found%%:*} + 1))" <<<"$rest")
	done
}

no_patches() {
	klp status | expect_output "^Linux $release, $(core) core" '^no patches$'
	[ "$(klp wait)" = "" ]
	expect_error 'no transition is going on' klp reverse
	expect_error 'no transition is going on' klp force --yes
}

test_no_patches() { on_both_cores no_patches; }

# Both patches' properties, and the states that can be seen.
states() {
	load livepatch-cmdline
	wait_until 10 settled settled livepatch_cmdline
	stall
	klp status | expect_output '^livepatch_cmdline \[enabled\]$' \
		'^  for .*, number 1 in the stack$' '^  vmlinux: cmdline_proc_show$' \
		"^$fix \[enabling\.\.\.\]$" '^  for .* number 2 in the stack' \
		'^  livepatch_sleeper: sleeper_wait$' \
		'^  transition: [0-9]+ of [0-9]+ tasks done, [0-9]+ left, for'
	let_go
	wait_until 10 settled settled $fix
	klp status | expect_output "^$fix \[enabled\]$"
	not grep -q transition <(klp status)

	echo 600 >/sys/module/$fix/parameters/nap
	start_sleeper wait_no_longer
	echo 0 >$lp/$fix/enabled
	wait_until 20 "only the sleeper left" only_the_sleeper_left 1
	# From outside, only the new function can be seen; the core knows what it replaces.
	klp status -v | expect_output "^$fix \[disabling\.\.\.\]$" '^  transition: .* 1 left' \
		"^    task $sleeper cat: sleeping in (wait_no_longer|sleeper_wait)$" \
		'^      wait_no_longer\+0x'
	kill "$sleeper"
	wait "$sleeper" || true
	wait_until 10 gone gone $fix
	klp status | expect_output "^$fix \[not a patch any more\]: can be unloaded"
	rmmod livepatch-sleeper-fix livepatch-sleeper
	remove livepatch-cmdline
}

test_states() { on_both_cores states; }

who_holds_it_up() {
	stall
	klp status -v | expect_output '^  transition: .* 1 left, for' \
		"^    task $sleeper cat: sleeping in sleeper_wait$" \
		'^      will be signalled (again )?in [0-9]+ s' \
		'^      sleeper_wait\+0x[0-9a-f/x]+ \[livepatch_sleeper\]$'
	klp status -v --json | python3 -c '
import json, sys
document = json.load(sys.stdin)
assert document["schema"] == "klp/1", document
blocker, = document["blockers"]
assert blocker["tid"] == int(sys.argv[1]), blocker
assert blocker["reason"] == {"kind": "sleeping-in", "func": "sleeper_wait"}, blocker
assert blocker["task_state"] == "S", blocker
assert blocker["outlook"]["kind"] == "signalled", blocker
# The times come from the kernel log.
patch, = [patch for patch in document["patches"] if patch["transition"]]
assert patch["transition"]["seconds"] <= 60, patch
' "$sleeper"
	end_stall
}

test_who_holds_it_up() { on_both_cores who_holds_it_up; }

# Waits in the background. When it is over, its status is in the file $waited, with the time.
start_waiting() {
	waited=$(mktemp)
	{
		status=0
		klp wait || status=$?
		echo "$status $(date +%s%N)" >"$waited"
	} &
	waiter=$!
}

is_waiting() { pgrep -P "$waiter" -x klp >/dev/null; }

wait_ends_with_the_transition() {
	local status woken complete
	stall
	start_waiting
	wait_until 10 "klp wait running" is_waiting
	let_go
	until settled $fix; do :; done
	complete=$(date +%s%N)
	wait "$waiter"
	read -r status woken <"$waited"
	rm "$waited"
	[ "$status" = 0 ]
	say "woken $(((woken - complete) / 1000000)) ms after the end was seen"
	[ $(((woken - complete) / 1000000)) -lt $((1000 * ${TIME_SCALE:-1})) ]
	remove livepatch-sleeper-fix
	rmmod livepatch-sleeper
}

test_wait_ends_with_the_transition() { on_both_cores wait_ends_with_the_transition; }

wait_gives_up() {
	stall
	expect_error "klp: $fix is still in transition: task $sleeper cat: sleeping in sleeper_wait" \
		klp wait --timeout 0.2
	expect_error "$fix is still in transition" klp wait livepatch-sleeper-fix --timeout 0.2
	# Others are not waited for.
	klp wait another
	end_stall
}

test_wait_gives_up() { on_both_cores wait_gives_up; }

reverse() {
	stall
	expect_error 'there is no patch another' klp reverse another
	[ "$(klp reverse)" = "disabling patch module: $fix" ]
	klp wait
	wait_until 10 gone gone $fix
	rmmod livepatch-sleeper-fix
	let_go
	rmmod livepatch-sleeper
}

test_reverse() { on_both_cores reverse; }

force() {
	stall
	expect_error 'there is no terminal to ask on' klp force </dev/null
	in_transition $fix
	[ "$(klp force --yes)" = "forced the transition of patch module: $fix" ]
	wait_until 10 settled settled $fix
	klp status | expect_output "^$fix \[enabled\]$" 'forced$'
	let_go
	remove livepatch-sleeper-fix
	rmmod livepatch-sleeper
}

test_force() { on_both_cores force; }

top_in_a_log() {
	local log
	log=$(mktemp)
	stall
	klp top >"$log" &
	wait_until 10 "klp top showing the sleeper" grep -q "1 left: task $sleeper cat" "$log"
	let_go
	wait $!
	expect_output "^$fix \[enabling\.\.\.\] 1 left: task $sleeper cat: sleeping in sleeper_wait$" \
		"^$fix: transition has ended$" <"$log"
	rm "$log"
	remove livepatch-sleeper-fix
	rmmod livepatch-sleeper
}

test_top_in_a_log() { on_both_cores top_in_a_log; }

metrics() {
	local file
	file=$(mktemp)
	stall
	klp metrics --output "$file"
	expect_output '^klp_core_info\{core="(built-in|rust)",version=".*",kernel="'"$release"'"\} 1$' \
		'^klp_patches 1$' "^klp_patch_enabled\{patch=\"$fix\"\} 1$" \
		"^klp_patch_in_transition\{patch=\"$fix\"\} 1$" \
		"^klp_transition_seconds\{patch=\"$fix\"\} [0-9]+$" \
		"^klp_transition_tasks_remaining\{patch=\"$fix\"\} 1$" '^# EOF$' <"$file"
	end_stall
	klp metrics --output "$file"
	grep -qx 'klp_patches 0' "$file"
	rm "$file"
}

test_metrics() { on_both_cores metrics; }

doctor() {
	klp doctor | expect_output "^ok       core: the .*$(core) core.* is in charge$" \
		'^ok       ftrace' '^ok       functions: ' '^ok       kprobes: ' '^ok       transition: '

	load klp_test_target
	echo 'p:watched klp_test_value' >$tracing/kprobe_events
	klp doctor | expect_output '^note     kprobes: probed: klp_test_value \[klp_test_target\]$'
	: >$tracing/kprobe_events

	load klp_test_hook
	klp doctor | expect_output \
		'^note     functions: changed by others than patches: klp_test_value \[klp_test_target\]$'
	rmmod klp_test_hook

	# A patch's own functions are not held against it.
	load klp_test_patch
	wait_until 10 settled settled klp_test_patch
	klp doctor | expect_output '^ok       functions: '
	klp doctor "$(module_file klp_test_patch)" |
		expect_output '^note     file: the file does not tell which functions it replaces$'
	remove klp_test_patch
	rmmod klp_test_target
}

test_doctor() { on_both_cores doctor; }

test_doctor_without_ftrace() {
	local output
	sysctl -q kernel.ftrace_enabled=0 2>/dev/null || skip "in this release of the kernel, ftrace cannot be switched off"
	# Not in a pipe, for its status.
	output=$(klp doctor) && fail "no problem without ftrace"
	sysctl -q kernel.ftrace_enabled=1
	expect_output '^problem  ftrace: ftrace is switched off$' <<<"$output"
}

run_tests
