#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Tests of scripts/setup, scripts/toolchain and scripts/dkms-build with programs made here instead of the machine's, and
# directories of their own in place of some of its: what is missing or goes wrong ends with one message that says what
# to do.
#
# shellcheck disable=SC2317,SC2329 # what "try" calls looks unreachable
set -uo pipefail
. "$(dirname "$0")/../../scripts/common.sh"
. "$top/tools/testing/ktap.sh"

work=$(mktemp -d)
# There is none on a machine without a kernel of its own.
[ -d /lib/modules ] || { mkdir /lib/modules 2>/dev/null && made=1; }
trap 'rm -rf "$work"; [ -z "${made:-}" ] || rmdir /lib/modules' EXIT
release=7.3.9+deb13-amd64
version=7.3.9-1~bpo13+1
build=$work/modules/$release/build

# program NAME: one that comes first in the search path; its text is on standard input.
program() {
	{ echo '#!/bin/bash'; cat; } >"$work/bin/$1"
	chmod +x "$work/bin/$1"
}

# A machine on which everything is installed that is in $work/installed, with versions, and nothing fails.
new_machine() {
	rm -rf "${work:?}"/*
	mkdir -p "$work/bin" "$work/cache" "$work/var-cache" "$build/include/config"
	program dpkg-query <<-'END'
		found=$(sed -n "s/^${*: -1} //p" "$FAKE/installed" 2>/dev/null)
		[ -n "$found" ] || exit 1
		case $* in
		*Version*) echo "installed $found" ;;
		*) echo installed ;;
		esac
	END
	program apt-get <<<'case " $* " in *" indextargets "*) echo "deb file:/debian/ test main /debian/" ;; esac'
	program id <<<'echo 0'
	program df <<<'printf "Avail\n9000000\n"'
	program mmdebstrap <<<'echo "E: nothing is there"; exit 1'
	program qemu-system-x86_64 <<<'echo "QEMU emulator version 10.0.2 (Debian)"'
	program gcc-14 <<<'echo "gcc-14 (Debian 14.2.0-19) 14.2.0"'
	program rustc <<<'echo "rustc 1.85.1 (made for a test)"'
	program bindgen <<<'echo "bindgen 0.71.1"'
	program pahole <<<'echo v1.30'
	printf '%s %s\n' "linux-headers-$release" "$version" linux-source-7.3 "$version" >"$work/installed"
	echo "$release" >"$build/include/config/kernel.release"
	touch "$build/include/config/auto.conf"
	cat >"$build/.config" <<-'END'
		CONFIG_CC_VERSION_TEXT="gcc-14 (Debian 14.2.0-19) 14.2.0"
		CONFIG_RUSTC_VERSION_TEXT="rustc 1.85.1 (made for a test)"
		CONFIG_BINDGEN_VERSION_TEXT="bindgen 0.71.1"
		CONFIG_PAHOLE_VERSION=130
		CONFIG_X86_64=y
		CONFIG_MODULES=y
		CONFIG_LIVEPATCH=y
		CONFIG_RUST=y
		CONFIG_KALLSYMS_ALL=y
	END
}

# apart COMMAND...: on that machine. What the command changes elsewhere in the cache is in $work/cache.
apart() {
	# shellcheck disable=SC2016 # the shell in the namespace expands it
	env -u OFFLINE FAKE="$work" LIVEPATCH_CACHE="$work/cache" PATH="$work/bin:$PATH" unshare --mount bash -euc '
		mount --bind "$FAKE/modules" /lib/modules
		mount --bind "$FAKE/var-cache" /var/cache
		exec "$@"' apart "$@" 2>&1
}

dkms() { apart "$top/scripts/dkms-build" --check "$release"; }

dkms_good() { [ -z "$(dkms)" ]; }
dkms_no_headers() {
	rm "$build/include/config/auto.conf"
	refuses "not for $release: its headers are not there: apt-get install linux-headers-$release" dkms
}
dkms_without_rust() {
	sed -i /CONFIG_RUST=/d "$build/.config"
	refuses "not for $release: Linux $release was configured without CONFIG_RUST" dkms
}
dkms_too_old() {
	echo 6.12.1 >"$build/include/config/kernel.release"
	refuses "not for $release: Linux 6.12.1 is too old: 7.2 or newer is needed" dkms
}
# A release candidate is not the release.
dkms_too_new() {
	local new known
	for new in 7.4-rc1-amd64 7.4.0+deb13-amd64 7.10.1 8.0; do
		echo "$new" >"$build/include/config/kernel.release"
		refuses "not for $release: Linux $new is newer than what this was tested on, up to 7.3: install" dkms || return
	done
	for known in 7.3 7.3-rc7 7.3.99+deb13+1-amd64; do
		echo "$known" >"$build/include/config/kernel.release"
		[ -z "$(dkms)" ] || return
	done
	# By hand, one may try.
	echo 8.0 >"$build/include/config/kernel.release"
	"$top/scripts/check-kernel" --options "$build"
}
dkms_not_debian() {
	sed -i /linux-headers/d "$work/installed"
	refuses "its build directory has no Rust metadata, and it is not Debian's" dkms
}
dkms_no_source() {
	sed -i /linux-source/d "$work/installed"
	refuses "apt-get install linux-source-7.3=$version" dkms
}
dkms_other_source() {
	sed -i "s/^linux-source-7.3 .*/linux-source-7.3 7.3.8-1/" "$work/installed"
	refuses "it needs the package linux-source-7.3 $version" dkms
}
dkms_own_metadata() {
	mkdir "$build/rust"
	touch "$build/rust/libkernel.rmeta"
	sed -i /linux/d "$work/installed"
	[ -z "$(dkms)" ]
}
dkms_other_rustc() {
	program rustc <<<'echo "rustc 1.90.0"'
	refuses "was built with 'rustc 1.85.1 (made for a test)', and here is 'rustc 1.90.0'" dkms
}
dkms_no_bindgen() {
	program bindgen <<<'exit 127'
	refuses "here is 'nothing' (CONFIG_BINDGEN_VERSION_TEXT)" dkms
}
dkms_other_pahole() {
	program pahole <<<'echo v1.25'
	refuses "was built with '130', and here is '125' (CONFIG_PAHOLE_VERSION)" dkms
}
dkms_no_room() {
	program df <<<'printf "Avail\n1000\n"'
	refuses "the build needs 3 GB in /var/cache: make room" dkms
}
dkms_clang() {
	# Nobody looks for the C compiler then: kmake does. DKMS says so by one more argument.
	printf '%s\n' 'CONFIG_CC_IS_CLANG=y' >>"$build/.config"
	sed -i 's/^CONFIG_CC_V.*/CONFIG_CC_VERSION_TEXT="Debian clang version 19.1.7"/' "$build/.config"
	[ -z "$(apart "$top/scripts/dkms-build" --check "$release" LLVM=1)" ]
}
dkms_no_release() {
	apart "$top/scripts/dkms-build" --check
	[ $? = 2 ]
}

