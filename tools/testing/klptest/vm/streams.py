# SPDX-License-Identifier: GPL-2.0
"""Streams of the guest that end with a mark, and messages of the runner's own."""

import os
import selectors
import sys


class MarkedStream:
    """Copies a guest's stream to a file descriptor up to an end mark, which may come in pieces."""

    def __init__(self, fd: int, mark: bytes) -> None:
        self.fd = fd
        self.mark = mark
        self.held = b""
        self.ended = False

    def feed(self, data: bytes) -> None:
        """Write out what cannot be part of the mark; drop what comes after it."""
        if self.ended:
            return
        data = self.held + data
        at = data.find(self.mark)
        if at >= 0:
            self.ended = True
            keep = len(data) - at
        else:
            keep = next((n for n in range(min(len(self.mark) - 1, len(data)), 0, -1)
                         if data.endswith(self.mark[:n])), 0)
        self.held = data[len(data) - keep:]
        write_all(self.fd, data[:len(data) - keep])

    def flush(self) -> None:
        """The stream broke off: what looked like the beginning of the mark was not."""
        if not self.ended:
            write_all(self.fd, self.held)
            self.held = b""


def write_all(fd: int, data: bytes) -> None:
    """Write everything; descriptors that others made non-blocking are waited for."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view):]
        except BlockingIOError:
            with selectors.DefaultSelector() as selector:
                selector.register(fd, selectors.EVENT_WRITE)
                selector.select()


def say(text: str) -> None:
    """A message of this program's own."""
    sys.stderr.write(f"vm: {text}\n")
    sys.stderr.flush()
