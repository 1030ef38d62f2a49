#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Whether klp check and the kernel agree: what it lets pass is loaded and runs, what it does not is
# refused, on both cores. The program, and modules that are wrong, are in $TEST_FILES.
. "$(dirname "$0")/lib.sh"

testing=$top/tools/testing
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null

klp() { "$TEST_FILES/klp" "$@"; }

# check STATUS MODULE...: the exit status is this one.
check() {
	local wanted=$1 status=0 output
	shift
	output=$(klp check "$@" 2>&1) || status=$?
	[ $status = "$wanted" ] || fail "klp check $*: status $status: $output"
	say "${output##*$'\n'}"
}

# fits MODULE [TARGET]: it is let pass, and is loaded and taken off again.
fits() {
	local module=$1 target=${2:-}
	[ -z "$target" ] || load "$target"
	check 0 "$(module_file "$module")"
	load "$module"
	wait_until 20 "$module settled" settled "${module//-/_}"
	remove "$module"
	[ -z "$target" ] || rmmod "$target"
}

# What fits is found to fit, and does.
all_fit() {
	fits livepatch-cmdline
	fits livepatch-sleeper-fix livepatch-sleeper
	fits livepatch-rust-cmdline
	fits livepatch-rust-unexported
	fits livepatch-rust-syscall
	fits livepatch-sample
	fits klp_test_reloc klp_test_target
}

test_what_fits() { on_both_cores all_fit; }

# The object of a patch may come later: then its file tells.
later() {
	check 0 --target "$(module_file klp_test_target)" "$(module_file klp_test_reloc)"
	check 2 "$(module_file klp_test_reloc)"
}

test_target_that_is_not_loaded() { later; }

# wrong MODULE: it is not let pass, and the kernel refuses it, or what it has been marked with as
# "late" shows only later.
wrong() {
	local module
	for module in "$TEST_FILES"/*.ko; do
		case ${module##*/} in
		# Another symbol than the author meant, which is there.
		position-first.ko)
			check 0 "$module"
			insmod "$module"
			remove klp_test_reloc
			;;
		# The core passes over these sections without a word.
		section-for-another-object.ko)
			check 1 "$module"
			;;
		*)
			check 1 "$module"
			not insmod "$module" 2>/dev/null
			;;
		esac
	done
}

wrong_modules() {
	load klp_test_target
	wrong
	rmmod klp_test_target
}

test_wrong_modules() { on_both_cores wrong_modules; }

# The kernel's functions at random, with right and wrong positions.
functions_at_random() {
	load klp_test_target
	"$testing/check-differential" --klp "$TEST_FILES/klp" --module "$(module_file klp_test_probe)" \
		--count 60
	rmmod klp_test_target
}

test_functions_at_random() { on_both_cores functions_at_random; }

# What somebody else does to a function that is to be replaced.
held() {
	local module
	module=$(module_file livepatch-cmdline)
	load livepatch-cmdline
	klp check "$module" 2>&1 | grep -q '^error\[busy\]: a module livepatch_cmdline is loaded' ||
		fail "that it is loaded was not told"
	remove livepatch-cmdline
	load livepatch-sleeper
	cat /proc/sleeper >/dev/null &
	sleeper=$!
	wait_until 10 "task asleep in sleeper_wait" sleeps_in_target "$sleeper"
	klp check "$(module_file livepatch-sleeper-fix)" | grep -q "^note\[tasks\]: tasks are in sleeper_wait: $sleeper cat" ||
		fail "the sleeper was not told"
	echo go >/proc/sleeper
	wait "$sleeper"
	rmmod livepatch-sleeper
}

test_running_kernel() { on_both_cores held; }

# Only root sees where symbols are.
test_without_privileges() {
	local status=0
	setpriv --reuid 65534 --regid 65534 --clear-groups "$TEST_FILES/klp" check \
		"$(module_file livepatch-cmdline)" >/dev/null || status=$?
	[ $status = 2 ]
}

run_tests
