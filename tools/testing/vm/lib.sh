# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What the tests in the virtual machine share. A test is a function test_NAME in one of the .sh
# files here; it fails by a command that fails (set -e). Before and after each test nothing is
# loaded.
#
# $TIME_SCALE multiplies the time limits, for kernels that are slower than the test kernel.
# $CORE_PARAMETERS are parameters of the module livepatch.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
lp=/sys/kernel/livepatch

say() { printf '# %s\n' "$*"; }
fail() { printf '# %s\n' "$*"; exit 1; }

# The file of a module by its name: ours, then those of the kernel's samples.
module_file() {
	local name=$1 file
	for file in "$top/$name.ko" "$top/samples/$name.ko" "$top/tools/testing/modules/$name.ko" \
		"${KERNEL_SAMPLES:-/nowhere}/$name.ko"; do
		[ -e "$file" ] && { echo "$file"; return; }
	done
	fail "no module $name: build first"
}

# load MODULE [PARAMETER]...
load() {
	local name=$1
	shift
	# shellcheck disable=SC2086 # several parameters; of two with the same name, the last one counts
	[ "$name" != livepatch ] || set -- ${CORE_PARAMETERS:-} "$@"
	insmod "$(module_file "$name")" "$@"
}

is_loaded() { grep -q "^${1//-/_} " /proc/modules; }

refs() { awk -v name="${1//-/_}" '$1 == name { print $3 }' /proc/modules; }

# Unloads modules. A patch's directory is gone a moment before the last reference on its module.
rmmod() {
	local name
	for name; do
		wait_until 10 "no references on $name" unreferenced "$name"
		command rmmod "$name"
	done
}

unreferenced() { [ "$(refs "$1")" = 0 ] || ! is_loaded "$1"; }

# wait_until SECONDS WHAT COMMAND...: until COMMAND succeeds.
wait_until() {
	local seconds=$(($1 * ${TIME_SCALE:-1})) what=$2 end
	shift 2
	end=$((SECONDS + seconds))
	until "$@"; do
		[ $SECONDS -lt $end ] || fail "after $seconds s still not: $what"
		sleep 0.05
	done
}

in_transition() { [ "$(cat "$lp/$1/transition")" = 1 ]; }
settled() { [ "$(cat "$lp/$1/transition")" = 0 ]; }
gone() { [ ! -e "$lp/$1" ]; }

# Disables a patch, waits until it is gone, and unloads its module.
remove() {
	local patch=${1//-/_}
	echo 0 >"$lp/$patch/enabled"
	wait_until 30 "$patch gone" gone "$patch"
	rmmod "$patch"
}

# The sample patch that tasks can hold up.
# shellcheck disable=SC2034 # used by the tests
fix=$lp/livepatch_sleeper_fix

# sleeps_in PID FUNCTION
sleeps_in() { grep -q "$2" "/proc/$1/stack"; }
sleeps_in_target() { sleeps_in "$1" sleeper_wait; }

# A task that sleeps in the function to be patched; its process ID is in $sleeper, its output in $answer.
start_sleeper() {
	load livepatch-sleeper
	answer=$(mktemp)
	cat /proc/sleeper >"$answer" &
	sleeper=$!
	wait_until 10 "task asleep in sleeper_wait" sleeps_in_target "$sleeper"
}

stop_sleeper() {
	echo go >/proc/sleeper
	wait "$sleeper"
	rm "$answer"
	rmmod livepatch-sleeper
}

stop_fix() {
	remove livepatch-sleeper-fix
	rm "$answer"
	rmmod livepatch-sleeper
	rmmod livepatch
}

stop_sleeper_and_fix() {
	echo go >/proc/sleeper
	wait "$sleeper"
	wait_until 5 settled settled livepatch_sleeper_fix
	stop_fix
}

patch_state() { cat "/proc/$1/patch_state"; }

naps_in_patch() { sleeps_in "$1" wait_no_longer; }

# A task that sleeps in the new function; its process ID is in $napper.
start_napper() {
	cat /proc/sleeper >/dev/null &
	napper=$!
	wait_until 10 "task asleep in the new function" naps_in_patch "$napper"
}

# The core with the patch enabled, and a task asleep in it.
patched_with_napper() {
	load livepatch
	load livepatch-sleeper
	load livepatch-sleeper-fix nap=600
	wait_until 10 settled settled livepatch_sleeper_fix
	start_napper
}

# Starts a new part of the kernel log.
mark() {
	mark_count=$((${mark_count:-0} + 1))
	mark_text="vm-test-mark-$BASHPID-$mark_count"
	echo "$mark_text" >/dev/kmsg
}

# The kernel log since then, without time stamps.
since_mark() { dmesg | sed -n "/$mark_text/,\$p" | sed 's/^\[[^]]*\] //'; }

# The livepatch core's messages in it, without what the module loader says of the module once in a
# boot.
log() { since_mark | grep '^livepatch: ' | grep -v '^livepatch: .*taint' || true; }

# The same with those of patch modules and targets.
all_messages() {
	since_mark | grep -E '^(livepatch|klp_test)' |
		grep -v -e 'taint' -e '^livepatch: the .* core is in charge' || true
}

# same_on_both_cores COMMAND...: does the same on both cores; output and messages must be the same,
# and not few.
same_on_both_cores() {
	local dir
	dir=$(mktemp -d)
	mark
	"$@" >"$dir/c"
	all_messages >>"$dir/c"
	load livepatch
	mark
	"$@" >"$dir/rust"
	rmmod livepatch
	all_messages >>"$dir/rust"
	diff -U 3 "$dir/c" "$dir/rust"
	[ "$(wc -l <"$dir/c")" -gt 5 ]
	cp "$dir/rust" "${same_log:-/dev/null}"
	rm -r "$dir"
}

# Compares the core's messages since the mark with standard input.
expect_log() {
	local expected actual
	expected=$(cat)
	actual=$(log)
	[ "$actual" = "$expected" ] || {
		say "kernel log:"
		diff <(echo "$expected") <(echo "$actual") | sed 's/^/# /'
		return 1
	}
}

# expect_error TEXT COMMAND...: fails, and says TEXT.
expect_error() {
	local text=$1 output
	shift
	if output=$("$@" 2>&1); then
		fail "succeeded: $*"
	fi
	case $output in
	*"$text"*) ;;
	*) fail "$*: expected «$text», got «$output»" ;;
	esac
}

