#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# klp against kpatch's own script, argument by argument; then what kpatch does not promise: signals,
# two at once, a full disk, no permission, damaged and foreign modules, the boot guard.
. "$(dirname "$0")/lib.sh"

release=$(uname -r)

# Both install systemd units, which this machine does not have.
mkdir -p /tmp/bin
printf '#!/bin/sh\n' >/tmp/bin/systemctl
chmod +x /tmp/bin/systemctl
PATH=/tmp/bin:$PATH
# Where anybody may run it.
cp "$TEST_FILES/klp" /tmp/bin/
klp=/tmp/bin/klp

# kpatch as it is, and with the waits that tool takes for klp too if $impatient.
cp "$TEST_FILES/kpatch" /tmp/bin/kpatch
sed -e 's/^POST_ENABLE_WAIT=.*/POST_ENABLE_WAIT=2/' -e 's/^POST_SIGNAL_WAIT=.*/POST_SIGNAL_WAIT=1/' \
	"$TEST_FILES/kpatch" >/tmp/bin/impatient-kpatch
chmod +x /tmp/bin/*
impatient=

# A directory with modules whose file names do, and do not, look like those of the modules.
work=/tmp/klp
mkdir -p $work
for name in livepatch-cmdline livepatch-sleeper-fix klp_test_a klp_test_target; do
	cp "$(module_file $name)" $work/
done
# run_tests reads the script again, from there.
BASH_ARGV0=$top/tools/testing/vm/klp.sh
cd $work || exit
echo garbage >garbage.ko
# For another kernel: a byte of the release in .modinfo is another one.
sed "s/vermagic=$release/vermagic=X${release#?}/" livepatch-cmdline.ko >foreign.ko
foreign=X${release#?}

# What differs: the place of the installed patches, times, thread IDs, and stacks; the functions,
# which only kpatch 0.9.11 lists. How far a transition is when the program looks depends on the
# machine, so that one that completes at once may be waited for or not.
normalise() {
	sed -E -e 's,/var/lib/(kpatch|klp),STORE,g' -e 's/[0-9]+ seconds/N seconds/' \
		-e 's/^[0-9]+ (cat)$/TID \1/' -e '/^\[<0>\]/d' -e '/for module refcount/d' "$1" |
		awk '/^Currently livepatched functions:/ { blank = ""; functions = 1 }
			/^status / { functions = 0 }
			functions { next }
			/^$/ { blank = "\n"; next }
			waiting != "" { if (!/^transition complete/) print waiting "\n" blank $0
				waiting = blank = ""; next }
			/^waiting .* for patch transition/ { waiting = $0; next }
			{ print blank $0; blank = "" }' >"$2"
}

# tool ARGUMENT...: runs klp or kpatch, and writes into the transcript what it was called with, its
# standard output and its status.
tool() { run_tool "$@" >>/tmp/transcripts/raw; }
run_tool() {
	local status=0 arguments=()
	echo "\$ $*"
	if [ "$under_test" = klp ]; then
		[ -z "$impatient" ] || arguments=(--wait 2 --stalled-wait 1)
		"$klp" "$@" "${arguments[@]}" 2>>/tmp/errors || status=$?
	else
		"${impatient:+impatient-}kpatch" "$@" 2>>/tmp/errors || status=$?
	fi
	echo "status $status"
}

# compare SCENARIO CORE...: the scenario with each of the programs, on these cores: all must print
# the same.
compare() {
	local scenario=$1 under_test core cores
	shift
	cores=("$@")
	mkdir -p /tmp/transcripts
	rm -f /tmp/transcripts/*
	for core in "${cores[@]}"; do
		[ "$core" = C ] || load livepatch
		for under_test in kpatch klp; do
			: >/tmp/transcripts/raw
			"$scenario"
			normalise /tmp/transcripts/raw "/tmp/transcripts/$core-$under_test"
			[ -z "$(ls $lp)" ] || fail "$under_test left patches"
			rm -rf /var/lib/kpatch /var/lib/klp
		done
		[ "$core" = C ] || rmmod livepatch
		diff -U 5 "/tmp/transcripts/$core-"{kpatch,klp} || fail "not the same on the $core core"
	done
	diff -U 5 "/tmp/transcripts/${cores[0]}-klp" "/tmp/transcripts/${cores[-1]}-klp" || fail "not the same on both cores"
	[ "$(grep -c '^status' "/tmp/transcripts/${cores[0]}-klp")" -gt 3 ]
}

load_and_unload() {
	tool load livepatch-cmdline.ko
	grep -q 'live-patched$' /proc/cmdline
	tool load livepatch-cmdline.ko
	tool list
	tool signal
	tool unload livepatch-cmdline.ko
	not grep -q 'live-patched$' /proc/cmdline
	tool unload livepatch_cmdline
	tool unload livepatch-cmdline
	tool load ./klp_test_a.ko
	tool load livepatch-cmdline.ko
	tool list
	tool unload --all
	tool unload --all
}
test_load_and_unload_as_kpatch() { compare load_and_unload C Rust; }

installed() {
	tool install livepatch-cmdline.ko
	tool install livepatch-cmdline.ko
	tool install ./klp_test_a.ko
	tool list
	tool load livepatch_cmdline
	tool load --all
	tool load --all
	tool list
	tool unload klp_test_a
	tool unload --all
	tool info livepatch-cmdline.ko
	tool info klp_test_a
	tool uninstall livepatch_cmdline
	tool uninstall livepatch_cmdline
	tool load livepatch_cmdline
	tool uninstall klp_test_a.ko
	tool list
	# Under the name of its module.
	mkdir -p foreign
	cp foreign.ko foreign/livepatch-cmdline.ko
	tool install -k "$foreign" foreign/livepatch-cmdline.ko
	tool install --kernel-version="$foreign" foreign/livepatch-cmdline.ko
	tool list
	tool load --all
	tool uninstall livepatch-cmdline
	tool uninstall -k "$foreign" livepatch-cmdline
	tool list
}
test_install_as_kpatch() { compare installed C; }

errors() {
	tool load nowhere
	tool load nowhere.ko
	tool load /no/where.ko
	tool load garbage.ko
	tool load foreign.ko
	tool unload nowhere
	tool unload nowhere.ko
	tool info nowhere
	tool info garbage.ko
	tool install nowhere.ko
	tool install foreign.ko
	tool install -k "$foreign" livepatch-cmdline.ko
	cp livepatch-cmdline.ko cmdline.o
	tool install cmdline.o
	tool uninstall nowhere
	tool uninstall ./livepatch-cmdline.ko
	tool uninstall -k "$foreign" livepatch-cmdline
	tool list
}
test_errors_as_kpatch() { compare errors C; }

# start_sleeper [PARAMETER]...
start_sleeper() {
	load livepatch-sleeper "$@"
	cat /proc/sleeper >/dev/null &
	sleeper=$!
	wait_until 10 "task asleep in sleeper_wait" sleeps_in_target "$sleeper"
}
stop_sleeper() {
	echo go >/proc/sleeper
	wait "$sleeper"
	rmmod livepatch-sleeper
}

only_sleeper_left() { [ "$(cat /proc/[0-9]*/task/*/patch_state 2>/dev/null | grep -c '^0$')" = 1 ]; }

stalled() {
	# kpatch needs longer to look at all tasks of an emulated machine than the core waits before it
	# signals them.
	start_sleeper stubborn=1
	impatient=1 tool load livepatch-sleeper-fix.ko
	load livepatch-sleeper-fix
	wait_until 30 "only the sleeper left" only_sleeper_left
	tool list
	tool signal
	impatient=1 tool load livepatch-sleeper-fix.ko
	# Disabled by hand: the module stays.
	load livepatch-cmdline
	wait_until 10 "livepatch_cmdline complete" settled livepatch_cmdline
	echo 0 >$lp/livepatch_cmdline/enabled
	wait_until 10 "livepatch_cmdline gone" gone livepatch_cmdline
	tool list
	tool load livepatch-cmdline.ko
	echo 0 >$lp/livepatch_cmdline/enabled
	wait_until 10 "livepatch_cmdline gone" gone livepatch_cmdline
	tool unload livepatch-cmdline.ko
	stop_sleeper
}
test_stalled_as_kpatch() { compare stalled C Rust; }

# status_of COMMAND...: the output goes to standard error, to be shown if the test fails.
status_of() {
	local status=0
	"$@" >/tmp/output 2>&1 || status=$?
	cat /tmp/output >&2
	echo $status
}
said() { grep -qF -- "$1" /tmp/output || fail "not said: $1"; }

usage_errors() {
	local command
	for command in "" load "load a b" "load --all x" "load --boot" unload "list x" info "install" \
		"uninstall" "signal x" "version x" "load --wait never x.ko" nonsense; do
		# shellcheck disable=SC2086 # several arguments
		[ "$(status_of "$klp" $command)" = 2 ] || fail "klp $command: not status 2"
	done
}
test_usage() {
	usage_errors
	[ "$("$klp" version)" = "$("$klp" --version | cut -d' ' -f2)" ]
}

# What the list says of functions, which kpatch 0.9.11 does too.
functions_listed() {
	"$klp" load livepatch-cmdline.ko
	"$klp" list | sed '1,/^Currently/d' | tr -s ' ' >/tmp/functions
	diff - /tmp/functions <<-END
		Module Object Function/Occurrence
		livepatch_cmdline vmlinux cmdline_proc_show/1
	END
	"$klp" list --json | python3 -c 'import json, sys
answer = json.load(sys.stdin)
assert answer["schema"] == "klp/1" and answer["command"] == "list", answer
assert answer["loaded"] == [{"name": "livepatch_cmdline", "state": "enabled"}], answer'
	"$klp" unload --all
}
test_functions_listed() { on_both_cores functions_listed; }

says() { grep -q "$1" /tmp/output; }

# interrupt SIGNAL COMMAND...: the signal arrives while klp waits for a transition. Its status is in
# $status.
interrupt() {
	local signal=$1 pid
	shift
	# A shell has what is in the background ignore SIGINT.
	env --default-signal=INT "$klp" "$@" --wait 600 >/tmp/output 2>&1 &
	pid=$!
	wait_until 10 "klp $1 waiting" says 'for patch transition'
	kill "-$signal" $pid
	status=0
	wait $pid || status=$?
}

interrupted() {
	local status
	start_sleeper
	interrupt INT load livepatch-sleeper-fix.ko
	[ "$status" = 130 ]
	said "klp unload livepatch_sleeper_fix takes it off again"
	in_transition livepatch_sleeper_fix
	# Another one waits for what the first one began.
	interrupt TERM load livepatch-sleeper-fix.ko
	[ "$status" = 143 ]
	said "already loaded and enabled"
	interrupt KILL load livepatch-sleeper-fix.ko
	[ "$status" = 137 ]
	"$klp" unload livepatch-sleeper-fix
	gone livepatch_sleeper_fix
	not is_loaded livepatch_sleeper_fix
	stop_sleeper
}
test_interrupted_while_loading() { on_both_cores interrupted; }

killed_while_unloading() {
	local status sleeper
	load livepatch-sleeper
	load livepatch-sleeper-fix nap=1000
	wait_until 10 "fix complete" settled livepatch_sleeper_fix
	cat /proc/sleeper >/dev/null &
	sleeper=$!
	wait_until 10 "task asleep in the new function" naps_in_patch $sleeper
	interrupt KILL unload livepatch_sleeper_fix
	[ "$status" = 137 ]
	in_transition livepatch_sleeper_fix
	interrupt INT unload livepatch_sleeper_fix
	[ "$status" = 130 ]
	said "klp unload livepatch_sleeper_fix waits for it again"
	# It is turned round, then taken off for good.
	"$klp" load livepatch-sleeper-fix.ko >/tmp/output
	said "module already loaded, re-enabling"
	kill $sleeper
	wait $sleeper || true
	"$klp" unload livepatch_sleeper_fix
	not is_loaded livepatch_sleeper_fix
	rmmod livepatch-sleeper
}
test_killed_while_unloading() { on_both_cores killed_while_unloading; }

test_killed_before_the_module_is_unloaded() {
	load livepatch-cmdline
	wait_until 10 "complete" settled livepatch_cmdline
	echo 0 >$lp/livepatch_cmdline/enabled
	wait_until 10 "gone" gone livepatch_cmdline
	"$klp" unload livepatch-cmdline
	not is_loaded livepatch_cmdline
}

two_at_once() {
	local pid
	start_sleeper
	"$klp" load livepatch-sleeper-fix.ko --wait 600 >/tmp/first 2>&1 &
	pid=$!
	wait_until 10 "in transition" in_transition livepatch_sleeper_fix
	[ "$(status_of "$klp" load livepatch-cmdline.ko --attempts 1)" = 1 ]
	said "klp: \"klp load livepatch-sleeper-fix.ko\" (process $pid) is changing patches"
	"$klp" list | grep -q '^livepatch_sleeper_fix \[enabling...\]'
	# Now one that waits.
	"$klp" load livepatch-cmdline.ko >/tmp/output 2>&1 &
	wait_until 10 "waiting for the lock" says 'klp: waiting for'
	kill $pid
	wait $pid || true
	wait_until 10 "waiting for the transition" says 'klp: retrying'
	said "the transition of patch livepatch_sleeper_fix is going on"
	echo go >/proc/sleeper
	wait $!
	settled livepatch_cmdline
	"$klp" unload --all
	wait "$sleeper" || true
	rmmod livepatch-sleeper
}
test_two_at_once() { on_both_cores two_at_once; }

test_full_disk() {
	mkdir -p /var/lib/klp
	mount -t tmpfs -o size=16k tmpfs /var/lib/klp
	[ "$(status_of "$klp" install livepatch-cmdline.ko)" = 1 ]
	said "No space left on device"
	[ -z "$(find /var/lib/klp -mindepth 1)" ]
	umount /var/lib/klp
	rmdir /var/lib/klp
}

as_nobody() { setpriv --reuid 65534 --clear-groups "$klp" "$@"; }

test_no_permission() {
	local command
	for command in "load livepatch-cmdline.ko" "unload livepatch_cmdline" "unload --all" \
		"install livepatch-cmdline.ko" "uninstall x" boot-ok; do
		# shellcheck disable=SC2086 # several arguments
		[ "$(status_of as_nobody $command)" = 1 ]
		[ "$(cat /tmp/output)" = "klp: must be root" ]
	done
	# Who only looks need not be root.
	[ "$(status_of as_nobody list)" = 0 ]
	[ "$(status_of as_nobody info livepatch-cmdline.ko)" = 0 ]
	[ -z "$(ls $lp)" ]
}

test_messages() {
	[ "$(status_of "$klp" load foreign.ko)" = 1 ]
	said "klp: error[vermagic]: the module was built for the kernel $foreign, and this is $release"
	said "klp: failed to load module foreign.ko: it does not fit this kernel"
	[ "$(status_of "$klp" load --no-check foreign.ko)" = 1 ]
	said "klp: failed to load module foreign.ko: it is for the kernel $foreign, and this one is $release"
	[ "$(status_of "$klp" load garbage.ko)" = 1 ]
	said "klp: garbage.ko: not a kernel module"
	[ "$(status_of "$klp" load klp_test_target.ko)" = 1 ]
	said "klp: klp_test_target.ko: the module is no live patch"
	[ "$(status_of "$klp" install klp_test_target.ko)" = 1 ]
	said "klp_test_target.ko is no live patch"
	head -c 2000 livepatch-cmdline.ko >short.ko
	[ "$(status_of "$klp" load short.ko)" = 1 ]
	said "klp: short.ko: not a kernel module"
	load klp_test_target
	[ "$(status_of "$klp" unload klp_test_target)" = 1 ]
	said "klp: module klp_test_target is no live patch"
	is_loaded klp_test_target
	rmmod klp_test_target
}

boot_guard() {
	local boot
	"$klp" install livepatch-cmdline.ko
	"$klp" load --all --boot
	boot=/var/lib/klp/.boot/$release/livepatch_cmdline
	grep -q "^$(cat /proc/sys/kernel/random/boot_id) 0 " "$boot"
	"$klp" load --all --boot
	"$klp" unload --all
	# As if this boot were the next one: it is loaded once more.
	sed -i 's/^[^ ]*/another-boot/' "$boot"
	[ "$(status_of "$klp" load --all --boot)" = 0 ]
	said "klp: the machine died at the last boot after patch livepatch_cmdline was loaded"
	"$klp" unload --all
	# And the one after that.
	sed -i 's/^[^ ]*/another-boot/' "$boot"
	mark
	[ "$(status_of "$klp" load --all --boot)" = 1 ]
	said "klp: patch livepatch_cmdline is not loaded: the machine died"
	since_mark | grep -q '^klp: patch livepatch_cmdline is not loaded'
	[ -z "$(ls $lp)" ]
	"$klp" list | grep -q "^livepatch_cmdline ($release) \[skipped at boot"
	# That this boot goes well says nothing of it; that somebody loads it does.
	"$klp" boot-ok
	[ -e "$boot" ]
	"$klp" load livepatch_cmdline
	[ ! -e "$boot" ]
	"$klp" unload --all
	"$klp" load --all --boot
	"$klp" boot-ok
	[ ! -e "$boot" ]
	"$klp" unload --all
	"$klp" uninstall livepatch_cmdline
	[ ! -e /var/lib/klp ]
}
test_boot_guard() { on_both_cores boot_guard; }

