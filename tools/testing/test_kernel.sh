#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Tests of scripts/kernel and scripts/check-kernel with a small archive made here and a cache of
# their own: what goes wrong ends with one message, and the next run goes on or starts clean.
#
# shellcheck disable=SC2317,SC2329 # what "try" calls looks unreachable
set -uo pipefail
. "$(dirname "$0")/../../scripts/common.sh"
. "$top/tools/testing/ktap.sh"

work=$(mktemp -d)
trap 'umount "$work/small" 2>/dev/null; rm -rf "$work"' EXIT
real_cache=$cache
toolchain=$("$top/scripts/toolchain" --id)
release=7.9.1+deb13-amd64
newer=7.9.2+deb13-amd64
cc=$("$top/scripts/toolchain" gcc-14 --version | head -n 1)
rustc=$("$top/scripts/toolchain" rustc --version)

# package NAME VERSION DIRECTORY: a binary package of a directory's contents, in the archive.
package() {
	mkdir -p "$3/DEBIAN"
	cat >"$3/DEBIAN/control" <<-END
		Package: $1
		Version: $2
		Architecture: all
		Maintainer: nobody <nobody@example.org>
		Description: made for a test
	END
	dpkg-deb -b --root-owner-group "$3" "$work/archive/$1_$2_all.deb" >/dev/null
}

kernel_config() {
	echo "# Linux/x86 ${1%%+*} Kernel Configuration"
	echo "CONFIG_CC_VERSION_TEXT=\"$cc\""
	echo "CONFIG_RUSTC_VERSION_TEXT=\"$rustc\""
	printf 'CONFIG_%s=y\n' X86_64 MODULES LIVEPATCH RUST KALLSYMS_ALL
}

# add_kernel RELEASE: the packages of a stock kernel, of which nothing is compiled.
add_kernel() {
	local release=$1 version=${1%%+*}-1 tree=$work/tree modules headers
	rm -rf "$tree"
	for name in binary base modules headers source; do mkdir -p "$tree/$name"; done
	modules=usr/lib/modules/$release
	mkdir -p "$tree/binary/$modules" "$tree/base/$modules" "$tree/modules/$modules/kernel"
	echo image >"$tree/binary/$modules/vmlinuz"
	touch "$tree/base/$modules/modules."{order,builtin}
	headers=$tree/headers/usr/src/linux-headers-$release
	mkdir -p "$headers"
	kernel_config "$release" >"$headers/.config"
	echo '0x0	_Rexported	vmlinux	EXPORT_SYMBOL_GPL	' >"$headers/Module.symvers"
	mkdir -p "$tree/linux-source-7.9" "$tree/source/usr/src"
	sed "s/^version = .*/version = ${release%%+*}/" >"$tree/linux-source-7.9/Makefile" <<-'END'
		.RECIPEPREFIX = >
		version = N
		kernelversion:
		> @echo $(version)
		olddefconfig:
		> ln -sfn $(CURDIR) $(O)/source
		> @$(if $(FAKE_CONFIG),echo $(FAKE_CONFIG) >>$(O)/.config)
		modules_prepare:
		> @$(if $(FAKE_KILL),kill -KILL $(FAKE_KILL))
		> mkdir -p $(O)/rust $(O)/include/config
		> echo $(version)$(LOCALVERSION) >$(O)/include/config/kernel.release
		> echo 'EXPORT_SYMBOL_RUST_GPL($(or $(FAKE_NAME),_Rexported));' >$(O)/rust/exports_kernel_generated.h
		> touch $(O)/rust/libkernel.rmeta
	END
	tar -cJf "$tree/source/usr/src/linux-source-7.9.tar.xz" -C "$tree" linux-source-7.9
	for name in binary base modules headers; do
		package "linux-$name-$release" "$version" "$tree/$name"
	done
	package linux-source-7.9 "$version" "$tree/source"
}

# The archive's programs. What apt-cache knows is what was there at the last "update".
fake_apt() {
	mkdir -p "$work/bin" "$work/archive"
	cat >"$work/bin/apt-get" <<-'END'
		#!/bin/bash
		case " $* " in
		*" indextargets "*) echo "deb file:/debian/ test main /debian/" ; exit ;;
		*" update "*)
			[ ! -e "$FAKE/offline" ] || { echo "Temporary failure resolving 'archive'"; exit 100; }
			ls "$FAKE/archive" >"$FAKE/lists" ;;
		*" download "*)
			[ ! -e "$FAKE/offline" ] || { echo "Temporary failure resolving 'archive'"; exit 100; }
			for package in "${@:3}"; do
				cp "$FAKE/archive/${package/=/_}_all.deb" . || { echo "E: 404 Not Found"; exit 100; }
			done ;;
		esac
	END
	cat >"$work/bin/apt-cache" <<-'END'
		#!/bin/bash
		if [ "$1" = search ]; then
			cut -d_ -f1 "$FAKE/lists" | grep -E "$3" | sed 's/$/ - made for a test/'
		else
			sed -n "s/^$3_\(.*\)_all.deb$/Version: \1/p" "$FAKE/lists" | sort -rV
		fi
	END
	chmod +x "$work/bin/"*
}

