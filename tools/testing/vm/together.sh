#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# A function that is live patched is traced, probed, or has a BPF trampoline at the same time; on both cores, and where
# calls jump to the replacement.
. "$(dirname "$0")/lib.sh"

tracing=/sys/kernel/tracing
function=version_proc_show
mount -t tracefs tracefs $tracing 2>/dev/null
mount -t bpf bpf /sys/fs/bpf 2>/dev/null
sysctl -qw kernel.bpf_stats_enabled=1

# Until the calls of the function jump, unless $expect_jump says that there is a reason why they do not.
patch_it() {
	load klp_test_a vmlinux=1
	wait_until 20 settled settled klp_test_a
	[ -z "${expect_jump:-}" ] || wait_until 10 "a jump" jumps $function
}
jumps() { grep -A 1 "^$1 " $tracing/enabled_functions | grep -q 'direct(jmp)-->'; }

# everywhere COMMAND...: on both cores, then on the Rust core with jumps.
everywhere() {
	on_both_cores "$@"
	can_jump || return 0
	say "on the Rust core, with jumps"
	load livepatch direct=1
	expect_jump=1
	"$@"
	expect_jump=
	rmmod livepatch
}
is_patched() { grep -q '^patched by 1' /proc/version; }
is_original() { grep -q '^Linux version' /proc/version; }

with_bpf() {
	[ -e /sys/kernel/btf/vmlinux ] || skip "the kernel lacks CONFIG_DEBUG_INFO_BTF"
	"$@"
}

runs_of_program() {
	local answer
	echo >&"$bpf_in"
	read -r answer <&"$bpf_out"
	[ "$answer" = "$1" ]
}

trampoline_first() {
	local kind expect_jump=
	for kind in fentry fexit; do
		attach $kind
		is_original
		runs_of_program 1
		patch_it
		is_patched
		runs_of_program 2
		remove klp_test_a
		is_original
		runs_of_program 3
		detach
		is_original
	done
}
test_bpf_before_the_patch() { with_bpf everywhere trampoline_first; }

patch_first() {
	local kind
	for kind in fentry fexit; do
		patch_it
		attach $kind
		is_patched
		runs_of_program 1
		detach
		is_patched
		attach $kind
		remove klp_test_a
		is_original
		runs_of_program 1
		detach
	done
}
# With jumps, it is refused: vm-direct.
test_bpf_after_the_patch() { with_bpf on_both_cores patch_first; }

# Another function without a trampoline, patched and not any more in either order.
bpf_and_another() {
	local expect_jump=
	attach fentry
	patch_it
	load livepatch-cmdline
	wait_until 20 settled settled livepatch_cmdline
	is_patched
	grep -q 'live-patched$' /proc/cmdline
	remove klp_test_a
	is_original
	grep -q 'live-patched$' /proc/cmdline
	patch_it
	remove livepatch-cmdline
	is_patched
	not grep -q 'live-patched$' /proc/cmdline
	# Two patches of the function with the trampoline.
	load klp_test_b vmlinux=1
	wait_until 20 settled settled klp_test_b
	grep -q '^patched by 2' /proc/version
	remove klp_test_b
	is_patched
	detach
	is_patched
	remove klp_test_a
	is_original
}
test_bpf_and_another_function() { with_bpf everywhere bpf_and_another; }

hits() { awk -v event="$1" '$1 == event { print $2 }' $tracing/kprobe_profile; }

probed() {
	local order event
	for order in before after; do
		[ $order = before ] || patch_it
		put_probes
		[ $order = after ] || patch_it
		: >$tracing/trace
		is_patched
		remove klp_test_a
		is_original
		for event in at_entry at_return entered left; do
			[ "$(grep -c "$event:" $tracing/trace)" = 2 ]
		done
		take_probes
	done
}
test_probes() { everywhere probed; }

traced() {
	local tracer order
	for tracer in function function_graph; do
		for order in before after; do
			[ $order = before ] || patch_it
			echo $function >$tracing/set_ftrace_filter
			echo $tracer >$tracing/current_tracer
			[ $order = after ] || patch_it
			: >$tracing/trace
			is_patched
			[ "$(grep -c "$function" $tracing/trace)" -ge 1 ]
			remove klp_test_a
			: >$tracing/trace
			is_original
			[ "$(grep -c "$function" $tracing/trace)" -ge 1 ]
			echo nop >$tracing/current_tracer
			: >$tracing/set_ftrace_filter
		done
	done
}
test_tracers() { everywhere traced; }

