#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Signatures under secure boot, where the person's key is enrolled as machine owner key.
. "$(dirname "$0")/guest.sh"

test_the_kernel_is_locked_down() {
	grep -F '[integrity]' /sys/kernel/security/lockdown
	dmesg | grep "Kernel is locked down from EFI Secure Boot"
}

test_signed_by_the_person() {
	takes_over_and_patches person
	"$sign" --explain "$files/person/livepatch.ko" | grep "which this kernel knows"
}

test_signed_by_the_owner_of_the_firmware() {
	takes_over_and_patches owner
}

test_unsigned() {
	refused unsigned/livepatch.ko "$EKEYREJECTED" "make sign"
}

test_signed_by_a_stranger() {
	refused stranger/livepatch.ko "$EKEYREJECTED" "mokutil --import"
}

test_changed_after_signing() {
	refused stripped.ko "$EKEYREJECTED" "make sign"
	refused edited.ko "$EKEYREJECTED" "changed after it was signed"
}

test_unsigned_patch_on_a_signed_core() {
	insmod "$files/person/livepatch.ko"
	refused unsigned/livepatch-cmdline.ko "$EKEYREJECTED" "make sign"
	rmmod livepatch
}

test_signing_says_that_the_key_is_known() {
	"$sign" --kdir "$KDIR" --key "$files/person.key" --cert "$files/person.der" \
		"$files/person/livepatch.ko" 2>&1 | grep "$(uname -r), knows the key"
}

test_signing_says_that_a_key_is_unknown() {
	"$sign" --kdir "$KDIR" --key "$files/stranger.key" --cert "$files/stranger.der" \
		"$files/stranger/livepatch.ko" 2>&1 | grep "does not know the key and refuses"
}

run_tests
