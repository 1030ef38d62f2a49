# SPDX-License-Identifier: GPL-2.0
"""Run a command under the test kernel, in a virtual machine on top of this machine's file system.

The machine's files are visible inside at the same paths, copy on write: what COMMAND changes is gone afterwards,
except in the directories given with --rw. What changes on this machine meanwhile may not be seen, except there.
Not visible are /dev, /proc, /run and /sys, which are the guest's own,
and /lib/modules, where only the modules of its kernel are. COMMAND runs as root in the current directory, with
nothing on its standard input; its standard output and standard error arrive here byte for byte, as they are written.

exit status:
  N    COMMAND's own status (128 + N when a signal ended it, 127 when it was not found)
  123  QEMU lost a race with the kernel's changes of its own text, seldom when the machine is busy: COMMAND may be
       run again
  124  the time limit was reached
  125  the kernel complained in its log (BUG, WARNING, Oops, panic, lockup, stall, hung task, KASAN, lockdep, ...),
       whatever else happened; the reports are printed. With --allow-warnings they do not count. KCSAN's data
       races only count if they are of a module: the kernel itself has some. Nor does a warning of the
       built-in core with PREEMPT_RT and lockdep, in klp_check_stack().
  126  the machine could not be started, or ended without reporting COMMAND's status
  128 + N  signal N ended this program

The kernel's log is kept, and its path printed, when the status is one of 123, 124, 125 and 126; --log always keeps it.
"""

import argparse
from pathlib import Path
from typing import Sequence

from .virtme import BUILT_IMAGE


def positive(text: str) -> int:
    """argparse type: a number above zero."""
    value = int(text)
    if value <= 0:
        raise ValueError
    return value


def directory(text: str) -> Path:
    """argparse type: an existing directory, as an absolute path."""
    path = Path(text).resolve()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is not a directory")
    return path


def kernel_location(text: str) -> Path:
    """argparse type: a kernel build directory or a kernel image."""
    path = Path(text).resolve()
    if not path.is_file() and not (path / BUILT_IMAGE).is_file():
        raise argparse.ArgumentTypeError(f"{text} is neither a kernel image nor a directory with a built kernel")
    return path


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line; exits with status 2 when it is wrong."""
    parser = argparse.ArgumentParser(
        prog="vm", description=__doc__, usage="vm [options] [--] COMMAND [ARGUMENT]...",
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--kernel", type=kernel_location, metavar="PATH",
                        help="kernel build directory, or image with its modules in lib/modules of the same tree "
                             "(default: the one of scripts/kernel, prepared if need be)")
    parser.add_argument("--cpus", type=positive, default=2, metavar="N", help="processors (default 2)")
    parser.add_argument("--memory", default="1G", metavar="SIZE", help="memory (default 1G)")
    parser.add_argument("--timeout", type=positive, default=600, metavar="SECONDS",
                        help="time limit, from the start of the machine (default 600)")
    parser.add_argument("--append", action="append", default=[], metavar="ARGS",
                        help="more kernel options; may be repeated")
    parser.add_argument("--qemu", action="append", default=[], metavar="ARGS",
                        help="more QEMU options, split as a shell does; may be repeated (--qemu='-device foo')")
    parser.add_argument("--rw", action="append", default=[], type=directory, metavar="DIR",
                        help="let COMMAND really write to this directory; may be repeated")
    parser.add_argument("--log", type=Path, metavar="FILE", help="keep the kernel's log in this file")
    parser.add_argument("--console", action="store_true", help="also copy the kernel's log to standard error, live")
    parser.add_argument("--allow-warnings", action="store_true", help="do not fail when the kernel complained")
    parser.add_argument("--icount", action="store_true",
                        help="let the guest's clock count instructions: one processor, repeatable timing")
    parser.add_argument("--kvm", action="store_true",
                        help="use hardware virtualisation (nested, it may be slower than emulation)")
    parser.add_argument("--verbose", action="store_true", help="say what is run and how long it took")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    args = parser.parse_args(argv)
    if args.command[:1] == ["--"]:
        del args.command[0]
    if not args.command:
        parser.error("no COMMAND given")
    if args.icount and args.kvm:
        parser.error("--icount needs emulation, it does not go with --kvm")
    if args.icount:
        args.cpus = 1
    return args
