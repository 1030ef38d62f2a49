#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Signatures on a kernel that knows no key of ours: not demanded at first, then by lockdown, then by
# module.sig_enforce, which both stay until the end.
. "$(dirname "$0")/guest.sh"

test_not_demanded() {
	takes_over_and_patches unsigned
	takes_over_and_patches stranger
	expect_error "not for its signature" "$sign" --explain "$files/unsigned/livepatch.ko"
}

test_key_of_dkms_is_the_default() {
	cp "$files/unsigned/livepatch.ko" /tmp/livepatch.ko
	rm -rf /var/lib/dkms
	expect_error "no key is named" "$sign" --kdir "$KDIR" /tmp/livepatch.ko
	mkdir /var/lib/dkms
	cp "$files/person.key" /var/lib/dkms/mok.key
	cp "$files/person.der" /var/lib/dkms/mok.pub
	"$sign" --kdir "$KDIR" /tmp/livepatch.ko 2>&1 | grep 'does not know the key, but loads unsigned'
	cmp /tmp/livepatch.ko "$files/person/livepatch.ko"
}

test_demanded_by_lockdown() {
	echo integrity >/sys/kernel/security/lockdown
	refused unsigned/livepatch.ko "$EPERM" "make sign"
	refused stripped.ko "$EPERM" "make sign"
	refused person/livepatch.ko "$EPERM" "does not know"
}

test_demanded_by_sig_enforce() {
	echo Y >/sys/module/module/parameters/sig_enforce
	refused unsigned/livepatch.ko "$EKEYREJECTED" "make sign"
	refused person/livepatch.ko "$EKEYREJECTED" "mokutil --import"
}

test_signing_says_that_the_key_is_unknown() {
	"$sign" --kdir "$KDIR" --key "$files/person.key" --cert "$files/person.der" \
		"$files/person/livepatch.ko" 2>&1 | grep "does not know the key and refuses"
}

run_tests
