#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The boot guard of klp, when the machine dies of a patch at boot. "klp-boot.sh die" does that; the
# tests are for the next boot. Both have the same /var/lib/klp.
. "$(dirname "$0")/lib.sh"

release=$(uname -r)
klp=$TEST_FILES/klp
mkdir -p /var/lib/klp
mount --bind "$TEST_FILES/lib" /var/lib/klp || exit 1

if [ "${1:-}" = die ]; then
	"$klp" install "$(module_file klp_test_panic)"
	"$klp" install "$(module_file livepatch-cmdline)"
	exec "$klp" load --all --boot
fi

test_the_patch_is_skipped_others_are_not() {
	local marker=/var/lib/klp/.boot/$release/klp_test_panic
	# As if the boot before the one that died had died too.
	grep -q ' 0 ' "$marker"
	sed -i 's/ 0 / 1 /' "$marker"
	mark
	not "$klp" load --all --boot >/tmp/output 2>&1
	grep -q '^klp: patch klp_test_panic is not loaded: the machine died' /tmp/output
	since_mark | grep -q '^klp: patch klp_test_panic is not loaded'
	not is_loaded klp_test_panic
	settled livepatch_cmdline
	"$klp" list | grep -q "^klp_test_panic ($release) \[skipped at boot"
	"$klp" list | grep -qx "livepatch_cmdline ($release)"
	"$klp" unload --all
}

test_it_is_skipped_until_it_is_installed_anew() {
	"$klp" boot-ok
	not "$klp" load --all --boot >/tmp/output 2>&1
	grep -q 'klp_test_panic is not loaded' /tmp/output
	"$klp" unload --all
	"$klp" uninstall klp_test_panic
	"$klp" install "$(module_file klp_test_panic)"
	"$klp" list | grep -qx "klp_test_panic ($release)"
}

run_tests