# What insmod calls errno values.
# shellcheck disable=SC2034 # used by the tests
{
	EINVAL='Invalid parameters'
	EBUSY='Device or resource busy'
	EEXIST='File exists'
	ENODEV='No such device'
}

# "! command" does not stop a test, this does.
not() {
	if "$@"; then
		fail "should have failed: $*"
	fi
}

put() { echo "$1" >"$2"; }

# on_both_cores COMMAND...: on the built-in core, then on the Rust core; what it demands is what
# they have in common.
on_both_cores() {
	say "on the built-in core"
	"$@"
	say "on the Rust core"
	load livepatch
	"$@"
	rmmod livepatch
}

# The modules that tests load, newest first.
ours() { awk '/^(livepatch|klp_test|test_klp)/ { print $1 }' /proc/modules; }

# Nothing of ours is left.
expect_clean() {
	local left
	# A test may say what must stay.
	left=$(find "$lp" -mindepth 1 -maxdepth 1 -printf '%f\n' 2>/dev/null |
		grep -vxF "${stays:-}" || true)
	[ -z "$left" ] || fail "left in $lp: $left"
	left=$(ours | grep -vxF "${stays:-}" || true)
	[ -z "$left" ] || fail "still loaded:" "$left"
	# The core counts what it allocates and says what is left when it goes.
	left=$(dmesg | sed -n "/vm-test: $name\$/,\$p" | grep 'livepatch: [0-9]* .* left$' || true)
	[ -z "$left" ] || fail "$left"
}

# skip REASON: ends a test that cannot run on this kernel; before it has loaded anything.
skip() { echo "$*" >"$skipped"; exit 4; }

announce() { echo "vm-test: $1" >/dev/kmsg; }

