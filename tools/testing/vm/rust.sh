#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The live patches in Rust of samples/ do what their headers say, on both cores.
. "$(dirname "$0")/lib.sh"

said() { since_mark | grep -q "$1"; }
says_in_cmdline() { grep -q "$1" /proc/cmdline; }

enable() {
	load "$@"
	wait_until 30 "$1 enabled" settled "${1//-/_}"
}
replaced() {
	wait_until 30 "$1 replaced" gone "$1"
	rmmod "$1"
}

cmdline() {
	local before
	before=$(cat /proc/cmdline)
	enable livepatch-rust-cmdline
	cat /proc/cmdline
	[ "$(cat /proc/cmdline)" = "$before live-patched in Rust" ]
	[ "$(ls $lp/livepatch_rust_cmdline/vmlinux)" = $'cmdline_proc_show,1\npatched' ]
	[ "$(cat $lp/livepatch_rust_cmdline/replace)" = 0 ]
	# It needs no other module, whichever core is in charge.
	[ -z "$(modinfo -F depends "$(module_file livepatch-rust-cmdline)")" ]
	expect_error "$EEXIST" load livepatch-rust-cmdline
	echo 0 >$lp/livepatch_rust_cmdline/enabled
	wait_until 30 gone gone livepatch_rust_cmdline
	[ "$(cat /proc/cmdline)" = "$before" ]
	rmmod livepatch_rust_cmdline
}
test_cmdline() { same_on_both_cores cmdline; }

# The examples of the crate's documentation.
enable_example() {
	insmod "$TEST_FILES/$1.ko"
	wait_until 30 "in effect" settled "$1"
}
examples() {
	local before
	enable_example my_patch
	[ -z "$(cat /proc/cmdline)" ]
	remove my_patch
	[ -n "$(cat /proc/cmdline)" ]

	mark
	enable_example my_callbacks
	remove my_callbacks
	[ "$(since_mark | grep '^my_callbacks: [a-z]* ' | grep -v taint)" = \
		$'my_callbacks: in effect\nmy_callbacks: not in effect any more' ]

	before=$(cat /proc/sys/kernel/panic)
	[ "$before" != 30 ]
	enable_example my_state
	[ "$(cat /proc/sys/kernel/panic)" = 30 ]
	remove my_state
	[ "$(cat /proc/sys/kernel/panic)" = "$before" ]
}
test_examples_of_the_documentation() { on_both_cores examples; }

# Stacked in either order; the newer one wins, and the older one is there again without it.
with_c() {
	enable livepatch-cmdline
	enable livepatch-rust-cmdline
	says_in_cmdline 'live-patched in Rust$'
	remove livepatch-rust-cmdline
	says_in_cmdline 'live-patched$'
	enable livepatch-rust-cmdline
	remove livepatch-cmdline
	says_in_cmdline 'live-patched in Rust$'
	enable livepatch-cmdline
	says_in_cmdline 'live-patched$'
	remove livepatch-rust-cmdline
	remove livepatch-cmdline
}
test_with_a_patch_in_c() { same_on_both_cores with_c; }

# The module comes and goes while the patch is enabled, and is there before it.
late() {
	enable livepatch-rust-sleeper-fix
	for _ in 1 2; do
		load livepatch-sleeper
		grep -qx 'awake, in Rust' /proc/sleeper
		rmmod livepatch_sleeper
	done
	remove livepatch-rust-sleeper-fix
	load livepatch-sleeper
	enable livepatch-rust-sleeper-fix
	grep -qx 'awake, in Rust' /proc/sleeper
	remove livepatch-rust-sleeper-fix
	rmmod livepatch_sleeper
}
test_module_comes_and_goes() { same_on_both_cores late; }

# What the callbacks said, a word each.
calls() {
	since_mark | sed -n 's/^livepatch_rust_callbacks: \(.*\): \(.*\)/\1: \2/p' | paste -sd ,
}

