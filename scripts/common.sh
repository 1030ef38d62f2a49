# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What the scripts share: where things are kept, and how they speak.
#
# shellcheck disable=SC2034 # the scripts use these variables

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Everything that is fetched or built outside the checkout is kept here; it can be removed at any time.
cache=${LIVEPATCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/livepatch}

# The tools that no distribution package provides in a suitable version.
bindgen_version=0.72.1
virtme_version=1.42
mypy_version=1.18.2

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# run_logged LOG WHAT COMMAND...: run a long command with its output in LOG, a progress line on standard error,
# and the end of the log when it fails.
run_logged() {
	local log=$1 what=$2 start=$SECONDS pid
	shift 2
	mkdir -p "$(dirname "$log")"
	"$@" >"$log" 2>&1 </dev/null &
	pid=$!
	while kill -0 "$pid" 2>/dev/null; do
		if [ -t 2 ]; then
			printf '\r    %s: %ds, %d lines of output ' "$what" $((SECONDS - start)) "$(wc -l <"$log")" >&2
			sleep 1
		else
			# Not a terminal: a line every half minute is enough to see that it lives.
			for _ in $(seq 30); do kill -0 "$pid" 2>/dev/null && sleep 1; done
			kill -0 "$pid" 2>/dev/null && printf '    %s: %ds\n' "$what" $((SECONDS - start)) >&2
		fi
	done
	[ -t 2 ] && printf '\r\033[K' >&2
	if wait "$pid"; then
		printf '    %s: done in %ds\n' "$what" $((SECONDS - start)) >&2
	else
		tail -n 40 "$log" >&2
		die "$what failed; the whole output is in $log"
	fi
}

# private_apt COMMAND...: apt-get or apt-cache with a configuration of its own, which adds the backports suites to the
# Debian archive that the machine already uses: the machine's own sources and package lists stay as they are.
private_apt() {
	local dir=$cache/apt keyring=/usr/share/keyrings/debian-archive-keyring.gpg uri codename
	if [ ! -e "$dir/ready" ] || [ -n "$(find "$dir/ready" -mmin +1440)" ]; then
		mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/parts"
		# shellcheck disable=SC2016 # apt's own variables
		uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -E '/debian/?$' | head -n 1)
		[ -n "$uri" ] || die "apt on this machine knows no Debian archive"
		[ -e "$keyring" ] || die "$keyring is missing: install debian-archive-keyring"
		codename=$(. /etc/os-release; echo "$VERSION_CODENAME")
		# shellcheck disable=SC2016
		{
			apt-get indextargets --format "deb [signed-by=$keyring] \$(REPO_URI) \$(RELEASE) main" \
				'Created-By: Packages' 'Component: main' | grep -E '/debian(-security)?/? '
			for suite in "$codename-backports" trixie-backports; do
				echo "deb [signed-by=$keyring] $uri $suite main"
			done
		} | sort -u >"$dir/sources.list"
		cat >"$dir/apt.conf" <<-END
			Dir::Etc::SourceList "$dir/sources.list";
			Dir::Etc::SourceParts "$dir/parts";
			Dir::Etc::Preferences "/dev/null";
			Dir::Etc::PreferencesParts "$dir/parts";
			Dir::State::Lists "$dir/lists";
			Dir::Cache "$dir/cache";
			APT::Sandbox::User "root";
		END
		if APT_CONFIG=$dir/apt.conf apt-get -q update >"$dir/update.log" 2>&1; then
			touch "$dir/ready"
		elif [ ! -e "$dir/ready" ]; then
			cat "$dir/update.log" >&2
			die "cannot read the package lists of the backports suites"
		fi
	fi
	APT_CONFIG=$dir/apt.conf "$@"
}