# Takes away what a failed test left, as far as possible: the next one would stumble over it.
clean_up() {
	local patch hold
	# Who is held may have a lock that all of the rest takes.
	for hold in /sys/module/klp_test_*/parameters/hold; do
		[ ! -e "$hold" ] || echo 0 >"$hold"
	done
	echo go 2>/dev/null >/proc/sleeper
	for patch in "$lp"/*/; do
		[ -e "$patch/enabled" ] && echo 0 >"$patch/enabled"
	done 2>/dev/null
	for _ in $(seq 200); do
		[ -z "$(ls "$lp")" ] && break
		sleep 0.1
	done
	# shellcheck disable=SC2046 # names without blanks
	command rmmod $(ours) 2>/dev/null
}

# Only a kernel for debugging has it.
kmemleak=/sys/kernel/debug/kmemleak

# What kmemleak reports of livepatch. A caller in a module that is gone is a bare address.
leaks_of_livepatch() {
	awk '/^unreferenced object/ { if (ours) printf "%s", report; report = ""; ours = 0 }
		{ report = report $0 "\n" }
		/livepatch|klp_|^ *(\[<[^>]*>\] )?0x[0-9a-f]+$/ { ours = 1 }
		END { if (ours) printf "%s", report }'
}

# For tests with the kernel's sample livepatch-shadow-mod, which loses memory until it is patched.
memory_may_leak() { [ ! -e $kmemleak ] || skip "CONFIG_DEBUG_KMEMLEAK reports what the kernel's sample loses"; }

# As a test, it comes after all others.
no_leaks() {
	local leaks
	# An object that is younger than 5 s is not reported, and there is nothing to wait for.
	sleep 6
	echo scan >$kmemleak
	echo scan >$kmemleak
	leaks=$(leaks_of_livepatch <$kmemleak)
	[ -z "$leaks" ] || fail "kmemleak: $leaks"
}

# run_test NUMBER NAME BODY: prints the result as a line of KTAP, what a failed test said in front
# of it, and counts in $failed. Not to be called as a condition: that would switch "set -e" off.
run_test() {
	local number=$1 name=$2 body=$3 start output skipped status
	start=$(date +%s%N)
	announce "$body"
	output=$(mktemp)
	skipped=$(mktemp)
	(
		set -eE
		trap 'echo "# line $LINENO: $BASH_COMMAND" >&2' ERR
		"$body"
		name=$body expect_clean
	) >"$output" 2>&1
	status=$?
	if [ $status = 0 ]; then
		printf 'ok %d %s # %d ms\n' "$number" "$name" $((($(date +%s%N) - start) / 1000000))
	elif [ $status = 4 ] && [ -s "$skipped" ]; then
		printf 'ok %d %s # SKIP %s\n' "$number" "$name" "$(cat "$skipped")"
	else
		sed 's/^\(# \)\?/# /' "$output"
		printf 'not ok %d %s\n' "$number" "$name"
		failed=$((failed + 1))
		clean_up
	fi
	rm -f "$output" "$skipped"
}

# For scripts with $tracing, where tracefs is, and $function, a function of the kernel.

# Whether calls can jump to a replacement in this kernel.
can_jump() { grep -q ' update_ftrace_direct_add$' /proc/kallsyms; }

# attach KIND [VALUE]: a BPF program at the function's entry or exit, which returns VALUE: $bpf_in and $bpf_out talk to
# the program that holds it.
attach() {
	# shellcheck disable=SC2154 # set by the script
	coproc BPF { "$TEST_FILES/trampoline" "$1" "$function" ${2:+"$2"}; }
	# shellcheck disable=SC2034,SC2153 # for the scripts; set by coproc
	bpf_out=${BPF[0]} bpf_in=${BPF[1]} bpf_pid=$BPF_PID
	local answer=
	read -r answer <&"$bpf_out" || true
	[ "$answer" = attached ]
}
detach() {
	exec {bpf_in}>&-
	wait "$bpf_pid"
}

# Probes at the function: at_entry, at_return, entered, left.
switch_probes() {
	local event
	for event in kprobes/at_entry kprobes/at_return fprobes/entered fprobes/left; do
		# shellcheck disable=SC2154 # set by the script
		echo "$1" >"$tracing/events/$event/enable"
	done
}
put_probes() {
	echo "p:at_entry $function" >"$tracing/kprobe_events"
	echo "r:at_return $function" >>"$tracing/kprobe_events"
	echo "f:entered $function" >>"$tracing/dynamic_events"
	echo "f:left $function%return" >>"$tracing/dynamic_events"
	switch_probes 1
}
take_probes() {
	switch_probes 0
	: >"$tracing/dynamic_events"
}

# Runs the tests of the script in the order of the file; $ONLY may name a single one.
run_tests() {
	local name names=() count number=0 failed=0
	mapfile -t names < <(sed -n 's/^test_\([a-z0-9_]*\)() .*/\1/p' "$0" | grep -x "${ONLY:-.*}")
	mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
	count=${#names[@]}
	if [ -e $kmemleak ]; then
		echo clear >$kmemleak
		count=$((count + 1))
	fi
	echo "KTAP version 1"
	echo "1..$count"
	for name in "${names[@]}"; do
		number=$((number + 1))
		run_test $number "$name" "test_$name"
	done
	if [ -e $kmemleak ]; then
		run_test $((number + 1)) no_leaks no_leaks
	fi
	[ $failed = 0 ]
}