callbacks() {
	local kernel='the kernel: before patching,the kernel: patched'
	local module='livepatch_sleeper: before patching,livepatch_sleeper: patched'
	local no_module='livepatch_sleeper: before unpatching,livepatch_sleeper: unpatched'
	mark
	enable livepatch-rust-callbacks
	[ "$(calls)" = "$kernel" ]
	load livepatch-sleeper
	[ "$(calls)" = "$kernel,$module" ]
	grep -qx 'awake, with callbacks' /proc/sleeper
	rmmod livepatch_sleeper
	[ "$(calls)" = "$kernel,$module,$no_module" ]
	mark
	remove livepatch-rust-callbacks
	[ "$(calls)" = 'the kernel: before unpatching,the kernel: unpatched' ]
}
test_callbacks() { on_both_cores callbacks; }

refusals() {
	expect_error "$EBUSY" load livepatch-rust-callbacks refuse_kernel=1
	not is_loaded livepatch_rust_callbacks
	enable livepatch-rust-callbacks refuse_module=1
	expect_error "$EBUSY" load livepatch-sleeper
	not is_loaded livepatch_sleeper
	remove livepatch-rust-callbacks
	# With the module there already, its refusal is one of the patch.
	load livepatch-sleeper
	mark
	expect_error "$EBUSY" load livepatch-rust-callbacks refuse_module=1
	not is_loaded livepatch_rust_callbacks
	# What had been told that it is to be patched is told that it is not.
	[ "$(calls)" = 'the kernel: before patching,the kernel: unpatched' ]
	rmmod livepatch_sleeper
}
test_callbacks_refuse() { on_both_cores refusals; }

# A reader that sleeps in the old function holds the transition up; then it is turned round.
turned_round() {
	load livepatch-sleeper
	cat /proc/sleeper >/dev/null &
	wait_until 10 "the reader sleeps" grep -q sleeper_wait /proc/$!/stack
	mark
	load livepatch-rust-callbacks
	in_transition livepatch_rust_callbacks
	echo 0 >$lp/livepatch_rust_callbacks/enabled
	wait_until 30 gone gone livepatch_rust_callbacks
	[ "$(calls)" = "$(paste -sd , <<-'EOT'
		the kernel: before patching
		livepatch_sleeper: before patching
		the kernel: unpatched
		livepatch_sleeper: unpatched
	EOT
	)" ]
	rmmod livepatch_rust_callbacks
	echo go >/proc/sleeper
	wait $!
	rmmod livepatch_sleeper
}
test_transition_turned_round() { on_both_cores turned_round; }

leaked='livepatch_rust_shadow_fix: a dummy from before the patch is freed: its memory has leaked'
freed='livepatch_rust_shadow_fix: a dummy is freed, and its memory with it'

shadow() {
	mark
	load livepatch-shadow-mod
	wait_until 20 "a dummy" said 'dummy_alloc: dummy @'
	enable livepatch-rust-shadow-fix
	wait_until 40 "one from before is freed" said "$leaked"
	wait_until 40 "one with its memory is freed" said "$freed"
	remove livepatch-rust-shadow-fix
	rmmod livepatch-shadow-mod
}
test_shadow_fix() { memory_may_leak; on_both_cores shadow; }

# Disables patches, then unloads them: each frees the variables of all when it is unloaded.
remove_together() {
	local patch
	for patch in "${@//-/_}"; do
		echo 0 >"$lp/$patch/enabled"
		wait_until 30 "$patch gone" gone "$patch"
	done
	rmmod "${@//-/_}"
}

# The kernel's patch in C goes on with the variables of ours, and ours with those of the C patch.
shadow_with_c() {
	mark
	load livepatch-shadow-mod
	enable livepatch-rust-shadow-fix
	enable livepatch-shadow-fix2
	wait_until 60 "C frees what Rust attached" said 'livepatch_fix2_.*: dummy @ .*, prevented leak @'
	remove_together livepatch-shadow-fix2 livepatch-rust-shadow-fix
	mark
	enable livepatch-shadow-fix1
	wait_until 20 "a dummy with a variable" said 'livepatch_fix1_dummy_alloc: dummy @'
	enable livepatch-rust-shadow-fix
	wait_until 60 "Rust frees what C attached" said "$freed"
	remove_together livepatch-rust-shadow-fix livepatch-shadow-fix1
	rmmod livepatch-shadow-mod
}
test_shadow_variables_of_a_patch_in_c() { memory_may_leak; on_both_cores shadow_with_c; }

