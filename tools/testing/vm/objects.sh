#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Several patches, several objects, modules that come and go, callbacks, replacement, states. Every test does the same on
# both cores and compares all messages and what it prints; what it demands besides holds on both.
. "$(dirname "$0")/lib.sh"

# enable PATCH ARGUMENTS...: and wait.
enable() {
	load "$@"
	wait_until 20 "$1 settled" settled "$1"
}

# What the target's functions return, how the patches lie, what is patched. The built-in core has no blockers, direct
# and remaining.
look() {
	local patch file
	! is_loaded klp_test_target || say "value $(cat /sys/module/klp_test_target/parameters/value)"
	say "version $(cut -c 1-12 /proc/version)"
	for patch in "$lp"/*/; do
		[ -d "$patch" ] || continue
		for file in $(cd "$patch" && find . -type f ! -name force ! -name blockers ! -name direct ! -name remaining |
			LC_ALL=C sort); do
			say "${patch#"$lp/"}$file $(cat "$patch/$file")"
		done
	done
	(cd $lp && find . -type d | LC_ALL=C sort | sed 's/^/# /')
	awk '/^klp_test_[abc]/ { print "# " $1, $3 }' /proc/modules | sort
}

value_is() { [ "$(cat /sys/module/klp_test_target/parameters/value)" = "$1" ]; }

stacked() {
	load klp_test_target
	enable klp_test_a functions=value
	value_is 1110
	enable klp_test_b functions=value,other vmlinux=1
	value_is 202100
	enable klp_test_c functions=other
	value_is 302100
	look
	# The lowest goes, then the highest.
	remove klp_test_a
	value_is 302100
	look
	remove klp_test_c
	value_is 202100
	enable klp_test_a functions=value
	value_is 201100
	look
	remove klp_test_b
	value_is 1110
	remove klp_test_a
	value_is 111
	rmmod klp_test_target
}
test_stacked_patches() { same_on_both_cores stacked; }

replaced() {
	load klp_test_target
	enable klp_test_a functions=value vmlinux=1
	enable klp_test_b functions=other
	grep -q 'patched by 1' /proc/version
	enable klp_test_c functions=value replace=1
	wait_until 20 "a and b gone" eval 'gone klp_test_a && gone klp_test_b'
	# What only the replaced patches changed is as it was.
	value_is 3110
	not grep -q 'patched by' /proc/version
	look
	rmmod klp_test_a klp_test_b
	# And it can be replaced itself.
	enable klp_test_a functions=other replace=1 vmlinux=1
	wait_until 20 "c gone" gone klp_test_c
	value_is 100101
	look
	rmmod klp_test_c
	remove klp_test_a
	rmmod klp_test_target
}
test_replacement() { same_on_both_cores replaced; }

replaced_without_target() {
	enable klp_test_a functions=value,other
	enable klp_test_b functions=value replace=1
	wait_until 20 "a gone" gone klp_test_a
	look
	load klp_test_target
	value_is 2110
	look
	rmmod klp_test_target
	rmmod klp_test_a
	remove klp_test_b
}
test_replacement_before_the_target_comes() { same_on_both_cores replaced_without_target; }

callbacks() {
	load klp_test_target
	enable klp_test_a vmlinux=1
	remove klp_test_a
	# The second object refuses: what was done for the first is undone, and only that.
	expect_error "$ENODEV" load klp_test_a vmlinux=1 refuse=klp_test_target
	expect_error "$ENODEV" load klp_test_a vmlinux=1 refuse=vmlinux
	value_is 111
	rmmod klp_test_target
}
test_callbacks_of_several_objects() { same_on_both_cores callbacks; }

refused() {
	local why=$1 errno=$2
	shift 2
	say "$why"
	expect_error "$errno" load klp_test_target
	not is_loaded klp_test_target
}

# Three patches want the module; the second one fails.
coming() {
	enable klp_test_a functions=value
	enable klp_test_b functions=other
	enable klp_test_c functions=value,other
	echo klp_test_target >/sys/module/klp_test_b/parameters/refuse
	refused "callback" "$ENODEV"
	look
	echo >/sys/module/klp_test_b/parameters/refuse
	load klp_test_target
	value_is 303100
	rmmod klp_test_target
	echo klp_test_target >/sys/module/klp_test_c/parameters/refuse
	refused "callback of the last" "$ENODEV"
	echo klp_test_target >/sys/module/klp_test_a/parameters/refuse
	refused "callback of the first" "$ENODEV"
	remove klp_test_a
	echo >/sys/module/klp_test_c/parameters/refuse
	load klp_test_target
	value_is 303100
	look
	rmmod klp_test_target
	remove klp_test_b
	remove klp_test_c
}
test_module_is_refused_by_a_callback() { same_on_both_cores coming; }

coming_broken() {
	local function
	enable klp_test_a functions=value
	for function in unknown notrace; do
		enable klp_test_b functions=other,$function
		refused "$function" "$EINVAL"
		look
		remove klp_test_b
	done
	load klp_test_target
	value_is 1110
	rmmod klp_test_target
	remove klp_test_a
}
test_module_is_refused_for_a_function() { same_on_both_cores coming_broken; }

states() {
	enable klp_test_a vmlinux=1 state=7 version=2
	say "not a replacement: may ignore states, but not have an older one"
	expect_error "$EINVAL" load klp_test_b vmlinux=1 state=7 version=1
	enable klp_test_b vmlinux=1 state=8 version=1
	remove klp_test_b
	say "a replacement must know every state in at least the same version"
	expect_error "$EINVAL" load klp_test_b vmlinux=1 replace=1
	expect_error "$EINVAL" load klp_test_b vmlinux=1 replace=1 state=8 version=5
	expect_error "$EINVAL" load klp_test_b vmlinux=1 replace=1 state=7 version=1
	enable klp_test_b vmlinux=1 replace=1 state=7 version=2
	wait_until 20 "a gone" gone klp_test_a
	rmmod klp_test_a
	enable klp_test_c vmlinux=1 replace=1 state=7 version=3
	wait_until 20 "b gone" gone klp_test_b
	rmmod klp_test_b
	look
	remove klp_test_c
}
test_states() { same_on_both_cores states; }

# What a callback finds with klp_for_each_object() and klp_for_each_func().
listed() {
	load klp_test_target
	mark
	load klp_test_patch mode=list
	wait_until 30 settled settled klp_test_patch
	since_mark | sed -n 's/.*listed: //p' >"$answer"
	diff "$answer" - <<-END
		klp_test_target, klp_test_value
		klp_test_target, klp_test_other
	END
	remove klp_test_patch
	rmmod klp_test_target
}
test_callback_walks_its_patch() {
	answer=$(mktemp)
	on_both_cores listed
	rm "$answer"
}

# One of the functions is in the target's init section, which is freed when the target has been initialised.
test_function_that_is_freed() {
	load livepatch
	load klp_test_patch mode=init
	wait_until 10 settled settled klp_test_patch
	# What comes next may lie where the function was.
	for _ in 1 2 3; do
		load klp_test_target
		[ "$(cat /sys/module/klp_test_target/parameters/value)" = 112 ]
		grep -q '^klp_test_value ' /sys/kernel/tracing/enabled_functions
		rmmod klp_test_target
	done
	load klp_test_target
	remove klp_test_patch
	[ "$(cat /sys/module/klp_test_target/parameters/value)" = 111 ]
	# The others are not intercepted any more.
	not grep -q '^klp_test_value ' /sys/kernel/tracing/enabled_functions
	rmmod klp_test_target
	rmmod livepatch
}

run_tests
