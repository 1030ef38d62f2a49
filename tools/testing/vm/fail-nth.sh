#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Every allocation that the core makes fails once: the first, the second, ... until none does. After
# each failure the caller has a documented error, nothing is left behind, and the core works.
#
# Needs a kernel with scripts/survive.config. $FAIL_NTH_STEP=5 tries every fifth allocation only.
. "$(dirname "$0")/lib.sh"

debugfs=/sys/kernel/debug
target=/sys/module/klp_test_target/parameters

# Programs take long to start in such a kernel, so what is done very often does without.
value() { read -r REPLY <$target/value && [ "$REPLY" = "$1" ]; }

# A line for each operation, with how many of its allocations failed. Each test runs in a shell of
# its own.
faults=$(mktemp)

need_injection() {
	if [ ! -e /proc/self/fail-nth ] || [ ! -d $debugfs/failslab ] || [ ! -d $debugfs/fail_page_alloc ]; then
		skip "the kernel lacks CONFIG_FAULT_INJECTION, CONFIG_FAILSLAB or CONFIG_FAIL_PAGE_ALLOC"
	fi
}

# inject_below START END: all allocations count that are made by code there, or called from there.
inject_below() {
	local kind
	for kind in failslab fail_page_alloc; do
		echo 0 >$debugfs/$kind/verbose
		echo N >$debugfs/$kind/ignore-gfp-wait
		echo "$1" >$debugfs/$kind/require-start
		echo "$2" >$debugfs/$kind/require-end
	done
	echo N >$debugfs/fail_page_alloc/ignore-gfp-highmem
	echo 0 >$debugfs/fail_page_alloc/min-order
}

# The code of a module that is loaded.
inject_in_module() {
	local size start
	start=$(cat "/sys/module/$1/sections/.text")
	size=$(readelf -SW "$(module_file "$1")" | awk '$2 == ".text" || $3 == ".text" {
		for (i = 1; i < NF; i++) if ($i == ".text") print $(i + 4) }')
	inject_below "$start" "$(printf '0x%x' $((start + 0x$size)))"
}