levels() { tr '\t' ' ' </proc/sys/kernel/printk | cut -d ' ' -f 1,2; }

states() {
	local old=$1
	echo "$old" >/proc/sys/kernel/printk
	local console=${old% *}
	enable livepatch-rust-state1
	[ "$(levels)" = "15 ${old#* }" ]
	says_in_cmdline "^patch 1, level before it $console\$"
	enable livepatch-rust-state2
	wait_until 30 "state 1 replaced" gone livepatch_rust_state1
	rmmod livepatch_rust_state1
	[ "$(levels)" = "15 7" ]
	says_in_cmdline "^patch 2, level before it $console\$"
	enable livepatch-rust-state3
	wait_until 30 "state 2 replaced" gone livepatch_rust_state2
	rmmod livepatch_rust_state2
	says_in_cmdline "^patch 3, level before it $console\$"
	# Back to the patch before, which has the state in the same version.
	enable livepatch-rust-state2
	wait_until 30 "state 3 replaced" gone livepatch_rust_state3
	rmmod livepatch_rust_state3
	says_in_cmdline "^patch 2, level before it $console\$"
	# But not to the first.
	expect_error "$EINVAL" load livepatch-rust-state1
	[ "$(levels)" = "15 7" ]
	remove livepatch-rust-state2
	[ "$(levels)" = "$old" ]
	# The newer version from nothing.
	enable livepatch-rust-state3
	[ "$(levels)" = "15 7" ]
	remove livepatch-rust-state3
	[ "$(levels)" = "$old" ]
}
keeping_levels() {
	local levels
	levels=$(levels)
	"$@"
	echo "$levels" >/proc/sys/kernel/printk
}
test_states() { keeping_levels same_on_both_cores states "3 5"; }

# Replacing is turned round: the patch that was there keeps its state.
states_turned_round() {
	echo "3 5" >/proc/sys/kernel/printk
	load livepatch-sleeper
	enable livepatch-rust-state1
	load livepatch-sleeper-fix nap=1000
	wait_until 30 settled settled livepatch_sleeper_fix
	cat /proc/sleeper >/dev/null &
	wait_until 10 "the reader sleeps" grep -q wait_no_longer /proc/$!/stack
	# It replaces the fix, too, whose function somebody sleeps in.
	load livepatch-rust-state2
	in_transition livepatch_rust_state2
	echo 0 >$lp/livepatch_rust_state2/enabled
	wait_until 30 gone gone livepatch_rust_state2
	rmmod livepatch_rust_state2
	[ "$(levels)" = "15 5" ]
	says_in_cmdline '^patch 1, level before it 3$'
	kill $!
	wait $! || true
	remove livepatch-sleeper-fix
	rmmod livepatch_sleeper
	remove livepatch-rust-state1
	[ "$(levels)" = "3 5" ]
}
test_states_turned_round() { keeping_levels on_both_cores states_turned_round; }

# What replaces all but lacks the state is refused; a patch that does not replace is not.
other_patches() {
	enable livepatch-rust-state1
	expect_error "$EINVAL" load klp_test_rust
	enable livepatch-cmdline
	remove livepatch-cmdline
	remove livepatch-rust-state1
}
test_states_and_other_patches() { keeping_levels same_on_both_cores other_patches; }

# What the patches klp_test_rust_state1 to 4 have done since the mark with their state and its
# shadow variable, and what they show.
steps() {
	since_mark | sed -En 's/^klp_test_rust_state[1-4]: (.* (applied|reverted|dropped))$/\1/p' | paste -sd ,
}
expect_steps() { [ "$(steps)" = "$1" ] || fail "expected «$1», got «$(steps)»"; }
expect_shown() { [ "$(cat /proc/cmdline)" = "$1" ] || fail "expected «$1», got «$(cat /proc/cmdline)»"; }

