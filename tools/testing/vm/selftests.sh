#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The kernel's own livepatch selftests, as they are, on the Rust core. One line for each of their cases.
. "$(dirname "$0")/lib.sh"

mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
cd "${KERNEL_SELFTESTS:?}" || exit 1
load livepatch || exit 1

failed=0
for script in test-*.sh; do
	echo "vm-test: $script" >/dev/kmsg
	output=$(mktemp)
	LC_ALL=C ./"$script" >"$output" 2>&1
	status=$?
	sed -n "s/^TEST: \(.*\) \.\.\. ok\$/ok $script: \1/p; s/^TEST: \(.*\) \.\.\. not ok\$/not ok $script: \1/p" "$output"
	if [ $status != 0 ]; then
		failed=1
		echo "not ok $script: exit status $status"
		sed 's/^/# /' "$output"
	fi
	rm "$output"
done
rmmod livepatch || failed=1
exit $failed