# A function of a module that comes and goes, too.
call_value() { [ "$(cat /sys/module/klp_test_target/parameters/value)" = "$1" ]; }
seen() { [ "$(grep -c 'at_entry:' $tracing/trace)" = "$1" ] && grep -q ' klp_test_value <-get_value' $tracing/trace; }

in_a_module() {
	load klp_test_target
	echo klp_test_value >$tracing/set_ftrace_filter
	echo function >$tracing/current_tracer
	echo "p:at_entry klp_test_target:klp_test_value" >$tracing/kprobe_events
	echo 1 >$tracing/events/kprobes/at_entry/enable
	call_value 111
	load klp_test_a
	wait_until 20 settled settled klp_test_a
	[ -z "${expect_jump:-}" ] || wait_until 10 "a jump" jumps klp_test_value
	: >$tracing/trace
	call_value 1110
	seen 1
	rmmod klp_test_target
	load klp_test_target
	[ -z "${expect_jump:-}" ] || wait_until 10 "a jump" jumps klp_test_value
	: >$tracing/trace
	call_value 1110
	# The filter has forgotten the function, the probe has not.
	[ "$(grep -c 'at_entry:' $tracing/trace)" = 1 ]
	echo klp_test_value >$tracing/set_ftrace_filter
	call_value 1110
	seen 2
	remove klp_test_a
	: >$tracing/trace
	call_value 111
	seen 1
	echo 0 >$tracing/events/kprobes/at_entry/enable
	: >$tracing/kprobe_events
	echo nop >$tracing/current_tracer
	: >$tracing/set_ftrace_filter
	rmmod klp_test_target
}
test_function_of_a_module() { everywhere in_a_module; }

# All of them at once, the patch in the middle of it.
all_at_once() {
	local expect_jump=
	echo $function >$tracing/set_ftrace_filter
	echo function >$tracing/current_tracer
	attach fentry
	echo "p:at_entry $function" >$tracing/kprobe_events
	echo 1 >$tracing/events/kprobes/at_entry/enable
	patch_it
	: >$tracing/trace
	is_patched
	runs_of_program 1
	[ "$(grep -c 'at_entry:' $tracing/trace)" = 1 ]
	echo nop >$tracing/current_tracer
	: >$tracing/set_ftrace_filter
	is_patched
	remove klp_test_a
	is_original
	runs_of_program 3
	echo 0 >$tracing/events/kprobes/at_entry/enable
	: >$tracing/kprobe_events
	detach
	is_original
}
test_all_at_once() { with_bpf everywhere all_at_once; }

# A program may change what a function returns: if it does, it wins over the patch, whoever came first. Few functions
# allow that; this one decides about a system call, which else returns the size of the log. What the patch returns is an
# error to that.
log_size() { perl -e 'print syscall(103, 10, 0, 0)'; }
returns() { [ "$(log_size)" = "$1" ]; }
patch_syslog() {
	load klp_test_patch object=vmlinux name=security_syslog
	wait_until 20 settled settled klp_test_patch
}
modified() {
	local function=security_syslog size order
	size=$(log_size)
	[ "$size" -gt 1000 ]
	for order in before after; do
		[ $order = before ] || patch_syslog
		attach fmod_ret 0
		[ $order = after ] || patch_syslog
		returns 2
		remove klp_test_patch
		returns "$size"
		detach
		[ $order = before ] || patch_syslog
		attach fmod_ret -1
		[ $order = after ] || patch_syslog
		returns -1
		remove klp_test_patch
		returns -1
		detach
		returns "$size"
	done
}
test_bpf_that_changes_the_result() {
	grep -q ' security_syslog$' /proc/kallsyms || skip "the kernel lacks CONFIG_SECURITY"
	with_bpf on_both_cores modified
}

# The owner of a direct call is told when the patch that it made room for has gone: command 2 is
# FTRACE_OPS_CMD_DISABLE_SHARE_IPMODIFY_PEER.
told() {
	# shellcheck disable=SC2016 # an argument of the probe
	echo 'p:told bpf_tramp_ftrace_ops_func cmd=$arg3:u32' >$tracing/kprobe_events
	patch_it
	attach fentry
	is_patched
	echo 1 >$tracing/events/kprobes/told/enable
	: >$tracing/trace
	remove klp_test_a
	grep -q 'told: .* cmd=2$' $tracing/trace
	is_original
	echo 0 >$tracing/events/kprobes/told/enable
	: >$tracing/kprobe_events
	detach
}
test_bpf_is_told_that_a_patch_has_gone() { with_bpf on_both_cores told; }

run_tests
