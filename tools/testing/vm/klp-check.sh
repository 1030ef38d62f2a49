#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Whether klp check and the kernel agree: what it lets pass is loaded and runs, what it does not is
# refused, on both cores. The program, and modules that are wrong, are in $TEST_FILES.
. "$(dirname "$0")/lib.sh"

testing=$top/tools/testing
# Where probes are put, and where.
# shellcheck disable=SC2034 # for lib.sh
tracing=/sys/kernel/tracing function=cmdline_proc_show
mount -t tracefs tracefs $tracing 2>/dev/null

klp() { "$TEST_FILES/klp" "$@"; }

# verdicts FILE...: a line of file and verdict for each. All at once, since reading the kernel's
# symbols takes a while in the virtual machine.
verdicts() {
	local status=0
	klp check --json "$@" >/tmp/checked || status=$?
	[ $status -le 2 ] || fail "klp check: status $status"
	python3 -c 'import json
for patch in json.load(open("/tmp/checked"))["patches"]:
    print(patch["file"], patch["verdict"])'
}

# expect_verdict VERDICT FILE: what verdicts() said of it, in /tmp/verdicts.
expect_verdict() {
	grep -qxF "$2 $1" /tmp/verdicts || {
		python3 -c 'import json, sys
for patch in json.load(open("/tmp/checked"))["patches"]:
    for finding in patch["findings"]:
        if patch["file"] == sys.argv[1]:
            print(finding["level"], finding["rule"], finding["text"])' "$2"
		fail "not found to be $1: $2"
	}
}

# Of vmlinux and of modules; in C, in Rust, of the kernel's own samples.
fitting=(livepatch-cmdline livepatch-sleeper-fix livepatch-rust-cmdline livepatch-rust-unexported
	livepatch-rust-syscall livepatch-rust-sleeper-fix livepatch-sample klp_test_reloc)

# What fits is found to fit, is loaded, and is taken off again.
all_fit() {
	local module files=()
	load livepatch-sleeper
	load klp_test_target
	for module in "${fitting[@]}"; do
		files+=("$(module_file "$module")")
	done
	verdicts "${files[@]}" >/tmp/verdicts
	for module in "${fitting[@]}"; do
		expect_verdict fits "$(module_file "$module")"
		load "$module"
		wait_until 20 "$module settled" settled "${module//-/_}"
		remove "$module"
	done
	rmmod livepatch-sleeper klp_test_target
}

test_what_fits() { on_both_cores all_fit; }

# The object of a patch may come later: then its file tells.
test_target_that_is_not_loaded() {
	local status=0
	klp check --quick --target "$(module_file klp_test_target)" "$(module_file klp_test_reloc)"
	klp check --quick "$(module_file klp_test_reloc)" || status=$?
	[ $status = 2 ]
}

# What does not fit is found not to, and the kernel refuses it.
wrong_modules() {
	local module
	load klp_test_target
	verdicts "$TEST_FILES"/*.ko >/tmp/verdicts
	for module in "$TEST_FILES"/*.ko; do
		case ${module##*/} in
		# Another symbol than the author meant, which is there.
		position-first.ko)
			expect_verdict fits "$module"
			insmod "$module"
			wait_until 20 "settled" settled klp_test_reloc
			remove klp_test_reloc
			;;
		# The core passes over these sections without a word.
		section-for-another-object.ko)
			expect_verdict does-not-fit "$module"
			;;
		*)
			expect_verdict does-not-fit "$module"
			not insmod "$module" 2>/dev/null
			;;
		esac
	done
	rmmod klp_test_target
}

test_wrong_modules() { on_both_cores wrong_modules; }

# Modules that are changed at random: the kernel's functions, with right and wrong positions, symbols
# of relocations, what the module loader looks at. The kernel's image must tell the same, whatever the
# core is; to read it takes a minute.
modules_at_random() {
	local image=(--image "$TEST_FILES/kernel/arch/x86/boot/bzImage"
		--target "$(module_file klp_test_target)")
	if [ -d /sys/module/livepatch ]; then
		image=()
	fi
	load klp_test_target
	"$testing/check-differential" --klp "$TEST_FILES/klp" --module "$(module_file klp_test_probe)" \
		--exports "$TEST_FILES/kernel/Module.symvers" "${image[@]}" --count 40
	rmmod klp_test_target
}

test_modules_at_random() { on_both_cores modules_at_random; }

# What somebody else does to a function that is to be replaced.
held() {
	local module
	module=$(module_file livepatch-cmdline)
	load livepatch-cmdline
	klp check --quick "$module" 2>&1 | grep -q '^error\[busy\]: a module livepatch_cmdline is loaded' ||
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

# Whoever may win over a patch is told of by klp check, and when it is loaded, which it is.
probed() {
	local module said
	module=$(module_file livepatch-cmdline)
	put_probes
	said=$(klp check --quick "$module" 2>&1) || fail "$said"
	grep -q '^warning\[held\]: a kprobe is in cmdline_proc_show$' <<<"$said" || fail "$said"
	said=$(klp load "$module" 2>&1 >/dev/null) || fail "$said"
	grep -q 'warning\[held\]: a kprobe is in cmdline_proc_show$' <<<"$said" || fail "$said"
	settled livepatch_cmdline
	remove livepatch-cmdline
	take_probes
	said=$(klp load "$module" 2>&1 >/dev/null) || fail "$said"
	[ -z "$said" ] || fail "$said"
	remove livepatch-cmdline
}
test_probe() { on_both_cores probed; }

# Only root sees where symbols are.
test_without_privileges() {
	local status=0
	setpriv --reuid 65534 --regid 65534 --clear-groups "$TEST_FILES/klp" check \
		"$(module_file livepatch-cmdline)" >/dev/null || status=$?
	[ $status = 2 ]
}

run_tests
