#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Who holds a transition up: the files "remaining" and "blockers", polling, the warning in the log,
# and tracepoints.
. "$(dirname "$0")/lib.sh"

tracefs=/sys/kernel/tracing
events=$tracefs/events/livepatch

remaining_is() { [ "$(cat "$1/remaining")" = "$2" ]; }
lines_are() { [ "$(wc -l <"$1/blockers")" = "$2" ]; }
line_is() { [ "$(cat "$1")" = "$2" ]; }

# Threads that sleep in the function to be patched.
start_threads() {
	load livepatch-sleeper
	coproc THREADS { exec "$TEST_FILES/threads" "$1" 0 /proc/sleeper; }
	# shellcheck disable=SC2153 # coproc sets it
	threads_in=${THREADS[1]} threads_pid=$THREADS_PID
	local answer
	read -r answer <&"${THREADS[0]}"
	[ "$answer" = ready ]
	wait_until 60 "$1 threads asleep" threads_sleep "$1"
}
# One of them is the program itself. A thread that has not run yet does not sleep.
threads_sleep() {
	[ "$(grep -l '^State:.*sleeping' "/proc/$threads_pid"/task/*/status | wc -l)" = $(($1 + 1)) ]
}
end_threads() {
	exec {threads_in}>&-
	wait "$threads_pid"
}
thread_ids() { find "/proc/$threads_pid/task" -mindepth 1 -maxdepth 1 -printf '%f\n' | grep -vx "$threads_pid" | sort; }

test_user_task() {
	load livepatch
	start_sleeper
	load livepatch-sleeper-fix
	wait_until 10 "one task left" lines_are $fix 1
	wait_until 10 "one task counted" remaining_is $fix 1
	[ "$(cat $fix/blockers)" = "$sleeper	user	sleeping in sleeper_wait	cat" ]
	echo go >/proc/sleeper
	wait $sleeper
	wait_until 5 settled settled livepatch_sleeper_fix
	[ "$(cat $fix/remaining)" = 0 ]
	[ -z "$(cat $fix/blockers)" ]
	stop_fix
}

# A reversal leaves the other ones: those that have switched. What they run is told by the name of
# the function that is patched.
test_reversal() {
	load livepatch
	start_sleeper
	load livepatch-sleeper-fix nap=600
	wait_until 10 "one task left" lines_are $fix 1
	start_napper
	echo 0 >$fix/enabled
	wait_until 10 "the other task left" line_is $fix/blockers \
		"$napper	user	sleeping in sleeper_wait	cat"
	echo 1 >$fix/enabled
	wait_until 10 "the first task left" line_is $fix/blockers \
		"$sleeper	user	sleeping in sleeper_wait	cat"
	kill $napper
	wait $napper || true
	stop_sleeper_and_fix
}

patch_blocker() { load klp_test_patch object=klp_test_blocker name=klp_test_blocker_value; }

test_kernel_thread() {
	local patch=$lp/klp_test_patch name='klp\011a\134b\012\033[1m'
	local parameters=/sys/module/klp_test_blocker/parameters tid
	load livepatch
	load klp_test_blocker
	patch_blocker
	wait_until 10 "one task left" lines_are $patch 1
	tid=$(cut -f 1 $patch/blockers)
	[ "$(cat $patch/blockers)" = "$tid	kthread	sleeping in klp_test_blocker_value	$name" ]
	printf 'klp\ta\\b\n\033[1m\n' | cmp - "/proc/$tid/comm"
	echo 1 >$parameters/busy
	wait_until 10 "the thread runs" line_is $patch/blockers "$tid	kthread	running	$name"
	echo 1 >$parameters/leave
	wait_until 10 settled settled klp_test_patch
	remove klp_test_patch
	rmmod klp_test_blocker
	rmmod livepatch
}