# Version 3 of a state is made from version 1 by way of 2, and the state's shadow variable stays
# until no patch has the state.
versions_skipped() {
	local version
	mark
	enable klp_test_rust_state1
	expect_shown 'version 1, path 1, mark 1'
	expect_steps 'version 1 applied'
	mark
	enable klp_test_rust_state3
	replaced klp_test_rust_state1
	expect_shown 'version 3, path 123, mark 1'
	expect_steps 'version 2 dropped,version 3 applied,version 1 dropped'
	mark
	for version in 1 2; do
		expect_error "$EINVAL" load klp_test_rust_state$version
		# The core says so, before the patch is asked.
		said "^livepatch: Livepatch patch (klp_test_rust_state$version) is not compatible with the"
	done
	# A patch without the state cannot end it by replacing this one.
	expect_error "$EINVAL" load klp_test_rust_all
	expect_shown 'version 3, path 123, mark 1'
	expect_steps ''
	remove klp_test_rust_state3
	expect_steps 'version 3 reverted,version 3 dropped,mark 1 dropped'
	# Nothing is left of what was there, and single steps work too.
	mark
	enable klp_test_rust_state2
	expect_shown 'version 2, path 2, mark 2'
	enable klp_test_rust_state3
	replaced klp_test_rust_state2
	expect_shown 'version 3, path 23, mark 2'
	remove klp_test_rust_state3
	expect_steps "$(paste -sd , <<-'EOT'
		version 2 applied
		version 3 applied
		version 2 dropped
		version 3 reverted
		version 3 dropped
		mark 2 dropped
	EOT
	)"
}
test_versions_of_a_state_skipped() { on_both_cores versions_skipped; }

# Version 4 knows how to go on from version 1 only.
no_way() {
	local version
	mark
	enable klp_test_rust_state1
	enable klp_test_rust_state4
	replaced klp_test_rust_state1
	expect_shown 'version 4, path 14, mark 1'
	remove klp_test_rust_state4
	expect_steps "$(paste -sd , <<-'EOT'
		version 1 applied
		version 4 applied
		version 1 dropped
		version 4 reverted
		version 4 dropped
		mark 1 dropped
	EOT
	)"
	for version in 2 3; do
		enable klp_test_rust_state$version
		mark
		expect_error "$EINVAL" load klp_test_rust_state4
		said "^klp: state 0x4b4c56: no way from version $version\$"
		not is_loaded klp_test_rust_state4
		expect_shown "version $version, path $version, mark $version"
		expect_steps ''
		remove klp_test_rust_state$version
		expect_steps "version $version reverted,version $version dropped,mark $version dropped"
	done
}
test_no_way_between_versions_of_a_state() { on_both_cores no_way; }

# What was made on the way to a version that cannot be made is dropped, and nothing else.
version_refused() {
	enable klp_test_rust_state1
	mark
	expect_error "$EBUSY" load klp_test_rust_state3 refuse=2
	expect_steps ''
	expect_error "$EBUSY" load klp_test_rust_state3 refuse=3
	expect_steps 'version 2 dropped'
	expect_shown 'version 1, path 1, mark 1'
	remove klp_test_rust_state1
	expect_steps 'version 2 dropped,version 1 reverted,version 1 dropped,mark 1 dropped'
}
test_version_of_a_state_refused() { on_both_cores version_refused; }

