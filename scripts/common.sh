# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What the scripts share: where things are kept, how they speak, and the archive's packages.
#
# shellcheck disable=SC2034 # the scripts use these variables

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Where depmod and modinfo are, for users too.
PATH=$PATH:/usr/sbin:/sbin

# Everything that is fetched or built outside the checkout is kept here; it can be removed at any
# time.
cache=${LIVEPATCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/livepatch}

# The Debian release that Debian's 7.x kernels are built in: its compilers build everything.
suite=trixie

# Of crates.io; those of PyPI are in lists of their own.
mutants_version=25.3.1

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# usage: the comment at the head of the script, without the licence.
usage() { sed -n '4,/^[^#]/{/^#/!d;s/^# \{0,1\}//p}' "$0"; }

# config_value FILE NAME: the value of an option in a kernel's configuration, without quotation marks;
# nothing if it is not set.
config_value() { sed -n "s/^$2=\"\?\([^\"]*\)\"\?\$/\1/p" "$1"; }

# missing_packages DIRECTORY PACKAGE...: those that are not installed, by dpkg's data there.
missing_packages() {
	local directory=$1 package
	shift
	for package; do
		dpkg-query --admindir="$directory" -W -f '${db:Status-Status}\n' "$package" 2>/dev/null |
			grep -qx installed || echo "$package"
	done
}

# run_logged LOG WHAT COMMAND...: run a long command with its output in LOG, a progress line on
# standard error, and the end of the script when it fails.
run_logged() { try_logged "$@" || failed_command "$1" "$2"; }

# try_logged LOG WHAT COMMAND...: the same, but the caller decides what a failure means.
try_logged() {
	local log=$1 what=$2 start=$SECONDS pid
	shift 2
	mkdir -p "$(dirname "$log")" || exit 1
	"$@" >"$log" 2>&1 </dev/null &
	pid=$!
	while kill -0 "$pid" 2>/dev/null; do
		if [ -t 2 ]; then
			printf '\r    %s: %ds, %d lines of output ' "$what" $((SECONDS - start)) \
				"$(wc -l <"$log")" >&2
			sleep 1
		else
			# Not a terminal: a line every half minute is enough to see that it lives.
			for _ in $(seq 30); do kill -0 "$pid" 2>/dev/null && sleep 1; done
			kill -0 "$pid" 2>/dev/null &&
				printf '    %s: %ds\n' "$what" $((SECONDS - start)) >&2
		fi
	done
	[ -t 2 ] && printf '\r\033[K' >&2
	wait "$pid" || return
	printf '    %s: done in %ds\n' "$what" $((SECONDS - start)) >&2
}

# failed_command LOG WHAT: ends the script with the reason, if the log shows one of the usual ones,
# else with the end of the log.
failed_command() {
	local log=$1 what=$2
	# Then the log may not have found room either.
	if grep -q 'No space left on device' "$log" ||
		[ "$(df --output=avail "$cache" | tail -n 1)" -lt 1024 ]; then
		die "$what failed: no space left on the device of $cache; make room and try again"
	elif grep -qE 'Temporary failure resolving|Could not (resolve|connect)|Network is unreachable' "$log"; then
		die "$what failed: the package archive cannot be reached; what is there stays, try again" \
			"when the network is back (the whole output is in $log)"
	fi
	tail -n 40 "$log" >&2
	die "$what failed; the whole output is in $log"
}

# python_environment LIST: where python_tool installs what the list names.
python_environment() {
	local name=${1##*/}
	echo "$cache/${name%.txt}-$(sha256sum "$1" | cut -c1-12)"
}

# python_tool LIST PROGRAM: a program from PyPI in a virtual environment of its own. It may be run as
# root, so the list has the version and the hashes of it and of all that it needs.
python_tool() {
	local list=$1 program=$2 log=$cache/log/$2 directory
	directory=$(python_environment "$list")
	mkdir -p "$cache"
	(
		flock 9
		[ ! -x "$directory/bin/$program" ] || exit 0
		say "installing $program"
		rm -rf "$directory"
		python3 -m venv "$directory" || die "cannot make a virtual environment for $program"
		try_logged "$log" "installing" "$directory/bin/pip" install -q --no-deps \
			--only-binary :all: --require-hashes -r "$list" || {
			rm -rf "$directory"
			failed_command "$log" "installing $program"
		}
	) 9>"$cache/python.lock" || exit
}

# The address of the Debian archive that the machine already uses.
archive_address() {
	local address
	# shellcheck disable=SC2016 # apt's own variables
	address=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' |
		grep -E '/debian/?$' | head -n 1)
	[ -n "$address" ] || die "apt on this machine knows no Debian archive"
	echo "$address"
}

archive_keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# archive_source ADDRESS SUITE: a line for sources.list.
archive_source() { echo "deb [signed-by=$archive_keyring] $1 $2 main"; }

# private_apt COMMAND...: apt-get or apt-cache with a configuration of its own, which adds the
# backports suites to the Debian archive that the machine already uses: the machine's own sources
# and package lists stay as they are.
private_apt() {
	private_apt_lists daily
	APT_CONFIG=$cache/apt/apt.conf "$@"
}

# private_apt_lists daily|again: reads the package lists if they are older than a day, or in any case.
private_apt_lists() {
	local dir=$cache/apt address codename
	[ "$1" = again ] || [ ! -e "$dir/ready" ] || [ -n "$(find "$dir/ready" -mmin +1440)" ] ||
		return 0
	mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/parts"
	[ -e "$archive_keyring" ] ||
		die "$archive_keyring is missing: install debian-archive-keyring"
	address=$(archive_address)
	codename=$(. /etc/os-release; echo "$VERSION_CODENAME")
	# shellcheck disable=SC2016 # apt's own variables
	{
		apt-get indextargets --format \
			"$(archive_source '$(REPO_URI)' '$(RELEASE)')" \
			'Created-By: Packages' 'Component: main' | grep -E '/debian(-security)?/? '
		archive_source "$address" "$codename-backports"
		archive_source "$address" "$suite-backports"
	} | sort -u >"$dir/sources.list"
	cat >"$dir/apt.conf" <<-END
		Dir::Etc::SourceList "$dir/sources.list";
		Dir::Etc::SourceParts "$dir/parts";
		Dir::Etc::Preferences "/dev/null";
		Dir::Etc::PreferencesParts "$dir/parts";
		Dir::State::Lists "$dir/lists";
		Dir::Cache "$dir/cache";
		APT::Sandbox::User "root";
		APT::Update::Error-Mode "any";
	END
	if APT_CONFIG=$dir/apt.conf apt-get -q update >"$dir/update.log" 2>&1; then
		touch "$dir/ready"
	elif [ "$1" = again ] || [ ! -e "$dir/ready" ]; then
		failed_command "$dir/update.log" "reading the package lists of the backports suites"
	fi
}
