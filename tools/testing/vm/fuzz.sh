#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Patches that are made up from a seed, and damaged modules, on both cores: the same errors, and nothing
# left behind.
#
# $FUZZ_VM_CASES is how many, $FUZZ_SEED from what. $TEST_FILES may have cores with mistakes, which are
# found then.
. "$(dirname "$0")/lib.sh"

cases=${FUZZ_VM_CASES:-100}
seed=${FUZZ_SEED:-$((SRANDOM % 100000))}
parameters=/sys/module/klp_test_fuzz/parameters

# Each test runs in a shell of its own: what came of the cases on the built-in core, and what there
# is to say at the end.
expected=$(mktemp)
figure=$(mktemp)

# How many are tried between two looks.
chunk=50

# How many modules are damaged for both cores; and for the Rust core alone, so many that there are some of
# each kind, and as many as the kernel's log has room for.
modules=$((cases / 5))
wild=$((cases < 500 ? 50 : cases < 2000 ? cases / 10 : 200))
damaged_modules() { PYTHONDONTWRITEBYTECODE=1 "$top/tools/testing/damaged-modules" --seed "$seed" "$@"; }

# count_each PATTERN: the results of lines like that, and how many there are of each.
count_each() {
	sed -n "/$1/s/.*: //p" | sort | uniq -c | sed 's/ *\([0-9]*\) \(.*\)/\1 times \2/' | paste -sd '|'
}

# another_patch: one that is there before, with a state and another function, or the same one.
another_patch() {
	! is_loaded klp_test_a || rmmod klp_test_a
	load klp_test_a functions=value,other state=1 version=1
	wait_until 30 settled settled klp_test_a
}

# results FIRST COUNT: a line with the result of each of these cases. In every other chunk, they
# meet another patch.
results() {
	local first=$1 end=$(($1 + $2)) with_another=$(($1 / chunk % 2)) result
	while [ "$first" -lt $end ]; do
		if [ $with_another = 1 ] && [ ! -e $lp/klp_test_a ]; then another_patch; fi
		load klp_test_fuzz "seed=$seed" "first=$first" "count=$((end - first))"
		for result in $(tr , ' ' <$parameters/results); do
			echo "case $first: $result"
			first=$((first + 1))
		done
		if [ "$result" = 0 ]; then
			wait_until 30 settled settled klp_test_fuzz
			[ "$(cat $lp/klp_test_fuzz/replace)" = 0 ] || wait_until 30 gone gone klp_test_a
			remove klp_test_fuzz
		else
			[ ! -e $lp/klp_test_fuzz ]
			rmmod klp_test_fuzz
		fi
	done
	if [ $with_another = 1 ]; then
		[ ! -e $lp/klp_test_a ] || echo 0 >$lp/klp_test_a/enabled
		wait_until 30 gone gone klp_test_a
		rmmod klp_test_a
	fi
}

# The results of the built-in core.
expect() {
	local first
	load klp_test_target
	for ((first = 0; first < cases; first += chunk)); do
		results $first $chunk >>"$expected"
	done
	rmmod klp_test_target
	damaged_modules --count "$modules" >>"$expected"
}

# compare FILE: whether the core in FILE does the same; prints the difference.
compare() {
	local first actual
	[ -s "$expected" ] || expect
	actual=$(mktemp)
	insmod "$1"
	load klp_test_target
	for ((first = 0; first < cases; first += chunk)); do
		results $first $chunk >>"$actual"
		cmp -s "$actual" <(head -n $((first + chunk)) "$expected") || break
	done
	rmmod klp_test_target
	[ "$first" -lt "$cases" ] || damaged_modules --count "$modules" >>"$actual"
	rmmod livepatch
	diff -U 0 <(head -n "$(wc -l <"$actual")" "$expected") "$actual"
}

test_cases_on_the_built_in_core() {
	local count kind
	expect
	count=$(grep -c '^case ' "$expected")
	[ "$count" -ge "$cases" ] || fail "$count results of $cases cases"
	count=$(grep -c '^module ' "$expected")
	[ "$count" = "$modules" ] || fail "$count results of $modules damaged modules"
	# Some of each kind.
	for kind in case module; do
		say "$kind: $(count_each "^$kind " <"$expected")"
		[ "$(sed -n "s/^$kind .*: //p" "$expected" | sort -u | wc -l)" -ge 3 ]
	done
}

test_mistakes_are_found() {
	local core difference
	[ -d "${TEST_FILES:-}/cores" ] || skip "no cores with mistakes were built"
	for core in "$TEST_FILES"/cores/*.ko; do
		difference=$(compare "$core" || true)
		difference=$(sed -nE 's/^-((case|module) .*)/\1/p' <<<"$difference" | head -n 1)
		[ -n "$difference" ] || fail "$(basename "$core") was not found"
		echo "mistake found: $(basename "$core" .ko): $difference" >>"$figure"
	done
}

test_cases_on_the_rust_core() {
	compare "$(module_file livepatch)" || fail "seed $seed"
	echo "$(grep -c '^case ' "$expected") patches made up, $(grep -c '^case .*: 0$' "$expected") of them" \
		"accepted, $modules modules damaged, seed $seed" >>"$figure"
}

# Whatever is wrong with a section for the module that is patched is noticed before anything is written.
# The built-in core does not look, so it would write anywhere.
test_relocations_of_what_is_not_there() {
	local results
	load livepatch
	mark
	results=$(damaged_modules --count "$wild" --wild)
	say "$(count_each . <<<"$results")"
	[ "$(wc -l <<<"$results")" = "$wild" ]
	# What is for vmlinux, the loader looks at itself, or nothing comes of it.
	not grep 'rela\.klp_test_target\..*: .*loaded$' <<<"$results"
	since_mark | grep -q "^livepatch: section .* idx [0-9]* is for a place that is not there$"
	rmmod livepatch
}

run_tests
status=$?
sed 's/^/# /' "$figure"
[ $status = 0 ]
