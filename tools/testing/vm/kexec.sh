#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: tools/testing/vm/kexec.sh next|crash
#
# In the middle of a transition, another kernel starts by kexec, or the machine dies and the crash
# kernel starts. Both have a root file system of nothing, so they come as far as a panic.
# tools/testing/run looks for them in the log; $KERNEL_IMAGE is what they boot.
. "$(dirname "$0")/lib.sh"
set -e

# As perl knows no names: kexec_file_load(), with KEXEC_FILE_NO_INITRAMFS and, for the crash kernel,
# KEXEC_FILE_ON_CRASH; reboot(), with LINUX_REBOOT_CMD_KEXEC.
case $1 in
next) flags=4 ;;
crash) flags=6 ;;
esac
start_other_kernel() {
	# shellcheck disable=SC2016 # expanded by perl
	perl -e 'open my $kernel, "<", $ARGV[0] or die "$ARGV[0]: $!\n"; my $line = "$ARGV[1]\0";
		syscall(320, fileno $kernel, -1, length $line, $line, $ARGV[2] + 0) == 0
			or die "kexec_file_load: $!\n"' \
		"$KERNEL_IMAGE" "console=ttyS0 earlyprintk=serial,ttyS0,115200 panic=-1 nr_cpus=1 another_kernel" "$flags"
	case $1 in
	next) perl -e 'syscall(169, 0xfee1dead, 672274793, 0x45584543, 0)' ;;
	crash) echo c >/proc/sysrq-trigger ;;
	esac
}

load livepatch
start_sleeper
load livepatch-sleeper-fix
in_transition livepatch_sleeper_fix
start_other_kernel "$1"