# The files and /proc say the same.
test_numbers_agree() {
	load livepatch
	start_threads 100
	load livepatch-sleeper-fix
	wait_until 10 "100 lines" lines_are $fix 100
	wait_until 10 "100 counted" remaining_is $fix 100
	diff <(cut -f 1 $fix/blockers | sort) <(thread_ids)
	[ "$(cat /proc/[0-9]*/task/*/patch_state 2>/dev/null | grep -c '^0$')" = 100 ]
	end_threads
	wait_until 10 settled settled livepatch_sleeper_fix
	[ "$(cat $fix/remaining)" = 0 ]
	remove livepatch-sleeper-fix
	rmmod livepatch-sleeper
	rmmod livepatch
}

test_ten_thousand() {
	local start list
	echo 20000 >/proc/sys/kernel/threads-max
	echo 40000 >/proc/sys/kernel/pid_max
	ulimit -n 20000
	list=$(mktemp)
	load livepatch
	start_threads 10000
	load livepatch-sleeper-fix
	wait_until 20 "10,000 counted" remaining_is $fix 10000
	start=$(date +%s%N)
	cat $fix/blockers >"$list"
	say "read in $((($(date +%s%N) - start) / 1000000)) ms, $(stat -c %s "$list") bytes"
	[ "$(grep -c "^[0-9]*	user	sleeping in sleeper_wait	threads\$" "$list")" = 10000 ]
	[ "$(wc -l <"$list")" = 10000 ]
	sort -nc "$list"
	diff <(cut -f 1 "$list" | sort) <(thread_ids)
	# In parts that are not whole lines, while the list is made anew for others all the time.
	while [ -e "$list" ]; do
		lines_are $fix 10000 || touch "$list.wrong"
	done &
	dd if=$fix/blockers bs=997 status=none | cmp - "$list"
	dd if=$fix/blockers bs=64k status=none | cmp - "$list"
	rm "$list"
	wait $!
	[ ! -e "$list.wrong" ]
	# Nothing of this holds the transition up.
	echo go >/proc/sleeper
	wait_until 20 settled settled livepatch_sleeper_fix
	[ "$(cat $fix/remaining)" = 0 ]
	[ -z "$(cat $fix/blockers)" ]
	end_threads
	remove livepatch-sleeper-fix
	rmmod livepatch-sleeper
	rmmod livepatch
}

# read_part BYTES <FILE: one read.
read_part() { dd bs="$1" count=1 status=none; }

# A list that has been begun can be read to its end when the tasks have switched, and not any more
# when the patch is gone.
test_list_outlives_the_transition() {
	local before whole
	load livepatch
	start_threads 50
	load livepatch-sleeper-fix
	wait_until 10 "50 lines" lines_are $fix 50
	before=$(mktemp)
	whole=$(mktemp)
	cat $fix/blockers >"$before"
	exec 3<$fix/blockers 4<$fix/blockers
	read_part 100 <&3 >"$whole"
	read_part 100 <&4 >/dev/null
	end_threads
	wait_until 10 settled settled livepatch_sleeper_fix
	[ -z "$(cat $fix/blockers)" ]
	cat <&3 >>"$whole"
	cmp "$whole" "$before"
	# At the end it stays at the end.
	[ -z "$(cat <&3)" ]
	remove livepatch-sleeper-fix
	expect_error 'No such device' read_part 100 <&4
	exec 3<&- 4<&-
	rm "$before" "$whole"
	rmmod livepatch-sleeper
	rmmod livepatch
}

test_reads_that_are_too_late_or_too_early() {
	local fd
	load livepatch
	start_threads 50
	load livepatch-sleeper-fix
	wait_until 10 "50 lines" lines_are $fix 50
	# Nothing has been read at the start.
	expect_error 'Stale file handle' dd if=$fix/blockers bs=10 skip=1 count=1 status=none
	# Four others have begun since, and one that continued before is not the oldest.
	exec 5<$fix/blockers 6<$fix/blockers
	read_part 10 <&5 >/dev/null
	read_part 10 <&6 >/dev/null
	read_part 10 <&5 >/dev/null
	for fd in 7 8 9; do
		eval "exec $fd<$fix/blockers"
		read_part 10 <&$fd >/dev/null
	done
	expect_error 'Stale file handle' read_part 10 <&6
	read_part 10 <&5 >/dev/null
	exec 5<&- 6<&- 7<&- 8<&- 9<&-
	end_threads
	wait_until 10 settled settled livepatch_sleeper_fix
	remove livepatch-sleeper-fix
	rmmod livepatch-sleeper
	rmmod livepatch
}

