#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Patches that are made up from a seed, on both cores: the same errors, and nothing left behind.
. "$(dirname "$0")/lib.sh"

# How many, and from what.
cases=${FUZZ_VM_CASES:-200}
seed=${FUZZ_SEED:-$((SRANDOM % 100000))}
figure=$(mktemp)

# How many are tried before the log is read.
chunk=100

patch_is_there() { [ -e $lp/klp_test_fuzz ]; }

# results FIRST COUNT: the result of each of these cases.
results() {
	local first=$1 end=$(($1 + $2))
	while [ "$first" -lt $end ]; do
		mark
		if load klp_test_fuzz "seed=$seed" "first=$first" "count=$((end - first))" 2>/dev/null; then
			first=$(cat /sys/module/klp_test_fuzz/parameters/next)
			wait_until 30 settled settled klp_test_fuzz
			remove klp_test_fuzz
		else
			first=$end
		fi
		not patch_is_there
		since_mark | sed -n 's/^klp_test_fuzz: \(case .*\)/\1/p'
	done
}

# compare CASES: the same on both cores.
compare() {
	local first dir
	dir=$(mktemp -d)
	load klp_test_target
	for ((first = 0; first < $1; first += chunk)); do
		results $first $chunk >>"$dir/builtin"
	done
	load livepatch
	for ((first = 0; first < $1; first += chunk)); do
		results $first $chunk >>"$dir/rust"
	done
	rmmod livepatch
	rmmod klp_test_target
	diff -U 0 "$dir/builtin" "$dir/rust" >"$dir/diff" || fail "seed $seed:" "$(head -n 20 "$dir/diff")"
	[ "$(wc -l <"$dir/rust")" = "$1" ] || fail "$(wc -l <"$dir/rust") results of $1 cases"
	# Some of each kind.
	[ "$(sed 's/.*: //' "$dir/rust" | sort -u | wc -l)" -ge 4 ] ||
		fail "$(sed 's/.*: //' "$dir/rust" | sort | uniq -c)"
	echo "$1 patches, $(grep -c ': 0$' "$dir/rust") of them accepted, seed $seed" >"$figure"
	rm -r "$dir"
}

compare_nonsense() {
	results() { echo "case $RANDOM: -22"; }
	compare 100
}

# Two runs that are not the same are noticed.
test_differences_are_noticed() {
	not eval "(compare_nonsense)" >/dev/null
	command rmmod klp_test_target livepatch 2>/dev/null || true
}

test_made_up_patches() { compare "$cases"; }

run_tests
status=$?
sed 's/^/# /' "$figure"
[ $status = 0 ]