# turn_round PATCH: turns the transition to a patch round while a task sleeps in the fix, which the
# patch replaces as well.
turn_round() {
	load livepatch-sleeper-fix nap=1000
	wait_until 30 settled settled livepatch_sleeper_fix
	start_napper
	mark
	load "$1"
	in_transition "$1"
	echo 0 >"$lp/$1/enabled"
	wait_until 30 gone gone "$1"
	rmmod "$1"
	kill "$napper"
	wait "$napper" || true
	remove livepatch-sleeper-fix
}
versions_turned_round() {
	load livepatch-sleeper
	# No other patch has the state: it ends, and its variable with it.
	turn_round klp_test_rust_state1
	expect_steps 'version 1 dropped,mark 1 dropped'
	enable klp_test_rust_state1
	turn_round klp_test_rust_state3
	expect_steps 'version 2 dropped,version 3 dropped'
	expect_shown 'version 1, path 1, mark 1'
	remove klp_test_rust_state1
	expect_steps "$(paste -sd , <<-'EOT'
		version 2 dropped
		version 3 dropped
		version 1 reverted
		version 1 dropped
		mark 1 dropped
	EOT
	)"
	rmmod livepatch_sleeper
}
test_versions_of_a_state_turned_round() { on_both_cores versions_turned_round; }

unexported() {
	local processes
	enable livepatch-rust-unexported
	processes=$(sed 's/ processes, started with: .*//' /proc/cmdline)
	sed 's/^[0-9]* //' /proc/cmdline
	remove livepatch-rust-unexported
	[ "$processes" -gt 2 ] && [ "$processes" -lt 100000 ]
}
test_unexported_function() { same_on_both_cores unexported; }

syscall() {
	setarch -R true
	enable livepatch-rust-syscall
	expect_error 'Operation not permitted' setarch -R true
	# The rest of the call works.
	setarch --addr-compat-layout uname -s
	remove livepatch-rust-syscall
	setarch -R true
}
test_syscall() { same_on_both_cores syscall; }

# Several at once, and both cores have to do with all of them.
together() {
	local all=(cmdline sleeper-fix callbacks unexported syscall) name
	for name in "${all[@]}"; do
		enable livepatch-rust-"$name"
	done
	load livepatch-sleeper
	# The newest patch of a function is the one in effect.
	says_in_cmdline ' processes, started with: '
	grep -qx 'awake, with callbacks' /proc/sleeper
	expect_error 'Operation not permitted' setarch -R true
	# A cumulative one replaces all others.
	enable livepatch-rust-state3
	for name in "${all[@]}"; do
		wait_until 30 "$name replaced" gone "livepatch_rust_${name//-/_}"
		rmmod "livepatch_rust_${name//-/_}"
	done
	setarch -R true
	remove livepatch-rust-state3
	rmmod livepatch_sleeper
}
test_several_at_once() { keeping_levels on_both_cores together; }

of_shadow_variables() {
	mark
	enable klp_test_rust
	said '^klp_test_rust: shadow variables are all right$'
	says_in_cmdline '^klp_test_rust$'
	not said 'number [34] dropped'
	# A state ends with the patch, and its variables with it; others with the module.
	echo 0 >$lp/klp_test_rust/enabled
	wait_until 30 gone gone klp_test_rust
	[ "$(since_mark | grep -c '^klp_test_rust: .* state dropped$')" = 2 ]
	[ "$(since_mark | grep -c '^klp_test_rust: number 4 dropped$')" = 1 ]
	not said '^klp_test_rust: disabled by force$'
	not said 'number 3 dropped'
	rmmod klp_test_rust
	[ "$(since_mark | grep -c '^klp_test_rust: number 3 dropped$')" = 1 ]
}
test_shadow_variables() { on_both_cores of_shadow_variables; }

# What was made before the error is dropped, and nothing is called for it later.
errors() {
	mark
	expect_error "$EBUSY" load klp_test_rust fault=1
	[ "$(since_mark | sed -n 's/^klp_test_rust: //p' | grep state | paste -sd ,)" = \
		'first state created,first state dropped' ]
	mark
	expect_error "$ENODEV" load klp_test_rust fault=2
	[ "$(since_mark | sed -n 's/^klp_test_rust: //p' | grep state | sort | paste -sd ,)" = \
		'first state created,first state dropped,second state created,second state dropped' ]
	# The variables of the module go with it, as those of the state do.
	mark
	expect_error "$ENODEV" load klp_test_rust fault=6
	said '^klp_test_rust: shadow variables are all right$'
	[ "$(since_mark | grep -c '^klp_test_rust: number [34] dropped$')" = 2 ]
	not is_loaded klp_test_rust
}
test_errors() { on_both_cores errors; }

