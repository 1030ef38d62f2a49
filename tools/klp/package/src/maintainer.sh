# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# shellcheck disable=SC2154 # the values are assigned below
#
# The patches are loaded when they are installed, if the machine runs their kernel. At its later
# boots klp loads them from their directory, where the package has put them.
#
# A patch that cannot be loaded does not make the installation fail: the patch is in place for the
# next boot, other packages go on, and the machine is as it was. What keeps boots from loading it is
# said. A patch that cannot be taken off does make the removal fail: nobody would know of it any
# more.

say() { echo "$package: $*" >&2; }

# Whether this is a running machine with the kernel. It is not in a container, where the PID
# namespace is not the first, whose number the kernel has fixed, and not in the tree of an image.
is_running() {
	[ "$(uname -r)" = "$kernel" ] &&
		[ "$(readlink /proc/self/ns/pid)" = 'pid:[4026531836]' ] &&
		[ "$(stat -Lc %d:%i /)" = "$(stat -Lc %d:%i /proc/1/root 2>/dev/null)" ]
}

is_loaded() { [ -e "/sys/module/$1" ]; }

# take_off_one PATCH: its module may stay in use, such as after a transition that was forced.
take_off_one() {
	is_loaded "$1" || return 0
	{ complaints=$(klp unload "$1" 2>&1 >&3 </dev/null) && status=0 || status=$?; } 3>&1
	[ -z "$complaints" ] || echo "$complaints" >&2
	case $status:$complaints in
	0:*) return ;;
	*"(refcnt)"*) is_off "$1" || return ;;
	*) return 1 ;;
	esac
	say "the module $1 stays loaded, without effect"
}

# Old kernels still have what is disabled.
is_off() {
	for file in enabled transition; do
		file=/sys/kernel/livepatch/$1/$file
		[ ! -e "$file" ] || [ "$(cat "$file")" = 0 ] || return
	done
}

# obstacle PATCH: prints why boots of the kernel do not load it from the package, if they do not.
# dpkg has seen to klp; the administrator has where there is no rpm of it. What the administrator
# has installed comes first; its file may have dashes in its name.
obstacle() {
	if ! command -v klp >/dev/null; then
		echo "there is no klp (livepatch's README.md says how to install it)"
	elif [ -d /run/systemd/system ] &&
		! systemctl --quiet is-enabled klp.service 2>/dev/null; then
		echo "klp.service is not enabled"
	elif name=$(echo "$1" | sed 's/_/[-,_]/g').ko &&
		other=$(find "/var/lib/klp/$kernel" -name "$name" 2>/dev/null) && [ -n "$other" ]; then
		echo "$other comes first; \"klp uninstall -k $kernel $1\" removes that"
	fi
}

# The new version comes first: when it has replaced the other ones, these are only unloaded, and
# those that it has not replaced are disabled when it is below or above them. No task is without
# a patch in between.
put_on() {
	failed=
	for patch in $patches; do
		file=/usr/lib/klp/$kernel/$patch.ko
		if [ -z "$failed" ] && is_running && ! klp load "$file"; then
			failed=$patch
		fi
		echo "installing $file ($kernel)"
		obstacle=$(obstacle "$patch")
		[ -z "$obstacle" ] || say "no boot of $kernel loads $file: $obstacle"
	done
	if [ -n "$failed" ]; then
		again="the next boot of $kernel tries it again, and so does"
		[ -z "$(obstacle "$failed")" ] || again="what tries it again is"
		say "the patch is not loaded, and what was loaded before stays;" \
			"$again: klp load /usr/lib/klp/$kernel/$failed.ko"
	elif is_running && [ -e "$others" ]; then
		unload_others || say "another version of the patch is still loaded"
	fi
}

unload_others() {
	while read -r patch; do
		case " $patches " in *" $patch "*) continue ;; esac
		take_off_one "$patch" || return
	done <"$others"
	rm -f "$others"
}

# Another version of the package comes. It will not know what this one was.
hand_over() {
	is_running || return 0
	mkdir -p "${others%/*}"
	for patch in $patches; do
		! is_loaded "$patch" || echo "$patch" >>"$others"
	done
}

take_off() {
	is_running || return 0
	unload_all || { say "the patch cannot be taken off, and so the package stays"; return 1; }
}

unload_all() {
	newest_first=
	for patch in $patches; do
		newest_first="$patch $newest_first"
	done
	for patch in $newest_first; do
		take_off_one "$patch" || return
	done
	[ ! -e "$others" ] || unload_others
}
