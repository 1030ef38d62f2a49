#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Tests of ktap.sh, run and vm/lib.sh with fake parts: what must not count as a success does not.
#
# shellcheck disable=SC2317 # what "try" calls looks unreachable
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)

# ends_with EXPECTED PART: what the sum of a part is, and whether it failed.
ends_with() {
	local expected=$1 part=$2 output
	output=$(. "$here/ktap.sh"; subtest fake "$part"; summary; echo "status $?")
	printf '%s\n' "$output"
	[ "$(tail -n 2 <<<"$output")" = "$expected" ]
}

# The guest's side, without a kernel.
in_guest() {
	failed=0
	. "$here/vm/lib.sh"
	lp=/nonexistent kmemleak=/nonexistent
	announce() { :; }
	expect_clean() { :; }
	clean_up() { :; }
	mount() { :; }
}

good() { printf '%s\n' 1..2 'ok 1 a' 'ok 2 b # 3 ms'; }
without_plan() { printf '%s\n' 'ok a' 'said meanwhile' 'ok b'; }
silent() { echo nothing; }
too_few() { printf '%s\n' 1..2 'ok 1 a'; }
too_many() { printf '%s\n' 1..1 'ok 1 a' 'ok 2 b'; }
bad() { printf '%s\n' 1..2 'ok 1 a' 'not ok 2 b'; return 1; }
unexplained() { good; return 1; }
died() { bad; return 3; }
with_skip() { printf '%s\n' 1..2 'ok 1 a' 'ok 2 b # SKIP no such option'; }
cut_off() { printf 'ok a\nnot ok b'; }
all_skipped() { echo '1..0 # SKIP no such option'; }
skipped_not_ok() { printf '%s\n' 1..2 'ok 1 a' 'not ok 2 b # SKIP no such option'; }
lost() { printf '%s\n' 'KTAP version 1' 1..2 'ok 1 a' 'ok 3 c'; }
again() {
	printf '%s\n' 'KTAP version 1' 1..3 'ok 1 a' 'ok 2 b # SKIP no such option' 'not ok 3 c'
	printf '%s\n' 'KTAP version 1' 1..2 'ok 1 a' 'ok 2 b'
}
guest_skips() {
	in_guest
	run_test 1 a true
	run_test 2 b skip "no such option"
}
guest_in_order() {
	in_guest
	# As if they were defined by a script of their own.
	BASH_ARGV0=$(mktemp)
	printf '%s\n' 'test_zebra() { :; }' 'test_ape() { :; }' >"$0"
	# shellcheck disable=SC1090 # made here
	. "$0"
	[ "$(run_tests | sed -n 's/^ok \([0-9]* [a-z]*\).*/\1/p')" = $'1 zebra\n2 ape' ] &&
		[ "$(ONLY=ape run_tests | sed -n 's/^ok \([0-9]* [a-z]*\).*/\1/p')" = '1 ape' ]
	local status=$?
	rm "$0"
	return "$status"
}
guest_fails() {
	in_guest
	first_command_fails() { false; true; }
	run_test 1 a first_command_fails
	return "$failed"
}

failures=0
try() {
	local output status
	# Not as a condition: that would switch "set -e" off.
	output=$("${@:2}" 2>&1)
	status=$?
	if [ $status = 0 ]; then
		echo "ok run: $1"
	else
		printf '%s\n' "$output"
		echo "not ok run: $1"
		failures=1
	fi
}

typo_in_only() {
	local output status
	output=$(ONLY=no_such_test "$here/run" vm-shadow 2>&1)
	status=$?
	printf '%s\n' "$output"
	[ "$status" = 1 ] && grep -q '^# no test no_such_test in: vm-shadow$' <<<"$output" &&
		[ "$(tail -n 1 <<<"$output")" = "0 passed, 1 failed" ]
}
unknown_part() { "$here/run" no-such-part >/dev/null 2>&1; [ $? = 2 ]; }

wrong_time_scale() { TIME_SCALE=slow "$here/run" format >/dev/null 2>&1; [ $? = 2 ]; }

try "good part" ends_with $'2 passed, 0 failed\nstatus 0' good
try "no plan" ends_with $'2 passed, 0 failed\nstatus 0' without_plan
try "no test ran" ends_with $'0 passed, 1 failed\nstatus 1' silent
try "fewer than planned" ends_with $'1 passed, 1 failed\nstatus 1' too_few
try "more than planned" ends_with $'2 passed, 1 failed\nstatus 1' too_many
try "failed test" ends_with $'1 passed, 1 failed\nstatus 1' bad
try "failed without a failed test" ends_with $'2 passed, 1 failed\nstatus 1' unexplained
try "died after a failed test" ends_with $'1 passed, 2 failed\nstatus 1' died
try "skipped test" ends_with $'1 passed, 0 failed, 1 skipped\nstatus 0' with_skip
try "skipped test that is not ok" \
	ends_with $'1 passed, 0 failed, 1 skipped\nstatus 0' skipped_not_ok
try "part that skips itself" ends_with $'0 passed, 0 failed, 1 skipped\nstatus 1' all_skipped
try "result that is cut off" ends_with $'1 passed, 1 failed\nstatus 1' cut_off
try "result that was lost" ends_with $'2 passed, 1 failed\nstatus 1' lost
try "part that begins anew" ends_with $'2 passed, 0 failed\nstatus 0' again
try "test in the guest that skips" ends_with $'1 passed, 0 failed, 1 skipped\nstatus 0' guest_skips
try "test in the guest that fails" ends_with $'0 passed, 1 failed\nstatus 1' guest_fails
try "tests in the guest in the order of the file" guest_in_order
try "no such test" typo_in_only
try "no such part" unknown_part
try "wrong factor of time limits" wrong_time_scale
exit $failures