test_permissions() {
	load livepatch
	start_sleeper
	load livepatch-sleeper-fix
	wait_until 10 "one task left" remaining_is $fix 1
	[ "$(setpriv --reuid 65534 --clear-groups cat $fix/remaining)" = 1 ]
	expect_error 'Permission denied' setpriv --reuid 65534 --clear-groups cat $fix/blockers
	# Root in a container.
	expect_error 'Permission denied' setpriv --bounding-set -all --inh-caps -all cat $fix/blockers
	[ "$(setpriv --bounding-set -all --inh-caps -all cat $fix/remaining)" = 1 ]
	# Whoever opened the file decides.
	setpriv --bounding-set -all --inh-caps -all cat <$fix/blockers | grep -q "^$sleeper	"
	expect_error 'Permission denied' put 1 $fix/remaining
	expect_error 'Permission denied' put 1 $fix/blockers
	stop_sleeper_and_fix
}

# What poll-file has seen: the first value, and that of each time it was woken.
seen() { [ "$(tail -n 1 "$1")" = "$2" ] && [ "$(wc -l <"$1")" -ge "$3" ]; }

# poll_files DIRECTORY [PATCH]: polls the files of the patch, $fix unless told; the values go to
# files in the directory.
poll_files() {
	local file patch=${2:-$fix}
	pollers=()
	for file in transition enabled remaining; do
		"$top/tools/testing/poll-file" "$patch/$file" >"$1/$file" &
		pollers+=($!)
	done
	# Python takes long to start in an emulated machine.
	for file in transition enabled remaining; do
		wait_until 30 "first value of $file" [ -s "$1/$file" ]
	done
}

test_polling() {
	local dir
	dir=$(mktemp -d)
	patched_with_napper
	poll_files "$dir"
	say "start"
	echo 0 >$fix/enabled
	wait_until 10 "transition 1" seen "$dir/transition" 1 2
	wait_until 10 "enabled 0" seen "$dir/enabled" 0 2
	wait_until 10 "remaining 1" seen "$dir/remaining" 1 2
	say "reversal, which is complete at once"
	echo 1 >$fix/enabled
	wait_until 10 "enabled 1" seen "$dir/enabled" 1 3
	wait_until 10 "transition 0" seen "$dir/transition" 0 3
	wait_until 10 "remaining 0" seen "$dir/remaining" 0 3
	say "completion"
	echo 0 >$fix/enabled
	wait_until 10 "transition 1" seen "$dir/transition" 1 4
	kill $napper
	wait $napper || true
	wait_until 10 gone gone livepatch_sleeper_fix
	# They were woken by the completion, but not when the files went.
	kill "${pollers[@]}" 2>/dev/null || true
	wait "${pollers[@]}" || true
	rm -r "$dir"
	rmmod livepatch-sleeper-fix
	rmmod livepatch-sleeper
	rmmod livepatch
}

