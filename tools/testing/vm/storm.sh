#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Transitions there and back while tasks are made and end all the time, and so many that they are not looked at in one
# go.
. "$(dirname "$0")/lib.sh"

storm_parameters=/sys/module/klp_test_storm/parameters
fix=$lp/klp_test_storm_fix

start_storm() {
	coproc STORM_PROGRAM { exec "$TEST_FILES/storm" "$@"; }
	storm_in=${STORM_PROGRAM[1]} storm_pid=$STORM_PROGRAM_PID
	local answer
	read -r answer <&"${STORM_PROGRAM[0]}"
	[ "$answer" = ready ]
}
end_storm() {
	exec {storm_in}>&-
	wait "$storm_pid"
	# Those that it has started read the file until they notice.
	wait_until 20 "nobody reads any more" no_readers
}
no_readers() { ! pidof storm >/dev/null; }

no_violation() {
	[ "$(cat $storm_parameters/violations)" = 0 ] || { dmesg | grep klp_test_storm | tail; return 1; }
}

turn() { echo "$1" >$fix/enabled 2>/dev/null || true; }

rounds() {
	local i turns=0 checks
	load klp_test_storm
	start_storm "$1" "$2"
	for i in $(seq "$3"); do
		load klp_test_storm_fix
		# Reversed at any moment, at last into either direction.
		for _ in $(seq $((i % 5))); do
			turn 0
			turn 1
			turns=$((turns + 1))
		done
		if [ -e $fix ] && [ $((i % 2)) = 1 ]; then
			turn 1
			wait_until 30 complete is_complete
		fi
		turn 0
		wait_until 30 gone gone klp_test_storm_fix
		rmmod klp_test_storm_fix
		no_violation
	done
	end_storm
	no_violation
	checks=$(cat $storm_parameters/checks)
	say "$checks transitions, reversed $turns times and more"
	[ "$checks" -ge "$3" ]
	rmmod klp_test_storm
}
# Also if the last reversal came too late, and the patch is gone.
is_complete() { [ ! -e $fix ] || [ "$(cat $fix/transition)" = 0 ]; }

# Reads the files of the patch all the time, until $stop is gone; says which lines are not right. Mostly there is no
# such line, or no patch.
read_all_the_time() {
	while [ -e "$stop" ]; do
		grep -avP '^\d+\t(user|kthread)\t(running|unreliable stack|sleeping in \w+|not tried)\t[^\t]+$' \
			$fix/blockers 2>/dev/null || true
		grep -vx '[0-9]*' $fix/remaining 2>/dev/null || true
	done
}

test_readers() {
	local stop wrong pids=() i
	load livepatch
	stop=$(mktemp)
	wrong=$(mktemp)
	for i in 1 2 3; do
		read_all_the_time >>"$wrong" &
		pids+=($!)
	done
	rounds 1000 2 10
	rm "$stop"
	wait "${pids[@]}"
	[ ! -s "$wrong" ] || fail "$(head "$wrong")"
	rm "$wrong"
	rmmod livepatch
}

test_few_tasks() {
	load livepatch
	rounds 0 4 15
	rmmod livepatch
}

test_many_tasks() {
	load livepatch
	rounds 3000 4 15
	rmmod livepatch
}

run_tests
