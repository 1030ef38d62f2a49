#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Packages that klp package makes, installed for real by dpkg and rpm. The test patches make
# klp_test_target show thousands by their number: 1110 by the first, 2110 by the second.
# tools/testing/klp-packages has made the packages, in $TEST_FILES.
. "$(dirname "$0")/lib.sh"

value=/sys/module/klp_test_target/parameters/value
release=$(uname -r)
place=/usr/lib/klp/$release

# The same steps with either package manager, which $format says.
with_both() {
	local format
	for format in deb rpm; do
		say "$format"
		load klp_test_target
		"$@"
		rmmod klp_test_target
		[ ! -e /usr/lib/klp ] || fail "left:" "$(find /usr/lib/klp)"
	done
}

install_package() {
	case $format in
	deb) dpkg --install "$TEST_FILES/$1.deb" ;;
	# Debian's rpm asks for the first option, and does not know what dpkg has installed.
	rpm) rpm --force-debian --nodeps -Uvh "${@:2}" "$TEST_FILES/$1.rpm" ;;
	esac
}

remove_package() {
	case $format in
	deb) dpkg --remove "$1" ;;
	rpm) rpm --force-debian -e "$1" ;;
	esac
}

is_installed() {
	case $format in
	deb) [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ] ;;
	rpm) rpm -q "$1" >/dev/null ;;
	esac
}

shows() { [ "$(cat $value)" = "$1" ]; }

# expect_lines TEXT: the text has the lines of standard input, one after the other.
expect_lines() {
	local expected
	expected=$(cat)
	case $1 in
	*"$expected"*) ;;
	*) fail "expected:" "$expected" "got:" "$1" ;;
	esac
}

install_and_remove() {
	local output
	output=$(install_package klp-cumulative-1)
	expect_lines "$(grep -v '^waiting\|^transition' <<<"$output")" <<-END
		loading patch module: $place/klp_test_v1.ko
		installing $place/klp_test_v1.ko ($release)
	END
	shows 1110
	[ "$(cat $lp/klp_test_v1/enabled)" = 1 ]
	cmp "$place/klp_test_v1.ko" "$(module_file klp_test_v1)"
	is_installed "klp-cumulative-$release"

	# Once more.
	install_package klp-cumulative-1 --replacepkgs
	shows 1110

	output=$(remove_package "klp-cumulative-$release")
	expect_lines "$output" <<<'unloading patch module: klp_test_v1'
	shows 111
	not is_loaded klp_test_v1
	not is_installed "klp-cumulative-$release"
	[ ! -e /run/klp/klp-cumulative-"$release" ]
}
test_install_and_remove() { with_both install_and_remove; }
test_rust_core() {
	load livepatch
	with_both install_and_remove
	rmmod livepatch
}

# Reads the value until the file is gone, and keeps each that differs from the one before.
watch_value() {
	local now last=
	while [ -e "$1" ]; do
		read -r now <$value
		[ "$now" = "$last" ] || echo "$now" >>"$1.values"
		last=$now
	done
}
start_watch() {
	watch=$(mktemp)
	watch_value "$watch" &
	wait_until 10 "the value is read" test -s "$watch.values"
}
stop_watch() { rm "$watch" && wait; }

upgrade_and_downgrade() {
	local watch
	install_package klp-cumulative-1
	start_watch
	install_package klp-cumulative-2
	shows 2110
	not is_loaded klp_test_v1
	[ "$(ls "$place")" = klp_test_v2.ko ]

	install_package klp-cumulative-1 --oldpackage
	stop_watch
	shows 1110
	not is_loaded klp_test_v2
	[ "$(ls "$place")" = klp_test_v1.ko ]
	diff "$watch.values" - <<<$'1110\n2110\n1110'
	rm "$watch.values"
	remove_package "klp-cumulative-$release"
	shows 111
}
test_upgrade_and_downgrade() { with_both upgrade_and_downgrade; }

# Without replacement: the new ones are on top before the old one goes.
upgrade_stacked() {
	local watch
	install_package klp-stacked-1
	shows 1110
	start_watch
	install_package klp-stacked-2
	stop_watch
	shows 3110
	not is_loaded klp_test_a
	# A reader may see the second of the three.
	diff <(grep -vx 2110 "$watch.values") - <<<$'1110\n3110'
	rm "$watch.values"
	remove_package "klp-stacked-$release"
	shows 111
	not is_loaded klp_test_b
	not is_loaded klp_test_c
}
test_upgrade_without_replacement() { with_both upgrade_stacked; }

# The older patch stays, and goes with the package.
failed_load() {
	local errors
	errors=$(mktemp)
	install_package klp-cumulative-1
	install_package klp-cumulative-3 2>"$errors"
	is_installed "klp-cumulative-$release"
	shows 1110
	grep -qxF "klp-cumulative-$release: the patch is not loaded, and what was loaded before stays;\
 the next boot of $release tries it again, and so does: klp load $place/klp_test_v3.ko" "$errors"
	[ "$(ls "$place")" = klp_test_v3.ko ]
	rm "$errors"

	install_package klp-cumulative-2 --oldpackage
	shows 2110
	not is_loaded klp_test_v1
	install_package klp-cumulative-3
	shows 2110
	remove_package "klp-cumulative-$release"
	shows 111
	not is_loaded klp_test_v2
}
test_failed_load() { with_both failed_load; }

# What klp unload is to do stands on standard input, a script.
replace_unload() {
	mv /usr/bin/klp /usr/bin/klp.real
	{
		cat <<-'END'
			#!/bin/sh
			[ "$1" != unload ] && exec klp.real "$@"
		END
		cat
	} >/usr/bin/klp
	chmod +x /usr/bin/klp
}
restore_unload() { mv /usr/bin/klp.real /usr/bin/klp; }

