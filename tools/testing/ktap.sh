# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Results as KTAP. A part is a command that prints result lines, "ok NAME" or "not ok NAME",
# numbered or not; its plan, "1..N", if it knows it beforehand; and anything else, which becomes a
# comment. A part whose output begins with "KTAP version" numbers its results from 1. Where that line
# comes again, the part has begun anew, and what came before does not count.

passed=0 failed=0 skipped=0 parts_run=0

# check NAME COMMAND...: one test, whose output is shown only if it fails.
check() {
	local name=$1 output
	shift
	if output=$("$@" 2>&1); then
		echo "ok $name"
	else
		printf '%s\n' "$output" | tail -n 60
		echo "not ok $name"
	fi
}

# refuses TEXT COMMAND...: for a test of a script: it fails, and TEXT is in its last line.
refuses() {
	local text=$1 output
	shift
	output=$("$@") && { printf '%s\nnot refused\n' "$output"; return 1; }
	printf '%s\n' "$output"
	grep -qF -- "$text" <<<"$(tail -n 1 <<<"$output")"
}

# subtest NAME COMMAND...: runs a part, counts its results and says how long it took. A part fails,
# too, if it runs no test, other than as many as planned, or ends with a status that its results do
# not explain.
subtest() {
	local name=$1 line not number=0 bad=0 plan='' status status_file complaints=() result
	local ktap='' skip_all='' start=$SECONDS passed_before=$passed skipped_before=$skipped
	local pattern='^(not )?ok ([0-9]+ )?(- )?(.*)$'
	shift
	status_file=$(mktemp)
	echo "# Subtest: $name"
	echo "  KTAP version 1"
	# Also a last line that is cut off.
	while IFS= read -r line || [ -n "$line" ]; do
		if [[ $line =~ $pattern ]]; then
			not=${BASH_REMATCH[1]} line=${BASH_REMATCH[4]}
			number=$((number + 1))
			[ -z "$ktap" ] || [ "${BASH_REMATCH[2]}" = "$number " ] ||
				complaints+=("result $number has the number ${BASH_REMATCH[2]:-none}")
			if [[ $line == *'# SKIP'* ]]; then
				skipped=$((skipped + 1))
			elif [ -n "$not" ]; then
				bad=$((bad + 1))
			else
				passed=$((passed + 1))
			fi
			echo "  ${not}ok $number $line"
		elif [[ $line =~ ^1\.\.0\ +'# SKIP' ]]; then
			plan=0 skip_all=1
			skipped=$((skipped + 1))
			echo "  $line"
		elif [[ $line =~ ^1\.\.([0-9]+)$ ]]; then
			plan=${BASH_REMATCH[1]}
			echo "  $line"
		elif [[ $line == 'KTAP version '* ]]; then
			ktap=1 number=0 bad=0 plan='' skip_all=''
			passed=$passed_before skipped=$skipped_before
		else
			echo "  # ${line#\# }"
		fi
	done < <(("$@") 2>&1; echo $? >"$status_file")
	# Not by "wait": bash 5.2 now and then forgets what a process substitution ended with.
	read -r status <"$status_file" || status=126
	rm "$status_file"
	if [ -z "$plan" ]; then
		# At the end, which TAP allows.
		echo "  1..$number"
	elif [ "$plan" != $number ]; then
		complaints+=("$plan tests were planned, $number ran")
	fi
	[ $number != 0 ] || [ -n "$skip_all" ] || complaints+=("no test ran")
	if [ "$status" -gt 1 ] || { [ "$status" = 1 ] && [ $bad = 0 ]; }; then
		complaints+=("ended with status $status")
	fi
	parts_run=$((parts_run + 1))
	result=ok
	if [ $((bad + ${#complaints[@]})) != 0 ]; then
		result='not ok'
	fi
	failed=$((failed + bad + ${#complaints[@]}))
	[ ${#complaints[@]} = 0 ] || printf '# %s\n' "${complaints[@]/#/$name: }"
	echo "$result $parts_run $name # $((SECONDS - start)) s"
}

# Prints the sum, and fails if a test failed.
summary() {
	echo "$passed passed, $failed failed$([ $skipped = 0 ] || echo ", $skipped skipped")"
	[ $failed = 0 ] && [ $passed -gt 0 ]
}
