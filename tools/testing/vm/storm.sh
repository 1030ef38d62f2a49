#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Transitions there and back while tasks are made and end all the time, and so many that they are not looked at in one
# go.
#
# With $STORM_ROUNDS, test_swaps does so many rounds, in each of which the Rust core takes over and hands back, while
# stress-ng, which must be installed then, torments the kernel. $TEST_FILES may have cores with mistakes, which are found
# then.
. "$(dirname "$0")/lib.sh"
# Everything takes long then.
[ -z "${STORM_ROUNDS:-}" ] || TIME_SCALE=$((4 * ${TIME_SCALE:-1}))

storm_parameters=/sys/module/klp_test_storm/parameters
fix=$lp/klp_test_storm_fix

# Each test runs in a shell of its own: what there is to say at the end.
figure=$(mktemp)

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

turn() { { echo "$1" >$fix/enabled; } 2>/dev/null || true; }

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
	trap 'rm -f "$stop"' EXIT
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
	# A kernel that watches memory needs so much of it that it would allow fewer.
	echo 20000 >/proc/sys/kernel/threads-max
	load livepatch
	rounds 3000 4 15
	rmmod livepatch
}

# What stress-ng does meanwhile: it makes, ends, traces, signals and schedules tasks, takes processors away, and uses up
# memory until little is left. Its tasks are those that have to end if there is none, and to wait if there is other work.
# The program of the other tests does exec(), which stress-ng does not as root.
stressors=(fork vfork clone zombie pthread kill ptrace sigq schedpolicy cpu-online vm)
start_stress() {
	local free
	free=$(awk '$1 == "MemAvailable:" { print int($2 * 3 / 4) }' /proc/meminfo)
	sysctl -qw vm.oom_dump_tasks=0
	echo -1000 >/proc/$BASHPID/oom_score_adj
	said=$(mktemp)
	# shellcheck disable=SC2046 # several options
	nice -n 10 stress-ng --metrics-brief --pathological --temp-path "$(mktemp -d)" --timeout 0 \
		$(printf -- "--%s 1 " "${stressors[@]}") --zombie-max 64 --vm-bytes "${free}k" --vm-keep >"$said" 2>&1 &
	stress=$!
	trap '{ kill "$stress"; } 2>/dev/null || true' EXIT
}

# Ends it; each of the things must have been done.
end_stress() {
	local stressor
	kill "$stress"
	wait "$stress" || true
	# Of what they have made, some may be left.
	pkill -9 stress-ng || true
	wait_until 30 "stress-ng has ended" not_stressed
	# It may have been about to.
	echo 1 >/sys/devices/system/cpu/cpu1/online
	for stressor in "${stressors[@]}"; do
		grep -q "metrc: .*\] $stressor  *[1-9]" "$said" || fail "$stressor did nothing:" "$(cat "$said")"
	done
	rm "$said"
}
not_stressed() { ! pgrep stress-ng >/dev/null; }

is_settled() { is_complete && gone "$1"; }

# The patch is enabled, replaced, replaced again and again, and disabled, the latter with a change of mind or two.
five_transitions() {
	local old=none new
	for new in fix other fix other; do
		load klp_test_storm_$new replace=1
		fix=$lp/klp_test_storm_$new
		wait_until 30 complete is_settled klp_test_storm_$old
		[ $old = none ] || rmmod klp_test_storm_$old
		old=$new
	done
	for _ in $(seq $(($1 % 3))); do
		turn 0
		turn 1
	done
	turn 0
	wait_until 30 gone gone klp_test_storm_other
	rmmod klp_test_storm_other
}

test_swaps() {
	local i checks stressed='' rounds=${STORM_ROUNDS:-3}
	[ -z "${STORM_ROUNDS:-}" ] || start_stress
	load klp_test_storm
	start_storm 100 2
	for i in $(seq "$rounds"); do
		load livepatch
		five_transitions "$i"
		rmmod livepatch
		no_violation
	done
	end_storm
	checks=$(cat $storm_parameters/checks)
	[ "$checks" -ge $((5 * rounds)) ]
	rmmod klp_test_storm
	if [ -n "${STORM_ROUNDS:-}" ]; then
		end_stress
		stressed=", with stress-ng"
	fi
	echo "$checks transitions and $rounds swaps of the cores$stressed" >>"$figure"
}

# What the checks are worth: a core that switches tasks wherever they are.
test_mistakes_are_found() {
	local core
	[ -d "${TEST_FILES:-}/cores" ] || skip "no cores with mistakes were built"
	for core in "$TEST_FILES"/cores/*.ko; do
		insmod "$core"
		load klp_test_storm
		# A task that is in the wrong version does not stay there for long.
		for _ in $(seq 20); do
			start_storm 0 4
			load klp_test_storm_fix
			wait_until 30 complete is_complete
			turn 0
			wait_until 30 gone gone klp_test_storm_fix
			# Nobody is left who might run the patch.
			end_storm
			rmmod klp_test_storm_fix
			[ "$(cat $storm_parameters/violations)" = 0 ] || break
		done
		not no_violation
		rmmod klp_test_storm livepatch
		echo "mistake found: $(basename "$core" .ko)" >>"$figure"
	done
}

run_tests
status=$?
sed 's/^/# /' "$figure"
[ $status = 0 ]
