# SPDX-License-Identifier: GPL-2.0
"""The virtual machine runner, scripts/vm.

virtme-ng composes the machine: it finds out how a kernel boots on this machine's root file system,
and brings the init of the guest. The rest is here because virtme-ng 1.42 does not do it:

* The streams. Its script support puts the command's output on a port for standard output and one
  for standard error, but needs a terminal or files that can be opened by name on this side, and
  without udev falls back to the serial console, where the kernel's log is mixed in.
* The exit status. It travels through a file that the guest writes; a kernel that dies before leaves
  status 0 or 255 of QEMU, which cannot be told from the command's.
* The kernel's log. That a WARNING makes a run fail, a time limit, and an end of the machine as soon
  as the command has ended are all outside of its scope.
"""