# While a callback that will fail sleeps, all tasks are left; when it has failed, those who poll are
# woken. The directory goes at once, so they may not be able to read any more.
test_polling_of_a_patch_that_fails() {
	local dir patch=$lp/klp_test_patch all loader
	dir=$(mktemp -d)
	load livepatch
	load klp_test_target
	load klp_test_patch hold=1 pre_patch_ret=-19 2>"$dir/error" &
	loader=$!
	wait_until 10 "transition" in_transition $patch
	all=$(find /proc/[0-9]*/task -mindepth 1 -maxdepth 1 2>/dev/null | wc -l)
	[ "$(cat $patch/remaining)" -gt $((all / 2)) ]
	[ "$(wc -l <$patch/blockers)" -gt $((all / 2)) ]
	poll_files "$dir" $patch
	[ "$(cat "$dir/transition")" = 1 ]
	echo 0 >/sys/module/klp_test_patch/parameters/hold
	not wait $loader
	grep -qF "$ENODEV" "$dir/error"
	# Each ends when it has been woken and finds the file gone, or has read and nobody wakes it again.
	wait_until 10 "transition woken" woken_or_ended "$dir/transition" "${pollers[0]}"
	wait_until 10 "enabled woken" woken_or_ended "$dir/enabled" "${pollers[1]}"
	wait_until 10 "remaining woken" woken_or_ended "$dir/remaining" "${pollers[2]}"
	kill "${pollers[@]}" 2>/dev/null || true
	wait "${pollers[@]}" || true
	rm -r "$dir"
	rmmod klp_test_target
	rmmod livepatch
}
in_transition() { [ "$(cat "$1/transition" 2>/dev/null)" = 1 ]; }
woken_or_ended() { [ "$(wc -l <"$1")" -ge 2 ] || ! kill -0 "$2" 2>/dev/null; }

test_warning_of_a_stall() {
	load livepatch stall_warning=4
	start_sleeper
	mark
	load livepatch-sleeper-fix
	wait_until 10 "warning" stall_is_logged
	expect_log <<-END
		livepatch: enabling patch 'livepatch_sleeper_fix'
		livepatch: 'livepatch_sleeper_fix': starting patching transition
		livepatch: 'livepatch_sleeper_fix': patching transition not complete for more than $(stalled) seconds; tasks left: 1, first: cat:$sleeper
	END
	stop_sleeper_and_fix
}
stalled() { log | sed -n 's/.*for more than \([0-9]*\) seconds.*/\1/p'; }
stall_is_logged() { [ "$(stalled)" -ge 4 ] 2>/dev/null; }

test_no_warning_of_a_stall() {
	load livepatch stall_warning=0
	start_sleeper
	mark
	load livepatch-sleeper-fix
	wait_until 30 "signals" signalled
	wait $sleeper
	wait_until 10 settled settled livepatch_sleeper_fix
	[ -z "$(stalled)" ]
	stop_fix
}
signalled() { log | grep -q 'signaling remaining tasks'; }

# The events since the buffer was emptied, without what comes before their names.
trace() { sed -n 's/^[^#].* \([a-z_]*: .*\)$/\1/p' $tracefs/trace; }
traced() { trace | grep -qxE "$1"; }
have_tracefs() { grep -qw tracefs /proc/filesystems || skip "the kernel lacks CONFIG_TRACING"; }
start_tracing() {
	[ -e $tracefs/events ] || mount -t tracefs tracefs $tracefs
	echo >$tracefs/trace
	echo 1 >$events/enable
}

