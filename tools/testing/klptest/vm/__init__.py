# SPDX-License-Identifier: GPL-2.0
"""The virtual machine runner, scripts/vm.

virtme-ng composes the machine: virtme-run finds out how a kernel boots on this machine's root file
system, and brings the init of the guest. The rest is here for what its own front end, vng 1.42,
does not give where there is no terminal, as in a test: `vng -r bzImage --disable-kvm -- 'exit 7'`
ended with status 255 and printed nothing, with and without `script` around it. What tests need:

* The command's own exit status, apart from one for a kernel that died, complained, or took too
  long.
* Standard output and standard error, byte for byte and apart from each other and from the kernel's
  log.
* The kernel's log as a whole, searched for reports, whatever the command returned.
* The end of the machine as soon as the command has ended, and also if this program is killed.
"""
