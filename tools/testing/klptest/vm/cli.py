# SPDX-License-Identifier: GPL-2.0
"""The command scripts/vm: runs a machine and turns what happened into an exit status."""

import argparse
import contextlib
import os
import secrets
import shlex
import signal
import tempfile
import time
from pathlib import Path
from typing import BinaryIO, Iterator, NoReturn, Optional, Sequence, Tuple

from .guest import BOOTSTRAP, guest_path, guest_script
from .log import complaints, emulator_is_to_blame, report_complaints
from .machine import Machine
from .options import parse_arguments
from .streams import say
from .virtme import Failure, check_kvm, default_kernel, kernel_arguments, virtme_command

EXIT_EMULATOR = 123
EXIT_TIMEOUT = 124
EXIT_COMPLAINT = 125
EXIT_NO_STATUS = 126

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

TAIL_LINES = 20


class Interrupted(BaseException):
    """A signal asks this program to end. Not an Exception, so that nothing but the clean-up gets in its way."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class TimeUp(BaseException):
    """The time limit is reached."""


def raise_interrupted(signum: int, _frame: object) -> NoReturn:
    """Signal handler; nothing disturbs the clean-up that follows."""
    for ending in ENDING_SIGNALS:
        signal.signal(ending, signal.SIG_IGN)
    raise Interrupted(signum)


def raise_time_up(_signum: int, _frame: object) -> NoReturn:
    """Signal handler."""
    raise TimeUp


def run(args: argparse.Namespace, log: BinaryIO, scratch: Path) -> int:
    """Run the machine; the result is the exit status."""
    kernel = args.kernel or default_kernel()
    if args.kvm:
        check_kvm()
    mark = "vm-" + secrets.token_hex(16)
    script = os.fsencode(guest_script(args.command, os.getcwd(), guest_path(os.environ.get("PATH", "")), mark,
                                      bool(args.rw)))
    # Virtme's init would run systemd-tmpfiles, which takes a quarter of the time that the machine needs to start.
    shadow = scratch / "bin"
    shadow.mkdir()
    (shadow / "systemd-tmpfiles").symlink_to("/bin/true")
    # The programs of an initramfs are in /bin.
    options = kernel_arguments([f"PATH={shlex.quote(str(shadow))}:/bin", *args.append],
                               BOOTSTRAP.replace("SIZE", str(len(script))))
    command = virtme_command(args, kernel, options, scratch)
    command += ["-no-reboot"]
    if args.icount:
        command += ["-icount", "shift=0,sleep=off"]
    command += [word for text in args.qemu for word in shlex.split(text)]
    if args.verbose:
        say(shlex.join(command))

    start = time.monotonic()
    time_up = False
    machine = Machine(command, script, mark.encode(), log, args.console)
    try:
        signal.setitimer(signal.ITIMER_REAL, args.timeout)
        machine.run()
    except TimeUp:
        time_up = True
    finally:
        # Whatever else arrives, the machine is ended first.
        signal.setitimer(signal.ITIMER_REAL, 0)
        with contextlib.suppress(OSError):
            if machine.status is None:
                for stream in machine.streams.values():
                    stream.flush()
        qemu_status = machine.end()
    if args.verbose:
        say(f"the machine ran for {time.monotonic() - start:.1f} s")

    log.seek(0)
    text = log.read().decode(errors="replace")
    reports = complaints(text)
    if reports and not args.allow_warnings:
        report_complaints(reports)
        if time_up:
            say(f"the time limit of {args.timeout} s was reached")
        if emulator_is_to_blame(reports):
            say("QEMU ran a breakpoint that the kernel had replaced by then; the kernel is not to blame")
            return EXIT_EMULATOR
        return EXIT_COMPLAINT
    last_lines = "the console's last lines:\n    " + "\n    ".join(text.splitlines()[-TAIL_LINES:])
    if time_up:
        say(f"the time limit of {args.timeout} s was reached; {last_lines}")
        return EXIT_TIMEOUT
    if machine.status is None:
        qemu_said = machine.qemu_said.decode(errors="replace").strip()
        report_complaints(reports)
        say(f"the machine ended without reporting the command's status (QEMU's was {qemu_status}); "
            f"{qemu_said or last_lines}")
        return EXIT_NO_STATUS
    if machine.status.strip() == "nocwd":
        say("the current directory does not exist in the machine (a directory in /run or another one "
            "that is the guest's own?): share it with --rw")
        return EXIT_NO_STATUS
    if not all(stream.ended for stream in machine.streams.values()):
        say("the command's output broke off: the programs that carry it were killed in the guest")
        return EXIT_NO_STATUS
    return int(machine.status)


@contextlib.contextmanager
def open_log(path: Optional[Path]) -> Iterator[Tuple[BinaryIO, Path]]:
    """The file for the kernel's log: the user's, or a temporary one, which is left to the caller to remove."""
    if path:
        with open(path, "wb+") as log:
            yield log, path
    else:
        fd, name = tempfile.mkstemp(prefix="vm-", suffix=".log")
        with os.fdopen(fd, "wb+") as log:
            yield log, Path(name)


def main(argv: Sequence[str]) -> int:
    """The program."""
    args = parse_arguments(argv)
    status = 0
    try:
        for signum in ENDING_SIGNALS:
            signal.signal(signum, raise_interrupted)
        signal.signal(signal.SIGALRM, raise_time_up)
        with open_log(args.log) as (log, log_path), tempfile.TemporaryDirectory(prefix="vm-") as scratch:
            keep = bool(args.log)
            try:
                status = run(args, log, Path(scratch))
                if status in (EXIT_EMULATOR, EXIT_TIMEOUT, EXIT_COMPLAINT, EXIT_NO_STATUS):
                    keep = True
                    say(f"the kernel's log is in {log_path}")
            finally:
                if not keep:
                    log_path.unlink()
    except Failure as failure:
        say(str(failure))
        status = EXIT_NO_STATUS
    except Interrupted as interrupted:
        status = 128 + interrupted.signum
    except BrokenPipeError:
        # Nobody reads the output any more.
        status = 128 + signal.SIGPIPE
    except OSError as error:
        say(str(error))
        status = EXIT_NO_STATUS
    return status