# A new cache, with the compilers and the tools of the real one.
new_cache() {
	rm -rf "${1:?}"
	mkdir -p "$1"
	ln -s "$real_cache/toolchain-$toolchain" "$real_cache/$(basename "$(python_environment "$top/scripts/virtme-ng.txt")")" "$1/"
}

# kernel [NAME=VALUE]...: scripts/kernel on the archive made here, with the option $OPTION.
kernel() {
	env -u KERNEL_VERSION -u KERNEL_SOURCE -u KERNEL_CONFIG -u KERNEL_RELEASE -u OFFLINE -u LLVM \
		-u RUSTC -u CC FAKE="$work" LIVEPATCH_CACHE="${CACHE:-$work/cache}" PATH="$work/bin:$PATH" KERNEL=debian \
		"$@" "$top/scripts/kernel" ${OPTION:+"$OPTION"} 2>&1
}

archive_with() {
	rm -f "$work/archive/"* "$work/lists" "$work/offline"
	local release
	for release; do add_kernel "$release"; done
	new_cache "$work/cache"
}

prepared() { [ "$(kernel | tail -n 1)" = "$work/cache/kernel/$release" ]; }

test_stock() {
	archive_with "$release"
	! OPTION=--path kernel || return 1
	prepared && [ "$(OPTION=--path kernel)" = "$work/cache/kernel/$release" ] &&
		[ "$(cat "$work/cache/kernel/$release/arch/x86/boot/bzImage")" = image ]
}

test_no_network() {
	archive_with "$release"
	touch "$work/offline"
	refuses "the package archive cannot be reached" kernel || return 1
	rm "$work/offline"
	prepared || return 1
	# What is there needs none.
	touch "$work/offline"
	prepared
}

test_full_disk() {
	[ "$(id -u)" = 0 ] || return 0
	archive_with "$release"
	mkdir -p "$work/small"
	mount -t tmpfs -o size=64k tmpfs "$work/small" || return 1
	ln -s "$real_cache/toolchain-$toolchain" "$work/small/toolchain-$toolchain"
	head -c 100000 /dev/urandom >"$work/random"
	mkdir -p "$work/tree/big" && cp "$work/random" "$work/tree/big/"
	package "linux-modules-$release" "${release%%+*}-1" "$work/tree/big"
	CACHE=$work/small refuses "no space left" kernel
	local status=$?
	umount "$work/small"
	return "$status"
}

test_interrupted_download() {
	archive_with "$release"
	mkdir -p "$work/cache/kernel/$release/packages" "$work/cache/src/linux-source-7.9-7.9.1-1.new"
	echo half >"$work/cache/kernel/$release/packages/linux-binary-${release}_7.9.1-1_all.deb"
	prepared
}

test_killed_while_preparing() {
	archive_with "$release"
	# shellcheck disable=SC2016 # make's variable
	! kernel FAKE_KILL='$$PPID' || return 1
	! OPTION=--path kernel || return 1
	# What was fetched is still there.
	touch "$work/offline" "$work/cache/kernel/$release/stale"
	prepared && [ ! -e "$work/cache/kernel/$release/stale" ]
}

test_fetch_first() {
	archive_with "$release"
	OPTION=--fetch kernel || return 1
	! OPTION=--path kernel || return 1
	touch "$work/offline"
	prepared
}

test_left_the_archive() {
	archive_with "$release"
	FAKE=$work "$work/bin/apt-get" -q update
	OPTION=--path kernel
	kernel KERNEL_VERSION=8 >/dev/null
	# The lists still have the first one.
	rm "$work/archive/"*"$release"*
	add_kernel "$newer"
	[ "$(kernel | tail -n 1)" = "$work/cache/kernel/$newer" ]
}

test_nothing_suitable() {
	archive_with "$release"
	refuses "the archive has no linux-binary-7.2*-amd64" kernel KERNEL_VERSION=7.2
}

test_cache_of_an_older_version() {
	archive_with "$release"
	prepared || return 1
	echo "stock 0 other" >"$work/cache/kernel/$release/.complete"
	touch "$work/cache/kernel/$release/stale"
	! OPTION=--path kernel || return 1
	prepared && [ ! -e "$work/cache/kernel/$release/stale" ]
}