setup() { apart "$top/scripts/setup" "$@"; }

setup_unknown_option() { refuses "setup: unknown option --everything" setup --everything; }
setup_not_root() {
	program id <<<'echo 1000'
	refuses "setup: not root, and these packages are missing: busybox-static file" setup
}
setup_no_network() {
	program apt-get <<<'echo "Temporary failure resolving archive"; exit 100'
	refuses "reading package lists failed: the package archive cannot be reached" setup
}
setup_no_such_package() {
	program apt-get <<<'case " $* " in *" install "*) echo "E: no such package"; exit 100 ;; esac'
	refuses "installing failed; the whole output is in $work/cache/log/apt-install" setup
}
setup_full_disk() {
	program apt-get <<<'echo "write error: No space left on device"; exit 100'
	refuses "no space left on the device of $work/cache; make room and try again" setup
}

toolchain() { apart "$top/scripts/toolchain" "$@"; }

toolchain_not_there() { refuses "the compilers are not there yet: run scripts/setup" toolchain true; }
toolchain_not_root() {
	program id <<<'echo 1000'
	refuses "only root can fetch them: sudo LIVEPATCH_CACHE=$work/cache scripts/toolchain --install" toolchain --install
}
toolchain_fails() {
	refuses "installing the compilers failed; the whole output is in $work/cache/log/toolchain" toolchain --install
	refuses "the compilers are not there yet" toolchain true
}
toolchain_no_network() {
	program mmdebstrap <<<'echo "Could not resolve archive"; exit 1'
	refuses "the package archive cannot be reached" toolchain --install
}
# What an installation left behind that was interrupted is no root.
toolchain_interrupted() {
	# shellcheck disable=SC2016 # for the program
	program mmdebstrap <<<'for a; do case $a in */toolchain-*) mkdir -p "$a"; touch "$a/half"; esac; done; exit 1'
	toolchain --install
	# shellcheck disable=SC2016 # for the program
	program mmdebstrap <<<'for a; do case $a in */toolchain-*) [ ! -e "$a" ] && mkdir -p "$a"; esac; done'
	toolchain --install
	[ -n "$(find "$work/cache" -path '*/toolchain-*/.complete')" ] && [ -z "$(find "$work/cache" -name half)" ]
}

failures=0
try() {
	local output
	new_machine
	if output=$("$@" 2>&1); then
		echo "ok setup: ${1//_/ }"
	else
		printf '%s\n' "$output"
		echo "not ok setup: ${1//_/ }"
		failures=1
	fi
}

if ! unshare --mount true 2>/dev/null || [ ! -d /lib/modules ]; then
	echo "ok setup # SKIP only root can mount directories in place of others"
	exit 0
fi
for test in dkms_good dkms_no_headers dkms_without_rust dkms_too_old dkms_too_new dkms_not_debian dkms_no_source dkms_other_source \
	dkms_own_metadata dkms_other_rustc dkms_no_bindgen dkms_other_pahole dkms_no_room dkms_clang dkms_no_release \
	setup_unknown_option setup_not_root setup_no_network setup_no_such_package setup_full_disk; do
	try $test
done
# On the release that has the compilers itself there is no root.
if [ "$(. /etc/os-release; echo "${VERSION_CODENAME:-}")" != "$suite" ]; then
	for test in toolchain_not_there toolchain_not_root toolchain_fails toolchain_no_network toolchain_interrupted; do
		try $test
	done
fi
exit $failures