# Bytes of machine code in a module.
code_size() {
	size -A "$(module_file "$1")" | awk '/^\.(init\.|exit\.)?text/ { sum += $2 } END { print sum }'
}

test_size_of_code() {
	local c rust
	c=$(code_size livepatch-cmdline)
	rust=$(code_size livepatch-rust-cmdline)
	[ "$c" -gt 0 ] && [ "$rust" -gt 0 ]
	say "$rust bytes of code, $c in C"
	[ $((rust * 2)) -le $((c * 3)) ] || fail "$rust bytes of code, but $c in C"
}

# Of the same functions as klp_test_rust_all, in C.
enable_in_c() { load klp_diff_p00_0 id=-1 replace=1 "objects=vmlinux:cmdline_proc_show;livepatch_sleeper:sleeper_wait"; }
c_in_effect() {
	says_in_cmdline '^patched by klp_diff_p00_0$'
	expect_error 'Operation not permitted' cat /proc/sleeper
}
rust_in_effect() {
	says_in_cmdline '^klp_test_rust_all$'
	grep -qx 'awake, instead of all' /proc/sleeper
}

# A patch in C and one in Rust replace each other, while the module that both patch is there, comes
# later, and is gone.
replace_each_other() {
	enable_in_c
	wait_until 30 "in C" settled klp_diff_p00_0
	load livepatch-sleeper
	c_in_effect
	enable klp_test_rust_all
	replaced klp_diff_p00_0
	rust_in_effect
	rmmod livepatch_sleeper
	enable_in_c
	replaced klp_test_rust_all
	load livepatch-sleeper
	c_in_effect
	rmmod livepatch_sleeper
	enable klp_test_rust_all
	replaced klp_diff_p00_0
	load livepatch-sleeper
	rust_in_effect
	remove klp_test_rust_all
	rmmod livepatch_sleeper
}
test_patch_in_c_and_in_rust_replace_each_other() { on_both_cores replace_each_other; }

# A task that sleeps in the replacement of a patch that is disabled by force may go on with its
# variables. The modules of such patches stay, so these are the last tests.

# disable_by_force PATCH: while a task sleeps in it; its process ID is in $reader.
disable_by_force() {
	cat /proc/cmdline &
	reader=$!
	wait_until 10 "the reader sleeps" grep -q "$1" /proc/$reader/stack
	mark
	echo 0 >"$lp/$1/enabled"
	in_transition "$1"
	echo 1 >"$lp/$1/force"
	wait_until 30 gone gone "$1"
}
wake_reader() {
	kill "$reader"
	wait "$reader" || true
}

test_forced() {
	load livepatch
	enable klp_test_rust fault=5
	disable_by_force klp_test_rust
	[ "$(since_mark | grep -c '^klp_test_rust: .* state dropped$')" = 2 ]
	said '^klp_test_rust: disabled by force$'
	not said 'number [34] dropped'
	wake_reader
	expect_error 'in use' command rmmod klp_test_rust
	rmmod livepatch
	stays=klp_test_rust
}

# Nor does a later patch with the state free them, on either core.
test_state_forced() {
	enable klp_test_rust_state1 sleep=1
	disable_by_force klp_test_rust_state1
	expect_steps 'version 1 reverted,version 1 dropped'
	mark
	enable klp_test_rust_state2
	expect_shown 'version 2, path 2, mark 1'
	remove klp_test_rust_state2
	load livepatch
	enable klp_test_rust_state3
	expect_shown 'version 3, path 3, mark 1'
	remove klp_test_rust_state3
	rmmod livepatch
	expect_steps "$(paste -sd , <<-'EOT'
		version 2 applied
		version 2 reverted
		version 2 dropped
		version 3 applied
		version 3 reverted
		version 3 dropped
	EOT
	)"
	wake_reader
	stays=$'klp_test_rust\nklp_test_rust_state1'
}

run_tests