test_other_options() {
	archive_with "$release"
	refuses "these settings differ: CONFIG_NEW=y" kernel FAKE_CONFIG=CONFIG_NEW=y
}

test_other_rust_compiler() {
	archive_with "$release"
	refuses "built by another Rust compiler: 1 of its symbols" kernel FAKE_NAME=_Rother
}

test_unwritable_cache() {
	touch "$work/file"
	CACHE=$work/file/cache refuses "LIVEPATCH_CACHE names another place" kernel
}

test_missing_options() {
	refuses "there is no file /nowhere" kernel KERNEL=build KERNEL_CONFIG=/nowhere
}

test_unknown_kernel() {
	refuses "KERNEL=hurd is none of" kernel KERNEL=hurd
}

test_running_without_headers() {
	refuses "apt-get install linux-headers-7.9.1" kernel KERNEL=running KERNEL_RELEASE=7.9.1
}

test_make_ends() {
	archive_with
	touch "$work/offline"
	local output
	output=$(env -u KDIR FAKE="$work" LIVEPATCH_CACHE="$work/cache" PATH="$work/bin:$PATH" \
		make -C "$top" modules KDIR= KERNEL=debian 2>&1) && return 1
	printf '%s\n' "$output"
	[ "$(grep -c "cannot be reached" <<<"$output")" = 1 ]
}

# checked COMMAND: what scripts/check-kernel says of a build directory that the command changed.
checked() {
	local directory=$work/build
	rm -rf "$directory"
	mkdir -p "$directory/rust" "$directory/include/config"
	kernel_config "$release" >"$directory/.config"
	echo "$release" >"$directory/include/config/kernel.release"
	touch "$directory/rust/libkernel.rmeta"
	echo symbol >"$directory/Module.symvers"
	(cd "$directory" && eval "$1")
	# A kernel that is not in the cache is built with the machine's own compilers.
	LIVEPATCH_CACHE=$work CC='' RUSTC='' LLVM='' "$top/scripts/check-kernel" "$directory" 2>&1
}

check_good() {
	ln -sfn "$real_cache/toolchain-$toolchain" "$work/toolchain-$toolchain"
	[ -z "$(checked true)" ]
}
check_old() { refuses "7.2 or newer is needed" checked 'echo 6.12.1 >include/config/kernel.release'; }
check_option() { refuses "without CONFIG_RUST" checked 'sed -i /CONFIG_RUST=/d .config'; }
check_metadata() { refuses "lacks the metadata" checked 'rm rust/libkernel.rmeta'; }
check_symvers() { refuses "no Module.symvers" checked 'rm Module.symvers'; }
check_compiler() {
	refuses "was built by 'gcc-1 (Debian) 1.0'" checked \
		'sed -i "s/^CONFIG_CC_V.*/CONFIG_CC_VERSION_TEXT=\"gcc-1 (Debian) 1.0\"/" .config'
}
check_rustc() {
	refuses "was built by 'rustc 1.0'" checked \
		'sed -i "s/^CONFIG_RUSTC_V.*/CONFIG_RUSTC_VERSION_TEXT=\"rustc 1.0\"/" .config'
}
check_no_kernel() { refuses "is not the build directory" checked 'rm .config'; }

failures=0
try() {
	local output
	if output=$("${@:2}" 2>&1); then
		echo "ok kernel: $1"
	else
		printf '%s\n' "$output"
		echo "not ok kernel: $1"
		failures=1
	fi
}

fake_apt
try "stock kernel" test_stock
try "no network" test_no_network
try "full disk" test_full_disk
try "interrupted download" test_interrupted_download
try "killed while preparing" test_killed_while_preparing
try "fetched first" test_fetch_first
try "package that has left the archive" test_left_the_archive
try "no suitable kernel in the archive" test_nothing_suitable
try "cache of an older version" test_cache_of_an_older_version
try "source with other options" test_other_options
try "other Rust compiler" test_other_rust_compiler
try "cache that cannot be written" test_unwritable_cache
try "file of options that is not there" test_missing_options
try "unknown kernel" test_unknown_kernel
try "running kernel without headers" test_running_without_headers
try "make ends when no kernel can be had" test_make_ends
try "suitable build directory" check_good
try "kernel that is too old" check_old
try "kernel without an option" check_option
try "kernel without Rust metadata" check_metadata
try "kernel without symbol versions" check_symvers
try "kernel built by another C compiler" check_compiler
try "kernel built by another rustc" check_rustc
try "no kernel at all" check_no_kernel
exit $failures