# A klp that does not unload, as with a stalled transition.
failed_removal() {
	local errors
	errors=$(mktemp)
	install_package klp-cumulative-1
	replace_unload <<<'exit 1'
	not remove_package "klp-cumulative-$release" 2>"$errors"
	grep -q 'the patch cannot be taken off, and so the package stays' "$errors"
	rm "$errors"
	is_installed "klp-cumulative-$release"
	shows 1110
	restore_unload
	remove_package "klp-cumulative-$release"
	shows 111
}
test_failed_removal() { with_both failed_removal; }

# A klp that cannot unload the module, as after a transition that was forced: the patch is off.
module_stays() {
	local errors
	errors=$(mktemp)
	install_package klp-cumulative-1
	replace_unload <<-'END'
		echo 0 >"/sys/kernel/livepatch/$2/enabled"
		klp.real wait "$2"
		echo "klp: failed to unload module $2 (refcnt)" >&2
		exit 1
	END
	remove_package "klp-cumulative-$release" 2>"$errors"
	grep -q 'the module klp_test_v1 stays loaded, without effect' "$errors"
	rm "$errors"
	not is_installed "klp-cumulative-$release"
	shows 111
	restore_unload
	rmmod klp_test_v1
}
test_module_stays() { with_both module_stays; }

# The administrator has unloaded it already.
unloaded_by_hand() {
	install_package klp-cumulative-1
	klp unload klp_test_v1
	shows 111
	remove_package "klp-cumulative-$release"
	not is_installed "klp-cumulative-$release"
}
test_unloaded_by_hand() { with_both unloaded_by_hand; }

# As at boot: what packages have put in place is loaded. klp does not take it from its package.
boot() {
	install_package klp-cumulative-1
	klp unload klp_test_v1
	klp load --all
	shows 1110
	klp list | grep -qxF "klp_test_v1 ($release)"
	expect_error 'belongs to a package' klp uninstall klp_test_v1
	[ -e "$place/klp_test_v1.ko" ]
	remove_package "klp-cumulative-$release"
}
test_boot() { with_both boot; }

# For another kernel: there, and not loaded.
other_kernel() {
	local output
	output=$(install_package klp-elsewhere-1)
	expect_lines "$output" <<-END
		installing /usr/lib/klp/${release//[0-9]/9}/klp_test_v1.ko (${release//[0-9]/9})
	END
	not grep 'loading patch module' <<<"$output"
	shows 111
	remove_package "klp-elsewhere-${release//[0-9]/9}"
}
test_other_kernel() { with_both other_kernel; }

# A container's processes have numbers of their own.
container() {
	local output
	export -f install_package
	export format TEST_FILES
	output=$(unshare --pid --fork --mount-proc bash -ec 'install_package klp-cumulative-1')
	not grep 'loading patch module' <<<"$output"
	is_installed "klp-cumulative-$release"
	shows 111
	remove_package "klp-cumulative-$release"
}
test_container() { with_both container; }

# The tree of an image: this machine's, with changes of its own.
image() {
	local dir output
	dir=$(mktemp -d)
	mount -t tmpfs tmpfs "$dir"
	mkdir "$dir"/{upper,work,image}
	mount -t overlay -o "lowerdir=/,upperdir=$dir/upper,workdir=$dir/work" overlay "$dir/image"
	mount -t proc proc "$dir/image/proc"
	mount -t sysfs sysfs "$dir/image/sys"
	mount --bind /dev "$dir/image/dev"
	mount --bind "$TEST_FILES" "$dir/image/mnt"
	chroot "$dir/image" dpkg --install /mnt/livepatch-tools.deb
	output=$(TEST_FILES=/mnt chroot "$dir/image" bash -ec 'install_package klp-cumulative-1')
	not grep 'loading patch module' <<<"$output"
	[ -e "$dir/image$place/klp_test_v1.ko" ]
	shows 111
	# Nothing happens to this machine when the image changes.
	install_package klp-cumulative-1
	format=$format chroot "$dir/image" bash -ec "remove_package klp-cumulative-$release"
	shows 1110
	remove_package "klp-cumulative-$release"
	umount -R "$dir"
	rmdir "$dir"
}
test_image() {
	export -f install_package remove_package
	export format
	with_both image
}

test_purge() {
	local format=deb
	load klp_test_target
	install_package klp-cumulative-1
	dpkg --purge "klp-cumulative-$release"
	shows 111
	not dpkg-query -W "klp-cumulative-$release"
	[ ! -e /usr/share/doc/klp-cumulative-"$release" ]
	rmmod klp_test_target
}

test_scripts_are_clean() {
	local dir
	dir=$(mktemp -d)
	dpkg-deb --control "$TEST_FILES/klp-stacked-2.deb" "$dir"
	rpm -qp --qf '%{POSTTRANS}' "$TEST_FILES/klp-stacked-2.rpm" >"$dir/posttrans"
	rpm -qp --qf '%{PREUN}' "$TEST_FILES/klp-stacked-2.rpm" >"$dir/preun"
	shellcheck "$dir"/{postinst,prerm,posttrans,preun}
	# They differ in how they are called only.
	diff <(sed '/^case/,$d' "$dir/postinst") <(sed '/^put_on$/,$d' "$dir/posttrans")
	rm -r "$dir"
}

dpkg --install "$TEST_FILES/livepatch-tools.deb" >/dev/null || exit
run_tests
