#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# A patch in Rust that panics: the task ends, the machine does not. In a machine of its own.
. "$(dirname "$0")/lib.sh"

# What scripts/vm asks for is a panic of the kernel.
sysctl -qw kernel.panic_on_oops=0

panicked() { since_mark | grep -q "in a $1\$"; }

# The patch stays, and can be disabled like any other.
replacement() {
	load klp_test_rust fault=4
	wait_until 30 settled settled klp_test_rust
	mark
	for _ in 1 2; do
		not cat /proc/cmdline
	done
	wait_until 10 "the panic reported" panicked replacement
	remove klp_test_rust
	cat /proc/cmdline
}
test_replacement() { on_both_cores replacement; }

# The core's lock stays locked, which it takes for each module that comes, too.
test_callback() {
	mark
	not load klp_test_rust fault=3
	wait_until 10 "the panic reported" panicked callback
	is_loaded klp_test_rust
	insmod "$(module_file livepatch-cmdline)" &
	wait_until 20 "another module waits" grep -q klp_module_coming /proc/$!/stack
	stays=$'klp_test_rust\nlivepatch_cmdline'
}

run_tests