# The code of a function of the kernel, up to the next one; the list is in the order of addresses.
inject_in_function() {
	local start end
	read -r start end < <(awk -v name="$1" 'start && $1 != start { print start, $1; exit }
		$3 == name { start = $1 }' /proc/kallsyms)
	[[ $start < $end ]]
	inject_below "0x$start" "0x$end"
}

fail_nth() { "${TEST_FILES:?}/fail-nth" "$@"; }

# each_fails ERRORS AFTER OPERATION...: OPERATION, as fail-nth's arguments, with n = 1, 2, 3 ... (every
# $step-th), until it completes. Each time the error must be one of ERRORS, 0 for a failure that the
# core, or the kernel under it, can do without; "AFTER ERROR" checks what is left and brings back what
# was before. The last time, the operation must succeed, and AFTER comes once more.
step=${FAIL_NTH_STEP:-1}
each_fails() {
	local errors=$1 after=$2 n result error seen=()
	shift 2
	for ((n = 1; ; n += step)); do
		# In the log, for a machine that dies or is too slow.
		((n % 10 >= step)) || announce "allocation $n"
		result=$(fail_nth $n "$@")
		error=${result#* }
		if [ "${result% *}" = complete ]; then
			[ "$error" = 0 ] || fail "$*: $error though no allocation failed"
			$after 0
			break
		fi
		seen+=("$error")
		[[ " $errors " == *" $error "* ]] || fail "$*, allocation $n: $error, not one of: $errors"
		$after "$error"
	done
	[ ${#seen[@]} -gt 0 ] || fail "$*: nothing failed"
	echo "${#seen[@]} $1 ${2##*/} ${3:-}: $(printf '%s\n' "${seen[@]}" | sort | uniq -c |
		sed 's/^ *\([0-9]*\) \(.*\)/\1 times \2/' | paste -sd ,)" >>"$faults"
}

# may_fail AFTER OPERATION...: the same for what must succeed without memory, and may not ask for any.
may_fail() {
	local after=$1 result
	shift
	result=$(fail_nth 1 "$@")
	[ "${result#* }" = 0 ] || fail "$*: ${result#* }"
	$after 0
	[ "$result" = "complete 0" ] || each_fails 0 "$after" "$@"
}

nothing() { :; }

# What the tests rely on notices what is wrong.
leaks_are_noticed() {
	# Only one of them loses memory.
	local step=1 level all=/sys/module/printk/parameters/ignore_loglevel
	load klp_test_leaky
	inject_in_module klp_test_leaky
	echo clear >$kmemleak
	each_fails "ENOMEM 0" nothing write /sys/module/klp_test_leaky/parameters/leak 1
	sleep 6
	# What kmemleak says of it is meant, and not for whoever watches the console.
	level=$(cut -f 1 /proc/sys/kernel/printk)
	echo N >$all
	dmesg -n 1
	echo scan >$kmemleak
	echo scan >$kmemleak
	dmesg -n "$level"
	echo Y >$all
	grep -q '^unreferenced object' $kmemleak || fail "the lost memory was not noticed: $(cat "$faults")"
	echo clear >$kmemleak
	: >"$faults"
	rmmod klp_test_leaky
}
test_leaks_are_noticed() { need_injection; leaks_are_noticed; }

wrong_errors_are_noticed() {
	local wrong
	load klp_test_leaky
	inject_in_module klp_test_leaky
	for wrong in lie ignore; do
		not eval "(each_fails ENOMEM nothing write /sys/module/klp_test_leaky/parameters/$wrong 1)"
	done
	# Nothing to fail.
	not eval "(each_fails ENOMEM nothing read /proc/version)"
	rmmod klp_test_leaky
}
test_wrong_errors_are_noticed() { need_injection; wrong_errors_are_noticed; }

after_core() {
	if [ "$1" != 0 ]; then
		not is_loaded livepatch
		return
	fi
	rmmod livepatch
}
test_load_of_the_core() {
	need_injection
	inject_in_function do_one_initcall
	each_fails "ENOMEM 0" after_core load "$(module_file livepatch)"
	# It works.
	load livepatch
	load klp_test_target
	load klp_test_patch
	wait_until 10 settled settled klp_test_patch
	remove klp_test_patch
	rmmod klp_test_target
	rmmod livepatch
}

after_hand_back() {
	not is_loaded livepatch
	# The built-in core has a directory of its own again.
	[ -d $lp ]
	load livepatch
	inject_in_module livepatch
}
test_unload_of_the_core() {
	need_injection
	load livepatch
	inject_in_module livepatch
	# Nothing that it allocates can make it fail.
	each_fails 0 after_hand_back unload livepatch
	rmmod livepatch
	load klp_test_target
	load klp_test_patch
	wait_until 10 settled settled klp_test_patch
	remove klp_test_patch
	rmmod klp_test_target
}

# A core that is to fail, and a target.
start() {
	need_injection
	load livepatch
	load klp_test_target
	inject_in_module livepatch
}

stop() {
	rmmod klp_test_target
	rmmod livepatch
}

# loads PATCH VALUE [PARAMETERS]: loading it fails at each allocation; then the target gives VALUE.
loads() {
	patch=$1 loaded_value=$2 value_before=$(cat $target/value)
	restore=${restore:-remove_patch}
	each_fails "ENOMEM 0 ${other_error:-}" after_load load "$(module_file "$patch")" "${3:-}"
}
after_load() {
	if [ "$1" != 0 ]; then
		wait_until 10 "no directory" gone "$patch"
		not is_loaded "$patch"
		value "$value_before"
		return
	fi
	wait_until 30 settled settled "$patch"
	value "$loaded_value"
	$restore
}
remove_patch() { remove "$patch"; }

test_load_of_a_patch() {
	start
	loads klp_test_patch 112
	stop
}

test_load_of_a_patch_of_the_kernel() {
	start
	loads klp_test_a 1110 "functions=value vmlinux=1 state=5 version=1"
	stop
}

test_load_of_a_patch_with_relocations() {
	start
	loads klp_test_reloc 2115
	stop
}

test_load_of_a_patch_in_rust() {
	start
	# What its callback makes of a shadow variable that there is no memory for.
	other_error=EINVAL
	loads klp_test_rust 111
	stop
}

test_load_of_a_patch_of_a_hundred_functions() {
	start
	load klp_test_many
	target=/sys/module/klp_test_many/parameters
	# What is allocated for a function comes a hundred times; the step is none of its multiples.
	step=$((13 * step))
	loads klp_test_many_fix 200
	rmmod klp_test_many
	stop
}

load_replaced() {
	load klp_test_a functions=value,other state=5 version=1
	wait_until 10 settled settled klp_test_a
	load klp_test_b functions=other
	wait_until 10 settled settled klp_test_b
}

restore_replaced() {
	remove klp_test_v2
	rmmod klp_test_a
	rmmod klp_test_b
	load_replaced
}

# A cumulative patch over two others, with their states.
test_load_of_a_replacing_patch() {
	start
	load_replaced
	restore=restore_replaced
	loads klp_test_v2 2110 "state=5 version=2"
	remove klp_test_b
	remove klp_test_a
	stop
}

after_disable() {
	if [ "$1" != 0 ]; then
		[ "$(cat $lp/klp_test_patch/enabled)" = 1 ]
		return
	fi
	wait_until 30 gone gone klp_test_patch
	rmmod klp_test_patch
	load klp_test_patch
	wait_until 10 settled settled klp_test_patch
}

test_disabling() {
	start
	load klp_test_patch
	wait_until 10 settled settled klp_test_patch
	# Nothing that it allocates can make it fail.
	each_fails 0 after_disable write $lp/klp_test_patch/enabled 0
	remove klp_test_patch
	stop
}

# A task sleeps in the function that is to be patched.
start_transition() {
	load livepatch-sleeper-fix
	in_transition livepatch_sleeper_fix
}
after_reversal() {
	wait_until 30 gone gone livepatch_sleeper_fix
	rmmod livepatch-sleeper-fix
	start_transition
}
after_force() {
	wait_until 30 settled settled livepatch_sleeper_fix
	remove livepatch-sleeper-fix
	start_transition
}
test_reversing_and_forcing() {
	need_injection
	load livepatch
	start_sleeper
	start_transition
	inject_in_module livepatch
	may_fail after_reversal write $fix/enabled 0
	may_fail after_force write $fix/force 1
	stop_sleeper_and_fix
}

after_target() {
	if [ "$1" != 0 ]; then
		not is_loaded klp_test_target
	else
		value 112
		rmmod klp_test_target
	fi
	[ "$(cat $lp/klp_test_patch/enabled)" = 1 ]
}

test_a_module_comes() {
	need_injection
	load livepatch
	load klp_test_patch
	wait_until 10 settled settled klp_test_patch
	inject_in_module livepatch
	each_fails "ENOMEM 0" after_target load "$(module_file klp_test_target)"
	remove klp_test_patch
	rmmod livepatch
}

after_going() {
	not is_loaded klp_test_target
	load klp_test_target
	value 112
}

test_a_module_goes() {
	start
	load klp_test_patch
	wait_until 10 settled settled klp_test_patch
	each_fails 0 after_going unload klp_test_target
	remove klp_test_patch
	stop
}

after_hold() { [ "$1" != 0 ] || put release /sys/module/klp_test_shadow/parameters/run; }
test_shadow_variables() {
	need_injection
	load livepatch
	load klp_test_shadow
	inject_in_module livepatch
	each_fails "ENOMEM EINVAL 0" after_hold write /sys/module/klp_test_shadow/parameters/run hold
	rmmod klp_test_shadow
	rmmod livepatch
}

# Every file of a patch that can be read: that needs no memory, or fails with ENOMEM.
test_files() {
	local file n=0
	start
	load klp_test_patch
	wait_until 10 settled settled klp_test_patch
	while read -r file; do
		if [ "$(fail_nth 1 read "$file")" != "complete 0" ]; then
			each_fails "ENOMEM 0" nothing read "$file"
		fi
		n=$((n + 1))
	done < <(find $lp/klp_test_patch/ -type f -perm /0444)
	[ $n -ge 5 ]
	say "$n files were read"
	remove klp_test_patch
	stop
}

test_list_of_blockers() {
	need_injection
	load livepatch
	start_sleeper
	load livepatch-sleeper-fix
	inject_in_module livepatch
	each_fails "ENOMEM 0" nothing read "$fix/blockers"
	stop_sleeper_and_fix
}

# What runs in the core's worker is not reached by fail-nth. There, one of twenty allocations fails, at
# random; nothing can fail there, so it has to wait until there is memory. Taking a function out of a
# filter of ftrace takes one for each function in it, so of half of them, it would wait for very long.
enough=1000000
fail_in_workers() {
	local kind task
	for kind in failslab fail_page_alloc; do
		echo Y >$debugfs/$kind/task-filter
		echo $enough >$debugfs/$kind/times
		echo "$1" >$debugfs/$kind/probability
	done
	# New ones inherit it from kthreadd.
	for task in 2 $(pgrep kworker); do
		echo 1 2>/dev/null >"/proc/$task/make-it-fail" || [ ! -e "/proc/$task" ]
	done
}
test_transitions_without_memory() {
	local failed
	start
	fail_in_workers 5
	for _ in $(seq 20); do
		load klp_test_patch
		wait_until 30 settled settled klp_test_patch
		value 112
		remove klp_test_patch
	done
	failed=$((2 * enough - $(cat $debugfs/failslab/times) - $(cat $debugfs/fail_page_alloc/times)))
	[ $failed -gt 0 ]
	echo "$failed transitions, at random" >>"$faults"
	fail_in_workers 0
	stop
}

run_tests
status=$?
awk '{ faults += $1; print "#", $0 } END { if (NR) print "#", faults, "faults injected in", NR, "operations" }' "$faults"
[ $status = 0 ]