# A machine that is shut down in good order has not died.
test_boot_ok_at_shutdown() {
	local pid
	"$klp" install livepatch-cmdline.ko
	"$klp" load --all --boot
	[ -e "/var/lib/klp/.boot/$release/livepatch_cmdline" ]
	"$klp" boot-ok --when-proven &
	pid=$!
	wait_until 10 "waiting" grep -q do_sys_poll "/proc/$pid/stack"
	kill -TERM $pid
	wait $pid
	[ ! -e /var/lib/klp/.boot ]
	"$klp" unload --all
	"$klp" uninstall livepatch-cmdline.ko
}

by_insmod() {
	insmod livepatch-cmdline.ko
	until settled livepatch_cmdline; do :; done
}
by_klp() { "$klp" load livepatch-cmdline.ko >/dev/null; }
by_kpatch() { kpatch load livepatch-cmdline.ko >/dev/null; }

# What the three need from the command to the end of the transition, in turn; the medians in ms.
load_times() {
	local way start sorted
	local -A times=() median=()
	for _ in 1 2 3 4 5 6 7; do
		for way in insmod klp kpatch; do
			start=${EPOCHREALTIME/./}
			"by_$way"
			times[$way]+="$(((${EPOCHREALTIME/./} - start) / 1000)) "
			settled livepatch_cmdline
			remove livepatch-cmdline
		done
	done
	for way in insmod klp kpatch; do
		mapfile -t sorted < <(tr ' ' '\n' <<<"${times[$way]% }" | sort -n)
		median[$way]=${sorted[3]}
		echo "# from the command to the end of the transition, by $way: ${median[$way]} ms (${times[$way]% })"
	done
	[ "${median[klp]}" -lt "${median[kpatch]}" ]
	# With what klp looks at before it loads.
	[ "${median[klp]}" -lt $((2 * median[insmod])) ]
}
test_load_times() { on_both_cores load_times; }

run_tests
