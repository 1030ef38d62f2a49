# SPDX-License-Identifier: GPL-2.0
"""The part that runs inside: how the command is started, and what it sees of the machine's files."""

import os
import re
import shlex
from pathlib import Path
from typing import List, Sequence

# The directories of the root that the guest has its own of.
OWN_DIRECTORIES = frozenset(("proc", "sys", "dev", "run", "lost+found"))

# Runs in the guest as virtme's script, in whatever shell sh is. It is on the kernel's command line, so it must be
# short: it finds the ports (there may be no udev, which would make links), and runs the real script, which comes
# through one of them.
BOOTSTRAP = """\
export vm_out vm_err vm_ctl
until [ "$vm_out" -a "$vm_err" -a "$vm_ctl" ];do
for n in /sys/class/virtio-ports/*/name;do
d=${n%/*} x=;read -r x<$n;case $x in vm_*)eval $x=/dev/${d##*/};;esac
done
done
exec 3<>$vm_ctl
until s=$(head -cSIZE<&3);[ "$s" ];do :;done
exec bash -c "$s" vm
"""

# The ports take one opener and COMMAND may open /dev/stdout: so COMMAND writes to pipes. The mark goes through them
# after everything that COMMAND wrote, and likewise through the kernel log; programs left in the background do not
# delay the end.
GUEST = """\
exec 6> >(exec cat >"$vm_out") 7> >(exec cat >"$vm_err")
for v in $(compgen -e); do [[ $v = HOME ]] || unset "$v"; done
export PATH=@PATH@ HOME=${HOME:-/root} LANG=C.UTF-8
[[ -e /sys/kernel/tracing/trace || ! -e /sys/kernel/tracing ]] || mount -t tracefs tracefs /sys/kernel/tracing
# Virtme puts empty directories over these; one that is busy holds a directory of --rw.
umount $(sed -n 's,^[^ ]* \\(/var/[^ ]*\\) tmpfs .*,\\1,p' /proc/mounts) 2>/dev/null
if cd -- @CWD@ 2>/dev/null; then
	(exec 3>&- 6>&- 7>&-; exec @COMMAND@) </dev/null >&6 2>&7
	s=$?
else
	s=nocwd
fi
trap '' PIPE
printf @MARK@ >&6
printf @MARK@ >&7
@SYNC@
echo '<6>vm: end @MARK@' >/dev/kmsg
echo "$s" >&3
read -r -u 3
"""


def guest_script(command: Sequence[str], cwd: str, path: str, mark: str, sync: bool) -> str:
    """The shell text that the guest runs."""
    values = {"COMMAND": shlex.join(command), "CWD": shlex.quote(cwd), "PATH": shlex.quote(path),
              "MARK": mark, "SYNC": "sync" if sync else ""}
    return re.sub(r"@([A-Z]+)@", lambda match: values[match[1]], GUEST)


def guest_path(host_path: str) -> str:
    """The search path of this program's user, and what root needs."""
    path = [p for p in host_path.split(":") if p.startswith("/")]
    for standard in ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"):
        if standard not in path:
            path.append(standard)
    return ":".join(path)


def overlay_directories(root: Path) -> List[str]:
    """The directories of the root that become copy on write in the guest."""
    return [f"/{entry.name}" for entry in sorted(root.iterdir())
            if entry.is_dir() and not entry.is_symlink() and entry.name not in OWN_DIRECTORIES
            and re.fullmatch(r"[\w.+-]+", entry.name) and os.access(entry, os.R_OK | os.X_OK)]
