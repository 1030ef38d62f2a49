# SPDX-License-Identifier: GPL-2.0
"""The virtual machine runner, scripts/vm.

virtme-ng composes the machine: virtme-run finds out how a kernel boots on this machine's root file
system, and brings the init of the guest. The rest is here for what its own front end, vng 1.42,
does not give on a machine without udev: its init looks for the ports that carry the command's
output and status by the links that udev makes ("cannot find script I/O ports"), and falls back to
the console. `vng -r bzImage --disable-kvm -- 'echo o; exit 7'` ran the command, but printed nothing
and ended with status 255, in a terminal and without one. That is also its status for a kernel that
panicked, and it has no time limit. What tests need:

* The command's own exit status, apart from one for a kernel that died, complained, or took too
  long.
* Standard output and standard error, byte for byte and apart from each other and from the kernel's
  log.
* The kernel's log as a whole, searched for reports, whatever the command returned.
* The end of the machine as soon as the command has ended, and also if this program is killed.
"""
