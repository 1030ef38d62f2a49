# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What the tests of signed modules share in the virtual machine. $TEST_FILES has the modules in
# directories named after whose signature they have, and the keys; $KDIR is the build directory.
. "$(dirname "${BASH_SOURCE[0]}")/../vm/lib.sh"

files=${TEST_FILES:?}
sign=$top/scripts/sign

# What insmod calls errno values.
# shellcheck disable=SC2034 # used by the tests
{
	EKEYREJECTED='Key was rejected by service'
	EPERM='Operation not permitted'
}

# refused FILE ERROR REASON: the kernel refuses the module with the error, and the explanation of
# that has REASON and what to do.
refused() {
	local file=$files/$1 error=$2 reason=$3 output
	expect_error "$error" insmod "$file"
	output=$("$sign" --explain "$file")
	[[ $output == *"$reason"* ]] || fail "explained by «$output» instead of «$reason»"
}

# takes_over_and_patches DIRECTORY: with the modules there.
takes_over_and_patches() {
	insmod "$files/$1/livepatch.ko"
	insmod "$files/$1/livepatch-cmdline.ko"
	grep -q live-patched /proc/cmdline
	wait_until 10 settled settled livepatch_cmdline
	remove livepatch-cmdline
	rmmod livepatch
}
