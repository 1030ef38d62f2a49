# SPDX-License-Identifier: GPL-2.0
"""What programs share that run a part of themselves in the virtual machine."""

import json
import os
import subprocess
from pathlib import Path
from typing import Dict, Iterator

TOP = Path(__file__).resolve().parents[2]


def events(timeout: int, *command: object) -> Iterator[Dict]:
    """Boot, run a command, and yield what it reports, a JSON object a line; at last the machine's status."""
    words = [TOP / "scripts" / "vm", "--timeout", timeout, *os.environ.get("VM_OPTIONS", "").split(), "--", *command]
    with subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          text=True) as process:
        assert process.stdout
        for line in process.stdout:
            yield json.loads(line)
    yield {"machine": process.returncode}
