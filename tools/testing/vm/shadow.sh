#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Shadow variables, on both cores and across a change of cores. The module does the work.
. "$(dirname "$0")/lib.sh"

run=/sys/module/klp_test_shadow/parameters/run

basic() {
	mark
	load klp_test_shadow
	echo basic >$run
	# The constructor that fails, twice. The number for the object is not its address.
	log | sed 's/<00000000[0-9a-f]\{8\},/<obj,/' | uniq -c |
		grep -qx ' *2 livepatch: Failed to construct shadow variable <obj, 4b4c50> (-61)'
	rmmod klp_test_shadow
}
test_all_functions() { on_both_cores basic; }

stress() {
	load klp_test_shadow
	echo stress >$run
	rmmod klp_test_shadow
}
test_stress() { on_both_cores stress; }

test_variables_survive_changes_of_cores() {
	load klp_test_shadow
	echo hold >$run
	load livepatch
	echo hold >$run
	rmmod livepatch
	echo hold >$run
	echo release >$run

	load livepatch
	echo hold >$run
	rmmod livepatch
	echo hold >$run
	load livepatch
	echo release >$run
	rmmod livepatch
	rmmod klp_test_shadow
}

test_stress_while_cores_change() {
	local stress
	load klp_test_shadow
	(for _ in {1..20}; do echo stress >$run; done) &
	stress=$!
	while kill -0 $stress 2>/dev/null; do
		load livepatch
		rmmod livepatch
	done
	wait $stress
	rmmod klp_test_shadow
}

run_tests
