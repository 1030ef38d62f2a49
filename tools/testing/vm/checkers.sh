#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# That the checkers of a kernel for debugging find what they are there for: a module makes mistakes,
# each of which must be reported. Before that, a run on such a kernel that finds nothing says nothing.
# A checker that the kernel does not have is skipped.
#
# In a machine of its own, whose log is full of reports.
. "$(dirname "$0")/lib.sh"

mistake=/sys/module/klp_test_wrong/parameters/mistake

has_option() { zgrep -qsx "CONFIG_$1=y" /proc/config.gz; }
need() { has_option "$1" || skip "the kernel has no $1"; }

reported() { since_mark | grep -qE "$1"; }

# finds OPTION MISTAKE REPORT: REPORT, an extended regular expression, follows from the mistake.
finds() {
	need "$1"
	load klp_test_wrong
	mark
	put "$2" $mistake
	wait_until 10 "a report of $2" reported "$3"
	rmmod klp_test_wrong
}

# Lockdep stops looking after its first report, KASAN's switch it off, and RCU's checks need it: the
# last but KASAN's is the one that the kernel is there for.
test_unprotected() { finds PROVE_RCU unprotected '^WARNING: suspicious RCU usage'; }
test_sleep_in_atomic() {
	finds DEBUG_ATOMIC_SLEEP sleep-in-atomic '^BUG: sleeping function called from invalid context'
}
test_which_cpu() { finds DEBUG_PREEMPT which-cpu '^BUG: using smp_processor_id\(\) in preemptible'; }
test_free_active() { finds DEBUG_OBJECTS_FREE free-active '^ODEBUG: free active'; }
test_list_corruption() { finds DEBUG_LIST list-corruption '^list_del corruption'; }
test_lock_inversion() {
	! has_option PREEMPT_RT || skip "lockdep's only report is for lock_nesting"
	finds PROVE_LOCKING lock-inversion '^WARNING: possible circular locking dependency detected'
}

test_lock_nesting() {
	need PREEMPT_RT
	finds PROVE_RAW_LOCK_NESTING lock-nesting '^\[ BUG: Invalid wait context \]'
}

test_data_race() { finds KCSAN data-race '^BUG: KCSAN: data-race in increment \[klp_test_wrong\]'; }

test_leak() {
	need DEBUG_KMEMLEAK
	load klp_test_wrong
	echo clear >$kmemleak
	put leak $mistake
	not eval "(no_leaks) >/dev/null"
	rmmod klp_test_wrong
}

test_use_after_free() {
	finds KASAN use-after-free '^BUG: KASAN: slab-use-after-free in '
}
test_out_of_bounds() { finds KASAN out-of-bounds '^BUG: KASAN: (global|vmalloc)-out-of-bounds in '; }

# The core is in Rust, and must be instrumented as well.
test_out_of_bounds_in_rust() {
	need KASAN
	readelf -sW "$top/rust/livepatch/livepatch.o" | grep -qE ' UND __asan_(report_)?load8'
	mark
	load klp_test_wrong_rust
	wait_until 10 "a report" reported '^BUG: KASAN: slab-out-of-bounds in .*klp_test_wrong_rust'
	rmmod klp_test_wrong_rust
}

test_wrong_shift() { finds UBSAN_SHIFT wrong-shift '^UBSAN: shift-out-of-bounds in '; }
test_write_to_free_page() {
	finds PAGE_POISONING write-to-free-page '^pagealloc: (memory corruption|single bit error)'
}

# The task that makes this mistake does not come back, and holds the module.
test_wrong_address() {
	need DEBUG_VIRTUAL
	sysctl -qw kernel.panic_on_oops=0
	load klp_test_wrong
	mark
	not bash -c "echo wrong-address >$mistake"
	wait_until 10 "a report" reported '^kernel BUG at arch/x86/mm/physaddr\.c'
	# shellcheck disable=SC2034 # what must stay
	stays=klp_test_wrong
}

run_tests
