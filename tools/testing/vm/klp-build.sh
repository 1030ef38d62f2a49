#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Live patches that klp build has made of tools/testing/patches: loaded on both cores, seen to work,
# unloaded. tools/testing/built-patches has made $TEST_FILES.
. "$(dirname "$0")/lib.sh"

# patched NAME COMMAND...: loads the patch, does what sees that it works, and unloads it.
patched() {
	local name=$1 patch=klp_test_${1//-/_}
	shift
	insmod "$TEST_FILES/klp-test-$name.ko"
	wait_until 30 "$name in effect" settled "$patch"
	"$@"
	remove "$patch"
}

# says FILE TEXT
says() { grep -q -- "$2" "$1" || fail "$1: «$(head -n 3 "$1")» has no «$2»"; }
says_not() { ! grep -q -- "$2" "$1" || fail "$1 has «$2»"; }

strings() {
	patched strings says /proc/cmdline ' klp=strings$'
	says_not /proc/cmdline klp=strings
}
test_strings() { on_both_cores strings; }

# The new code uses the spin lock that the old function keeps in a static variable of its own.
uuid() {
	says /proc/sys/kernel/random/uuid '^[0-9A-F-]*$'
	says /proc/sys/kernel/random/boot_id '^[0-9A-F-]*$'
}
test_static_local() { on_both_cores patched static-local uuid; }

reads() {
	says /proc/uptime '^reads 41$'
	says /proc/uptime '^reads 42$'
}
test_new_static_local() { on_both_cores patched new-static-local reads; }

shown() {
	says /proc/version '^version 7$'
	says /proc/loadavg '^loadavg 8$'
	says /proc/version '^version 8$'
}
test_several_files() { on_both_cores patched several-files shown; }

averages() { says /proc/loadavg '^[0-9.]* again$'; }
test_new_function() { on_both_cores patched new-function averages; }

# The key is one of the kernel's that is not exported; it changes while the patch is loaded, and is
# on when it is loaded again.
schedstats() {
	says_not /proc/loadavg schedstats
	sysctl -q kernel.sched_schedstats=1
	says /proc/loadavg '^schedstats$'
	sysctl -q kernel.sched_schedstats=0
	says_not /proc/loadavg schedstats
}
schedstats_on() {
	sysctl -q kernel.sched_schedstats=1
	patched jump-label says /proc/loadavg '^schedstats$'
	sysctl -q kernel.sched_schedstats=0
}
test_jump_label() {
	on_both_cores patched jump-label schedstats
	on_both_cores schedstats_on
}

# The changed function calls the tracepoint's probes by a static call, which is another function for
# as long as the event is traced.
tracing=/sys/kernel/tracing
mount -t tracefs tracefs $tracing 2>/dev/null
# rename: takes a name, and sees the one that the patch makes of it.
rename() {
	local comm=/proc/$BASHPID/comm
	printf klp-name >"$comm"
	[ "$(cat "$comm")" = Klp-name ] || fail "the name is $(cat "$comm")"
}
# traced COUNT: how often the event was seen since the last time.
traced() {
	local seen line="task_rename: pid=$BASHPID .* newcomm=klp-name "
	seen=$(grep -c "$line" $tracing/trace) || true
	[ "$seen" = "$1" ] || fail "the event was seen $seen times, not $1: $(tail -n 3 $tracing/trace)"
	: >$tracing/trace
}
trace_renames() { echo "$1" >$tracing/events/task/task_rename/enable; }
renames() {
	traced 0
	rename
	traced 0
	trace_renames 1
	rename
	rename
	traced 2
	trace_renames 0
	rename
	traced 0
}
renames_traced() {
	rename
	traced 1
	trace_renames 0
	rename
	traced 0
}
static_call() {
	: >$tracing/trace
	patched static-call renames
	trace_renames 1
	patched static-call renames_traced
}
test_static_call() {
	[ -e $tracing/events/task/task_rename ] || skip "the kernel has no event task_rename"
	on_both_cores static_call
}

# The list of devices comes from a function of another file, which nothing calls any more.
devices() {
	says /proc/devices '^klp not shown$'
	says_not /proc/devices '^ *1 mem$'
}
test_removed_function() {
	on_both_cores patched removed-function devices
	says /proc/devices '^ *1 mem$'
	says_not /proc/devices klp
	says "$TEST_FILES/removed-function.log" '^fs/char_dev.o: removed function: chrdev_show$'
	says "$TEST_FILES/removed-function.log" '^fs/proc/devices.o: changed function: devinfo_show$'
	[ "$(grep -c ' function: ' "$TEST_FILES/removed-function.log")" = 2 ]
	says_not "$TEST_FILES/removed-function.log" '^note: '
}

test_bug_table() { on_both_cores patched bug-table says /proc/uptime '^checked [0-9]'; }

# sysinfo ADDRESS: the number of processes that the system call tells, or its errno.
sysinfo() {
	python3 - "$1" <<-'END'
		import ctypes, sys
		libc = ctypes.CDLL(None, use_errno=True)
		buffer = ctypes.create_string_buffer(112)
		address = int(sys.argv[1], 0) or ctypes.addressof(buffer)
		if libc.syscall(99, ctypes.c_void_p(address)):
		    print(f"errno {ctypes.get_errno()}")
		else:
		    print(int.from_bytes(buffer[80:82], "little"))
	END
}
expect_sysinfo() { [ "$(sysinfo "$1")" = "$2" ] || fail "sysinfo: $(sysinfo "$1"), not $2"; }

test_syscall() { on_both_cores patched syscall expect_sysinfo 0 4242; }

faults() {
	expect_sysinfo 0 4343
	expect_sysinfo 0x1000 'errno 25'
}
test_exception_table() {
	expect_sysinfo 0x1000 'errno 14'
	on_both_cores patched exception-table faults
}

packets() { [ "$(cat /sys/class/net/dummy0/statistics/tx_packets)" = "$1" ]; }
dummy_comes_and_goes() {
	insmod "$TEST_FILES/dummy.ko"
	wait_until 10 "patched statistics" packets 1000
	rmmod dummy
	insmod "$TEST_FILES/dummy.ko"
	packets 1000
}
with_dummy() {
	patched module dummy_comes_and_goes
	packets 0
	patched module packets 1000
	rmmod dummy
}
test_module() {
	[ -e "$TEST_FILES/dummy.ko" ] || skip "the kernel lacks CONFIG_DUMMY"
	on_both_cores with_dummy
}

# Of this process, which has read the file before, and of another one.
counts() {
	local line
	read -r line </proc/loadavg
	[[ $line = "1: "* ]] || fail "$line"
	read -r line </proc/loadavg
	[[ $line = "2: "* ]] || fail "$line"
	says /proc/loadavg '^1: '
}
shadow_twice() {
	patched shadow counts
	patched shadow counts
}
test_shadow() { on_both_cores shadow_twice; }

ready() { says /proc/version '^ready 1$'; }
callbacks() {
	mark
	patched callbacks ready
	[ "$(since_mark | grep -o 'klp-build: .*')" = $'klp-build: pre_patch\nklp-build: post_unpatch' ]
}
test_callbacks() { on_both_cores callbacks; }

same_file() { [ "$(readlink "/proc/$BASHPID/fd/77")" = "$(readlink "/proc/$BASHPID/fd/0")" ]; }
header() {
	exec 77</etc/passwd
	not same_file
	patched header same_file
	exec 77<&-
}
test_header() { on_both_cores header; }

# The kernel has many functions of this name.
interrupts() {
	[ "$(cat /sys/kernel/irq/*/name | sort -u | grep -vc '^klp ')" = 0 ]
	cat /sys/kernel/irq/*/name | grep -q '^klp '
	not grep -q '^klp ' /sys/class/rtc/rtc0/name
}
test_namesake() { on_both_cores patched namesake interrupts; }

# --no-replace: with two patches in one module, and others in force.
together() {
	says /proc/cmdline ' klp=strings$'
	expect_sysinfo 0 4242
	reads
}
beside_another() {
	insmod "$TEST_FILES/klp-test-new-static-local.ko"
	wait_until 30 "in effect" settled klp_test_new_static_local
	patched together together
	remove klp_test_new_static_local
}
test_together() { on_both_cores beside_another; }

# What is loaded later takes the place of what is there.
replaced() {
	insmod "$TEST_FILES/klp-test-strings.ko"
	wait_until 30 "in effect" settled klp_test_strings
	insmod "$TEST_FILES/klp-test-bug-table.ko"
	wait_until 30 "the first gone" gone klp_test_strings
	says_not /proc/cmdline klp=strings
	says /proc/uptime '^checked [0-9]'
	remove klp_test_bug_table
	rmmod klp_test_strings
}
test_replace() { on_both_cores replaced; }

# refused NAME LINE: what was said of a patch.
refused() {
	local log=$TEST_FILES/refused-$1.log
	grep -qxF "klp build: $2" "$log" || fail "$1: $(cat "$log")"
	grep -q '^    rule     ' "$log"
	grep -q '^    way out  ' "$log"
	not test -e "$TEST_FILES/klp-test-refused-$1.ko"
}

test_refused() {
	refused assembly 'arch/x86/lib/copy_user_64.S: it is assembly'
	refused data 'fs/pipe.o: pipe_max_size: its initial value changes'
	refused init 'fs/proc/cmdline.o: proc_cmdline_init: it is in an init section'
	refused lib 'lib/uuid.c: it is in lib/'
	refused vdso 'arch/x86/entry/vdso/common/vclock_gettime.c: it is in a vDSO'
	refused vdso-header \
		'arch/x86/include/asm/pvclock.h: it goes into a vDSO: arch/x86/entry/vdso/common/vclock_gettime.c includes it'
	refused new-member 'fs/aio.o: struct kioctx: its layout changes (new: klp_events)'
	grep -q '^    users    in fs/aio.o: .*, .* and [0-9]* more' "$TEST_FILES/refused-new-member.log"
	refused pointer 'fs/proc/loadavg.o: loadavg_proc_show: it takes the address of nr_running'
	grep -qxF 'klp build: the patches change no function of this kernel' \
		"$TEST_FILES/refused-no-function.log"
	refused syscall 'kernel/sys.o: __do_sys_sysinfo: it cannot be intercepted'
	grep -q '^klp build: include/linux/sched.h: [0-9]* files include it: ' \
		"$TEST_FILES/refused-header.log"
}

# The kernel's fs/aio.c was once mended by giving a field another meaning.
test_noted() {
	grep -q '^note: fs/aio.c: the patch sets reqs_available in another way\. Instances that exist' \
		"$TEST_FILES/noted-field.log"
	on_both_cores patched noted-field true
	not grep -q '^note: ' "$TEST_FILES/strings.log"
}

# untidy TEXT: a note on the patch that has something of everything.
untidy() { grep -qF -- "$1" "$TEST_FILES/noted-untidy.log" || fail "$(cat "$TEST_FILES/noted-untidy.log")"; }
test_noted_untidy() {
	untidy ': fs/proc/cmdline.c: Hunk #1 applies at line 9 (offset -30 lines); see that it is meant'
	untidy 'note: fs/proc/cmdline.c:10:13: warning: unused variable'
	untidy 'note: fs/proc/version.c: what the patch changes here has no effect'
	not grep -q version_proc_show "$TEST_FILES/noted-untidy.log"
}

test_answers() {
	local log=$TEST_FILES/several-files.log
	grep -qxF 'fs/proc/version.o: changed function: version_proc_show' "$log"
	grep -qxF 'fs/proc/version.o: new function: klp_show' "$log"
	grep -qxF 'Patched objects: vmlinux' "$log"
	grep -qE '^SUCCESS: .*/klp-test-several-files\.ko, [0-9]+ KiB$' "$log"
	python3 - "$TEST_FILES/several-files.json" <<-'END'
		import json, os, sys
		answer = json.load(open(sys.argv[1], encoding="utf-8"))
		assert answer["size"] == os.path.getsize(answer["module"])
		assert answer["patched"] == ["vmlinux"]
		loadavg, version = answer["objects"]
		assert loadavg["object"] == "fs/proc/loadavg.o" and not loadavg["removed"]
		assert version["changed"] == ["version_proc_show"] and version["new"] == ["klp_show"]
	END
}

run_tests
