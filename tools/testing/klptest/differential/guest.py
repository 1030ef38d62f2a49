# SPDX-License-Identifier: GPL-2.0
"""The part that runs in the virtual machine: does operations on a core and reports what it sees."""

import errno
import os
import re
import select
import subprocess
import time
from pathlib import Path
from typing import Callable, Container, Dict, Iterator, List, Sequence, Tuple

from ..modules import delete_module, init_module
from ..paths import TOP
from ..protocol import report
from . import replay
from .model import LIVEPATCH, PATCHES, TARGETS, Operation, plan

MODULES = TOP / "tools" / "testing" / "modules"
CORES = ("C", "Rust")
# Files that the built-in core does not have.
RUST_CORE_ONLY = {"blockers", "direct", "remaining"}

# Depends on time; comes once in a boot; is what the module loader says of a positive result, which
# is compared itself. What the Rust core says when it is loaded and unloaded is not within a run.
IGNORED = re.compile(
    r"livepatch: signaling remaining tasks$|.*\btaint|.*: init suspiciously returned ")


class Stop(Exception):
    """It makes no sense to go on in this boot."""


class Driver:
    """Does operations and sees what comes of them."""

    PATIENCE = 60

    def __init__(self) -> None:
        self.kmsg = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        # Modules that stay for ever occupy their names: those of another generation are used then.
        self.generation = 0
        self.sleepers: Dict[int, "subprocess.Popen[str]"] = {}
        self.complaints: List[str] = []

    def real(self, text: str) -> str:
        """With the names that modules have in this boot."""
        return re.sub(r"klp_diff_p(\d)\b", rf"klp_diff_p{self.generation:02}_\1", text)

    @staticmethod
    def plain(text: str) -> str:
        """With the names that are the same in every boot."""
        return re.sub(r"klp_diff_p\d\d_(\d)", r"klp_diff_p\1", text)

    def image(self, name: str) -> bytes:
        """The file of a module under the name; the name has the same length in all of them."""
        original = MODULES / ("klp_diff_t0.ko" if name in TARGETS else "klp_diff_p00_0.ko")
        return original.read_bytes().replace(original.stem.encode(), name.encode())

    @staticmethod
    def outcome(call: Callable[[], int]) -> str:
        """A system call's result, as a word."""
        try:
            result = call()
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, str(error.errno))
        return str(result) if result else "ok"

    def load(self, name: str, parameters: str) -> str:
        """Load a module."""
        return self.outcome(lambda: init_module(self.image(name), parameters))

    def unload(self, name: str) -> str:
        """Unload a module, without waiting until nobody uses it."""
        return self.outcome(lambda: delete_module(name))

    @staticmethod
    def write(file: str, text: str) -> str:
        """Write to a file."""
        try:
            fd = os.open(file, os.O_WRONLY)
            try:
                os.write(fd, text.encode())
            finally:
                os.close(fd)
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        return "ok"

    @staticmethod
    def read(path: Path) -> str:
        """A file's contents, or why they cannot be read."""
        try:
            return path.read_text(encoding="utf-8", errors="replace").rstrip("\n")
        except OSError as error:
            return errno.errorcode[error.errno or 0]

    def wait(self, what: str, condition: Callable[[], bool]) -> None:
        """Wait until it is so."""
        end = time.monotonic() + self.PATIENCE
        while not condition():
            if time.monotonic() > end:
                self.complaints.append(f"! after {self.PATIENCE} s still not: {what}")
                return
            time.sleep(0.02)

    def messages(self) -> List[str]:
        """The kernel's since the last time."""
        lines = []
        while select.select([self.kmsg], [], [], 0)[0]:
            text = os.read(self.kmsg, 8192).decode(errors="replace").split("\n")[0].split(";", 1)[1]
            if re.match(r"livepatch: |klp_diff_", text) and not IGNORED.match(text):
                lines.append(f"message: {self.plain(text)}")
        return lines

    def modules(self) -> Dict[str, Tuple[int, str]]:
        """The modules of this generation, with references and state."""
        found = {}
        for line in Path("/proc/modules").read_text(encoding="utf-8").splitlines():
            name, _, refs, _, state = line.split()[:5]
            if name.startswith((self.real("klp_diff_p0")[:-1], "klp_diff_t")):
                found[self.plain(name)] = int(refs), state
        return found

    def asleep(self, number: int) -> str:
        """The module in whose function a task sleeps, or nothing."""
        pid = self.sleepers[number].pid
        stack = self.read(Path(f"/proc/{pid}/stack")).splitlines()
        status = self.read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
        match = re.search(r"(?:klp_diff|new)_sleep\+.*\[(\w+)\]", stack[0]) if stack else None
        return self.plain(match[1]) if match and status[:1] in (["I"], ["D"]) else ""

    @staticmethod
    def task_states() -> Dict[int, int]:
        """The patch states of all tasks."""
        states = {}
        for path in Path("/proc").glob("[0-9]*/task/[0-9]*/patch_state"):
            try:
                states[int(path.parent.name)] = int(path.read_text(encoding="ascii"))
            except (OSError, ValueError):
                pass    # The task has ended.
        return states

    def is_settled(self, holders: Sequence[int], stuck: Sequence[str]) -> bool:
        """Whether nothing happens any more, but for what the holders hold up."""
        patches = {self.plain(path.name): path for path in LIVEPATCH.iterdir()}
        moving = [path for path in patches.values() if self.read(path / "transition") != "0"]
        if holders:
            if len(moving) != 1:
                return False
            target = int(self.read(moving[0] / "enabled"))
            pids = {self.sleepers[number].pid for number in holders}
            if {pid for pid, state in self.task_states().items() if state != target} != pids:
                return False
        elif moving:
            return False
        others = [path for path in patches.values() if path not in moving]
        if any(self.read(path / "enabled") != "1" for path in others):
            return False
        return self.are_released(patches, stuck)

    def are_released(self, patches: Container[str], stuck: Sequence[str]) -> bool:
        """Whether the core has given up the modules of all but these patches."""
        return all(refs == 0 for name, (refs, _) in self.modules().items()
                   if name in PATCHES and name not in patches and name not in stuck)

    def tree(self) -> Iterator[str]:
        """All of sysfs below livepatch."""
        for directory, directories, files in os.walk(LIVEPATCH):
            directories.sort()
            for name in sorted({*directories, *files} - RUST_CORE_ONLY):
                path = Path(directory) / name
                try:
                    mode = f"{path.stat().st_mode & 0o7777:04o}"
                except OSError as error:
                    mode = errno.errorcode[error.errno or 0]
                value = "" if name in directories else f" {self.read(path)}"
                yield self.plain(f"sysfs: {path.relative_to(LIVEPATCH)} {mode}{value}")

    def state(self) -> Iterator[str]:
        """Everything else that is compared."""
        modules = self.modules()
        for name, (refs, state) in sorted(modules.items()):
            yield f"module: {name} {refs} {state}"
        for file in "/proc/cmdline", "/proc/version":
            yield f"value: {file} {self.plain(self.read(Path(file)).splitlines()[-1])}"
        for target in TARGETS:
            if target in modules:
                values = self.read(Path(f"/sys/module/{target}/parameters/values"))
                yield f"value: {target} {values}"
        for number, process in sorted(self.sleepers.items()):
            state = self.read(Path(f"/proc/{process.pid}/patch_state"))
            yield f"task: {number} in {self.asleep(number)}, state {state}"
        yield f"task: self, state {self.read(Path('/proc/self/patch_state'))}"

    def do(self, operation: Operation) -> List[str]:
        """One operation; returns what is compared."""
        kind, name, value = (self.real(word) for word in operation.action)
        lines = []
        result = "ok"
        if kind == "load":
            result = self.load(name, value)
            if operation.ok is None and operation.action.name in PATCHES:
                # On the built-in core, the module is loaded though its patch is not enabled.
                self.unload(name)
        elif kind == "unload":
            result = self.unload(name)
        elif kind == "write":
            result = self.write(name, value)
        elif kind == "sleep":
            self.sleepers[operation.number] = subprocess.Popen(
                ["cat", f"/proc/{name}"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                text=True)
            self.wait(f"task {operation.number} asleep in {operation.place}",
                      lambda: self.asleep(operation.number) == operation.place)
        else:
            self.wake(name)
            for number in operation.awakes:
                process = self.sleepers[number]
                self.wait(f"task {number} awake", lambda: process.poll() is not None)
                if process.poll() is not None:
                    del self.sleepers[number]
                    lines.append(f"task: {number} " + self.plain(process.communicate()[0].strip()))
        what = "result of a positive callback" if operation.ok is None else "result"
        lines.insert(0, f"{what}: {result}")
        if operation.ok is not None and operation.ok != (result == "ok"):
            self.complaints.append(f"! expected to {'succeed' if operation.ok else 'fail'}")
        self.wait(f"held up by {operation.holders}" if operation.holders else "settled",
                  lambda: self.is_settled(operation.holders, operation.stuck))
        lines += self.messages()
        lines += self.tree()
        lines += self.state()
        lines += self.complaints
        self.complaints.clear()
        return lines

    def wake(self, name: str) -> None:
        """Wake the tasks that sleep in a module."""
        parameter = f"/sys/module/{name}/parameters/wake"
        self.write(f"/proc/{name}" if name in TARGETS else parameter, "1")

    def clean(self, stuck: Sequence[str]) -> None:
        """Leave nothing behind, even if a core did not do what was expected."""
        for number, process in self.sleepers.items():
            self.wait(f"task {number} gone", lambda: self.wake_any(process))
        self.sleepers.clear()
        for patch in LIVEPATCH.iterdir():
            self.write(f"{patch}/enabled", "0")
            self.wait(f"{patch.name} gone", lambda: not patch.exists())
        self.wait("modules released", lambda: self.are_released((), stuck))
        for name, (refs, _) in self.modules().items():
            if refs == 0:
                self.unload(self.real(name))
        left = [name for name in self.modules() if name not in stuck]
        if left or self.complaints:
            raise Stop("cannot clean up: " + ", ".join((*left, *self.complaints)))
        self.generation += bool(stuck)

    def wake_any(self, process: "subprocess.Popen[str]") -> bool:
        """Whether a task has ended; else it is woken, wherever it sleeps."""
        for name in self.modules():
            self.wake(self.real(name))
        return process.poll() is not None


def show_debug_messages() -> None:
    """Those of livepatch too, but not for each task."""
    with open("/sys/kernel/debug/dynamic_debug/control", "w", encoding="ascii") as control:
        for line in "file kernel/livepatch/* +p", "func klp_try_switch_task -p":
            control.write(line + "\n")
            control.flush()


def main(runs: Path) -> None:
    """Does runs, one a line of the file, on both cores. Prints JSON objects, one a line."""
    subprocess.run(["mount", "-t", "debugfs", "debugfs", "/sys/kernel/debug"], check=False,
                   stderr=subprocess.DEVNULL)
    plans = [plan(replay.parse(line)) for line in runs.read_text(encoding="ascii").splitlines()]
    driver = Driver()
    for core in CORES:
        if core == "Rust":
            subprocess.run(["insmod", TOP / "livepatch.ko"], check=True)
        show_debug_messages()
        for run, operations in enumerate(plans):
            driver.messages()
            start = time.monotonic()
            for operation in operations:
                lines = driver.do(operation)
                report(core=core, run=run, lines=lines)
                if any(line.startswith("! ") for line in lines):
                    break
            try:
                driver.clean(operations[-1].stuck)
            except Stop as stop:
                report(core=core, run=run, stop=str(stop))
                return
            report(core=core, run=run, seconds=time.monotonic() - start)
    subprocess.run(["rmmod", "livepatch"], check=True)