test_tracepoints() {
	have_tracefs
	load livepatch
	start_sleeper
	start_tracing
	load livepatch-sleeper-fix
	wait_until 10 "one task left" lines_are $fix 1
	[ "$(trace | head -n 1)" = "klp_transition_start: patch=livepatch_sleeper_fix target=patched" ]
	traced 'klp_task_switched: comm=kthreadd pid=2 how=(stack|schedule)'
	traced 'klp_task_switched: comm=[^ ]* pid=[1-9][0-9]* how=(stack|schedule|user_exit)'
	traced 'klp_task_switched: comm=swapper/[0-9]* pid=0 how=(stack|schedule|idle)'
	not traced "klp_task_switched: comm=cat pid=$sleeper .*"
	wait_until 30 "signals" signalled_by_trace
	traced "klp_signal: comm=cat pid=$sleeper kthread=0"
	wait $sleeper
	wait_until 10 settled settled livepatch_sleeper_fix
	traced "klp_task_switched: comm=cat pid=$sleeper how=user_exit"
	traced 'klp_transition_complete: patch=livepatch_sleeper_fix target=patched duration=[1-9][0-9]{9,10}'
	# Every task has switched once, and nothing comes after the completion.
	[ -z "$(trace | grep -o 'pid=[1-9][0-9]* how' | sort | uniq -d)" ]
	[ "$(trace | tail -n 1 | cut -d : -f 1)" = klp_transition_complete ]

	say "reversal and release"
	remove livepatch-sleeper-fix
	load livepatch-sleeper-fix nap=600
	wait_until 10 settled settled livepatch_sleeper_fix
	start_napper
	echo >$tracefs/trace
	echo 0 >$fix/enabled
	wait_until 10 "one task left" lines_are $fix 1
	echo 1 >$fix/enabled
	wait_until 10 settled settled livepatch_sleeper_fix
	trace | grep '^klp_transition' | sed 's/ duration=[0-9]*$//' | diff - <(sed 's/^\t*//' <<-END
		klp_transition_start: patch=livepatch_sleeper_fix target=unpatched
		klp_transition_reverse: patch=livepatch_sleeper_fix target=patched
		klp_transition_complete: patch=livepatch_sleeper_fix target=patched
	END
	)
	kill $napper
	wait $napper || true
	echo >$tracefs/trace
	remove livepatch-sleeper-fix
	[ "$(trace | tail -n 1)" = "klp_patch_released: patch=livepatch_sleeper_fix forced=0" ]

	say "force"
	start_sleeper_again
	echo >$tracefs/trace
	load livepatch-sleeper-fix
	wait_until 10 "one task left" lines_are $fix 1
	echo 1 >$fix/force
	wait_until 10 settled settled livepatch_sleeper_fix
	traced "klp_task_switched: comm=cat pid=$sleeper how=force"

	say "a patch that is rejected"
	echo >$tracefs/trace
	expect_error "$EINVAL" load klp_test_patch object=vmlinux name=klp_test_no_such
	[ "$(trace)" = "klp_patch_released: patch=klp_test_patch forced=0" ]
	echo 0 >$events/enable
	echo go >/proc/sleeper
	wait $sleeper
	stop_fix
	[ ! -e $events ]
}
signalled_by_trace() { traced 'klp_signal: .*'; }
start_sleeper_again() {
	cat /proc/sleeper >/dev/null &
	sleeper=$!
	wait_until 10 "task asleep in sleeper_wait" sleeps_in_target "$sleeper"
}

# The idle task of a CPU that is offline does not switch by itself.
test_trace_of_an_offline_cpu() {
	[ -e /sys/devices/system/cpu/cpu1/online ] || skip "the kernel lacks CONFIG_HOTPLUG_CPU"
	have_tracefs
	load livepatch
	start_tracing
	echo 0 >/sys/devices/system/cpu/cpu1/online
	load livepatch-cmdline
	wait_until 10 settled settled livepatch_cmdline
	traced 'klp_task_switched: comm=swapper/1 pid=0 how=offline'
	echo 1 >/sys/devices/system/cpu/cpu1/online
	echo 0 >$events/enable
	remove livepatch-cmdline
	rmmod livepatch
}

# While the module is loaded and unloaded, somebody reads the events that come and go.
test_unloading_with_events_on() {
	local stop pid i
	have_tracefs
	load livepatch
	start_tracing
	stop=$(mktemp)
	while [ -e "$stop" ]; do cat $events/*/format $tracefs/trace >/dev/null 2>&1 || true; done &
	pid=$!
	for i in 1 2 3; do
		echo 1 >$events/enable
		load livepatch-cmdline
		wait_until 10 settled settled livepatch_cmdline
		remove livepatch-cmdline
		rmmod livepatch
		[ $i = 3 ] || load livepatch
	done
	rm "$stop"
	wait $pid
}

run_tests
