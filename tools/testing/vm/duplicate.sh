#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# A shadow variable that exists already, which the kernel warns of: on both cores.
. "$(dirname "$0")/lib.sh"

duplicate() {
	load klp_test_shadow
	mark
	echo duplicate >/sys/module/klp_test_shadow/parameters/run
	since_mark >"$warning"
	grep -q 'Duplicate shadow variable <[0-9a-f]*, 4b4c50>$' "$warning"
	[ "$(grep -c 'WARNING: ' "$warning")" = 1 ]
	rmmod klp_test_shadow
}

test_duplicate_variable() {
	local warning
	warning=$(mktemp)
	on_both_cores duplicate
	rm "$warning"
}

run_tests
