# SPDX-License-Identifier: GPL-2.0
"""A running virtual machine."""

import ctypes
import os
import selectors
import signal
import socket
import subprocess
import time
from typing import BinaryIO, Dict, List, Optional, Sequence

from .streams import MarkedStream, write_all


def ports(fds: Dict[str, int]) -> List[str]:
    """QEMU options: a serial port for each of the sockets, known to the guest by its name."""
    options = ["-device", "virtio-serial-pci,id=vm_serial"]
    for name, fd in fds.items():
        options += ["-chardev", f"socket,id={name},fd={fd}",
                    "-device", f"virtserialport,bus=vm_serial.0,chardev={name},name={name}"]
    return options


def die_with_parent() -> None:
    """In the child: end when this program is killed and can no longer clean up."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


class Machine:
    """A running virtual machine and the streams that connect it with this program."""

    # For what must follow at once when the command has ended.
    GRACE = 10.0

    def __init__(self, command: Sequence[str], script: bytes, mark: bytes, log: BinaryIO, console: bool) -> None:
        self.log = log
        self.console = console
        self.mark = mark
        self.log_tail = b""
        self.log_ended = False
        self.qemu_said = b""
        self.status: Optional[str] = None
        self.streams = {"vm_out": MarkedStream(1, mark), "vm_err": MarkedStream(2, mark)}
        self.selector = selectors.DefaultSelector()
        self.sockets: List[socket.socket] = []
        fds: Dict[str, int] = {}
        theirs: List[socket.socket] = []
        for name in ("vm_out", "vm_err", "vm_ctl"):
            our_end, their_end = socket.socketpair()
            self.sockets.append(our_end)
            theirs.append(their_end)
            fds[name] = their_end.fileno()
            self.selector.register(our_end, selectors.EVENT_READ, name)
        # The guest fetches the script when it is up; a large one does not fit into the socket until then.
        self.script = script
        control = self.sockets[2]
        control.setblocking(False)
        self.selector.modify(control, selectors.EVENT_READ | selectors.EVENT_WRITE, "vm_ctl")
        self.process = subprocess.Popen(
            [*command, *ports(fds)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            pass_fds=list(fds.values()), start_new_session=True, preexec_fn=die_with_parent)
        for their_end in theirs:
            their_end.close()
        assert self.process.stdout and self.process.stderr
        self.selector.register(self.process.stdout, selectors.EVENT_READ, "log")
        self.selector.register(self.process.stderr, selectors.EVENT_READ, "qemu")

    def run(self) -> None:
        """Pass everything on until the command has ended and all of its output is here, or the machine ended."""
        deadline: Optional[float] = None
        while not self.finished():
            if self.status is not None and deadline is None:
                deadline = time.monotonic() + self.GRACE
            wait = None if deadline is None else deadline - time.monotonic()
            if wait is not None and wait <= 0:
                break
            for key, events in self.selector.select(wait):
                self.handle(key, events)

    def finished(self) -> bool:
        """Whether nothing more is to come."""
        if not self.selector.get_map():
            return True
        return self.status is not None and self.log_ended and all(s.ended for s in self.streams.values())

    def handle(self, key: selectors.SelectorKey, events: int) -> None:
        """Something happened on one of the streams."""
        if events & selectors.EVENT_WRITE:
            self.send_script()
        if not events & selectors.EVENT_READ:
            return
        try:
            data = os.read(key.fd, 1 << 16)
        except ConnectionResetError:
            data = b""
        if not data:
            self.selector.unregister(key.fileobj)
        elif key.data == "log":
            self.take_log(data)
        elif key.data == "qemu":
            self.qemu_said += data
        elif key.data == "vm_ctl":
            self.status = (self.status or "") + data.decode()
        else:
            self.streams[key.data].feed(data)

    def send_script(self) -> None:
        """Hand the guest as much of the script as it takes."""
        control = self.sockets[2]
        try:
            self.script = self.script[control.send(self.script):]
        except BrokenPipeError:
            self.script = b""
        if not self.script:
            self.selector.modify(control, selectors.EVENT_READ, "vm_ctl")

    def take_log(self, data: bytes) -> None:
        """Some of the kernel's log; the line that says that the rest is no longer of interest is not part of it."""
        data = data.replace(b"\r", b"")
        self.log_ended = self.log_ended or self.mark + b"\n" in self.log_tail + data
        self.log_tail = (self.log_tail + data)[-len(self.mark):]
        self.log.write(data)
        if self.console:
            write_all(2, data)

    def end(self) -> int:
        """End the machine if it still runs, and take what it left; the result is QEMU's exit status."""
        # The guest has nothing more to write: what is written in --rw directories is on the host already, and an
        # orderly shutdown would only take time.
        ended_by_itself = not self.selector.get_map()
        if not ended_by_itself:
            self.process.kill()
        status = self.process.wait()
        for sock in self.sockets:
            sock.close()
        for stream in (self.process.stdout, self.process.stderr):
            if stream:
                stream.close()
        self.selector.close()
        self.log.flush()
        return status if ended_by_itself else 0
