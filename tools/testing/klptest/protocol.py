# SPDX-License-Identifier: GPL-2.0
"""How a program talks to the part of itself in the virtual machine: a JSON object a line."""

import json
import os
import subprocess
from typing import Any, Dict, Iterator

from .paths import TOP


def report(**event: object) -> None:
    """The guest's side: tell the host."""
    print(json.dumps(event), flush=True)


def events(timeout: int, *command: object) -> Iterator[Dict[str, Any]]:
    """Boot, run a command, and yield what it reports; at last the machine's status."""
    options = ["--timeout", timeout, *os.environ.get("VM_OPTIONS", "").split()]
    words = [TOP / "scripts" / "vm", *options, "--", *command]
    with subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            yield json.loads(line)
    yield {"machine": process.returncode}
