#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Measure the livepatch cores, in the virtual machine. tools/testing/bench/bench starts this.

usage: driver.py PLAN      where PLAN is a report.Plan in JSON

Results go to standard output, one JSON object a line; progress goes to standard error.
"""

import contextlib
import dataclasses
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Set, Tuple

# The package beside this directory.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import report
from klptest import protocol
from klptest.modules import delete_module, init_module
from report import Figure, Plan

TOP = Path(__file__).resolve().parents[3]
LIVEPATCH = Path("/sys/kernel/livepatch")
TRACING = Path("/sys/kernel/tracing")

START = time.monotonic()

# Between two looks at a file in sysfs: one hundredth of the time that has passed, but at least this. Not shorter, since
# the core needs a processor too, and every sleep of the guest costs the emulator time of a third one.
POLL_SECONDS = 0.0002

# System calls of other architectures and for 32-bit programs, and a few that nobody here makes: no program notices
# that they are patched, and no task sleeps in them.
UNUSED_SYSCALL = re.compile(
    r"__x64_sys_(?:\w+(?:16|_time32|time32)|(?:s390|spu|pciconfig|mq|timer|io|kexec|keyctl|landlock|process)_\w+|"
    r"(?:old|msg|sem|shm|swap|vm86|sched_set|sched_rr|ioprio|fanotify)\w*)")


class Timeout(Exception):
    """What was waited for did not happen."""


def say(text: str) -> None:
    """Progress."""
    print(f"[{time.monotonic() - START:4.0f} s] {text}", file=sys.stderr, flush=True)


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 1200) -> None:
    """Until the condition holds."""
    start = time.monotonic()
    while not condition():
        passed = time.monotonic() - start
        if passed > seconds:
            raise Timeout(what)
        time.sleep(max(POLL_SECONDS, passed / 100))


class KernelLog:
    """The kernel's log, from which the times are known at which a core began and ended a transition."""

    def __init__(self) -> None:
        self.file = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)

    def skip(self) -> None:
        """What is there by now is not looked at."""
        os.lseek(self.file, 0, os.SEEK_END)

    def transition(self, patch: str, verb: str) -> float:
        """How long the patch's last transition took since then; the verb is "patching" or "unpatching"."""
        times = {}
        with contextlib.suppress(BlockingIOError):
            while record := os.read(self.file, 8192).decode(errors="replace"):
                head, _, text = record.partition(";")
                times[text.partition("\n")[0]] = int(head.split(",")[2])
        start = times[f"livepatch: '{patch}': starting {verb} transition"]
        return (times[f"livepatch: '{patch}': {verb} complete"] - start) / 1e6


class Modules:
    """Kernel modules: their files, read in advance so that reading them is not measured, and what is loaded."""

    def __init__(self, directories: Sequence[Path]) -> None:
        self.directories = directories
        self.images: Dict[str, bytes] = {}
        self.loaded: List[str] = []

    def prepare(self, name: str) -> bytes:
        """The contents of the module's file."""
        if name not in self.images:
            path = next(path for path in (d / f"{name}.ko" for d in self.directories) if path.exists())
            self.images[name] = path.read_bytes()
        return self.images[name]

    def load(self, name: str, parameters: str = "") -> float:
        """Load it; the result is the time that the system call took."""
        image = self.prepare(name)
        start = time.monotonic()
        init_module(image, parameters)
        duration = time.monotonic() - start
        self.loaded.append(name)
        return duration

    @staticmethod
    def unused(name: str) -> bool:
        """Whether nobody uses the module."""
        return (Path("/sys/module") / name / "refcnt").read_text() == "0\n"

    def unload(self, name: str) -> float:
        """Unload it as soon as nobody uses it; the result is the time that the system call took."""
        wait_until(lambda: self.unused(name), f"{name} unused")
        start = time.monotonic()
        delete_module(name)
        duration = time.monotonic() - start
        self.loaded.remove(name)
        return duration


def settled(patch: str) -> bool:
    """Whether the patch is enabled and its transition complete."""
    return (LIVEPATCH / patch / "transition").read_text() == "0\n"


def gone(patch: str) -> bool:
    """Whether the patch has been disabled and all traces of it removed."""
    return not (LIVEPATCH / patch).exists()


def slab() -> int:
    """Bytes in the slab allocator, without what it keeps for the next user."""
    for cache in Path("/sys/kernel/slab").iterdir():
        if not cache.is_symlink():
            (cache / "shrink").write_text("1")
    # Each processor counts for itself, up to a limit.
    Path("/proc/sys/vm/stat_refresh").read_text()
    match = re.search(r"^Slab: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    assert match
    return int(match[1]) * 1024


def trampolines() -> int:
    """Pages of executable memory that ftrace has for its users, one or more for each ftrace_ops."""
    with open("/proc/kallsyms") as symbols:
        return sum(line.endswith("[__builtin__ftrace]\n") for line in symbols)


def passes(trace: str) -> List[float]:
    """The durations of the passes over the tasks in a trace of task_call_func().

    A pass looks at each task once, so the next one begins where a task comes again, or another thread goes on.
    """
    result: List[float] = []
    walker = ""
    tasks: Set[str] = set()
    first = last = 0.0

    def finish() -> None:
        if len(tasks) > 1:
            # The last task takes its time too.
            result.append((last - first) * len(tasks) / (len(tasks) - 1))

    for match in re.finditer(r"^ *(\S+-\d+) .* (\d+\.\d+): pass: .* task=(\S+)$", trace, re.MULTILINE):
        if match[1] != walker or match[3] in tasks:
            finish()
            walker = match[1]
            tasks = set()
            first = float(match[2])
        last = float(match[2])
        tasks.add(match[3])
    finish()
    return result


class PassWatch:
    """Finds the longest pass over the tasks: both cores call task_call_func() for each that has not switched yet."""

    def __init__(self) -> None:
        (TRACING / "buffer_size_kb").write_text("8192")
        (TRACING / "kprobe_events").write_text("p:bench/pass task_call_func task=%di\n")
        self.enable = TRACING / "events/bench/pass/enable"

    @contextlib.contextmanager
    def watch(self, report: Callable[[float], None]) -> Iterator[None]:
        """Reports the longest pass at the end, if there was one."""
        (TRACING / "trace").write_text("")
        self.enable.write_text("1")
        try:
            yield
        finally:
            self.enable.write_text("0")
        longest = max(passes((TRACING / "trace").read_text()), default=0.0)
        if longest:
            report(longest)


class Sleeper:
    """A process that sleeps in klp_bench_sleeper()."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(["cat", "/proc/klp_bench_sleep"], stderr=subprocess.DEVNULL)
        stack = Path(f"/proc/{self.process.pid}/stack")
        wait_until(lambda: "klp_bench_sleeper" in stack.read_text(), "asleep")

    def end(self) -> None:
        """Wake it up for good."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def threads(program: Path, sleeping: int, busy: int) -> Iterator[None]:
    """Meanwhile there are that many threads more."""
    if not sleeping and not busy:
        yield
        return
    process = subprocess.Popen([program, str(sleeping), str(busy)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout
        if process.stdout.readline() != b"ready\n":
            raise Timeout("threads ready")
        yield
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def computing(program: Path, count: int) -> Iterator[None]:
    """Meanwhile there is a task that computes on each of the last processors, which have no tick."""
    tickless = Path("/sys/devices/system/cpu/nohz_full").read_text().strip()
    with contextlib.ExitStack() as tasks:
        for processor in report.processors(tickless)[-count:]:
            os.sched_setaffinity(0, {processor})
            tasks.enter_context(threads(program, 0, 1))
        os.sched_setaffinity(0, set(range(os.cpu_count() or 1)) - set(report.processors(tickless)))
        yield


class Driver:
    """Carries out a plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.core = ""
        self.modules = Modules([Path(plan.directory), TOP])
        self.log = KernelLog()
        self.watch: Optional[PassWatch] = None

    def report(self, figure: Figure, value: float) -> None:
        """One measurement."""
        protocol.report(core=self.core, figure=dataclasses.asdict(figure), values=[value])

    def repeat(self, what: str, measure: Callable[[int], None]) -> None:
        """Measure several times, or less often if that takes too long."""
        end = time.monotonic() + self.plan.seconds
        for number in range(self.plan.repeats):
            say(f"{'C' if self.core == 'c' else 'Rust'} core: {what}, {number + 1} of {self.plan.repeats}")
            measure(number)
            if time.monotonic() > end:
                break

    def run(self) -> None:
        """Everything."""
        for core in self.plan.cores:
            self.core = core
            if core == "rust":
                self.modules.load("livepatch")
            try:
                self.run_core()
            finally:
                if core == "rust":
                    with contextlib.suppress(OSError, Timeout):
                        self.modules.unload("livepatch")

    def run_core(self) -> None:
        """Everything with one of the cores."""
        plan = self.plan
        if "functions" in plan.parts:
            for count in plan.counts:
                self.repeat(report.case(Figure("load", count)), partial(self.functions_again, count))
            if self.core == "rust":
                with self.direct():
                    self.repeat("with direct=1", lambda _: self.functions_direct())
        if "vmlinux" in plan.parts:
            names = self.unused_functions()
            self.repeat(report.case(Figure("load", len(names), vmlinux=True)), lambda _: self.vmlinux(names))
        if "threads" in plan.parts:
            self.watch = self.watch or PassWatch()
            for crowd in plan.crowds():
                with threads(Path(plan.directory) / "threads", *crowd[1:]):
                    self.repeat(report.case(Figure("complete", *crowd)), partial(self.crowd_again, crowd))
        if "spinning" in plan.parts:
            self.repeat(report.case(Figure("complete", 1, spinning=plan.spinning)), lambda _: self.spinning())
        if "tickless" in plan.parts:
            with computing(Path(plan.directory) / "threads", plan.tickless):
                self.repeat(report.case(Figure("complete", 1, tickless=plan.tickless)), lambda _: self.tickless())
        if "calls" in plan.parts:
            self.repeat("calls", lambda _: self.calls())
        if "tasks" in plan.parts and plan.task_threads():
            self.repeat("a transition for each task", lambda _: self.tasks())

    def enable(self, patch: str, parameters: str = "", replaced: str = "") -> Tuple[float, float]:
        """Load a patch; the results are how long that took, and until when its transition was complete."""
        self.modules.prepare(patch)
        start = time.monotonic()
        load = self.modules.load(patch, parameters)
        wait_until(lambda: settled(patch), f"{patch} complete")
        if replaced:
            wait_until(lambda: gone(replaced), f"{replaced} gone")
        return load, time.monotonic() - start

    def disable(self, patch: str) -> float:
        """Disable a patch; the result is the time until nothing of it is left."""
        start = time.monotonic()
        (LIVEPATCH / patch / "enabled").write_text("0")
        wait_until(lambda: gone(patch), f"{patch} gone")
        return time.monotonic() - start

    def enable_and_report(self, patch: str, figure: Figure) -> None:
        """Load a patch, and report how long it took until its transition was complete, and the transition."""
        self.log.skip()
        _, complete = self.enable(patch)
        self.report(dataclasses.replace(figure, metric="complete"), complete)
        self.report(dataclasses.replace(figure, metric="transition"), self.log.transition(patch, "patching"))

    def disable_and_report(self, patch: str, figure: Figure) -> None:
        """Disable a patch, and report how long it took until nothing of it was left, and the transition."""
        self.log.skip()
        self.report(dataclasses.replace(figure, metric="disable"), self.disable(patch))
        self.report(dataclasses.replace(figure, metric="transition back"), self.log.transition(patch, "unpatching"))

    def disable_and_wait(self, patch: str, figure: Figure) -> None:
        """Disable a patch, and wait until its module can be unloaded; both are reported."""
        start = time.monotonic()
        self.report(dataclasses.replace(figure, metric="disable"), self.disable(patch))
        wait_until(lambda: self.modules.unused(patch), f"{patch} unused")
        self.report(dataclasses.replace(figure, metric="unused"), time.monotonic() - start)

    def functions_again(self, count: int, _number: int) -> None:
        """For `repeat`: the same each time."""
        self.functions(count)

    def crowd_again(self, crowd: Tuple[int, int, int], number: int) -> None:
        """For `repeat`: a transition with the same threads."""
        self.crowd(number, *crowd)

    def functions(self, count: int) -> None:
        """The life of a patch of so many functions, and of those that replace it."""
        first, same, other = (f"klp_bench_patch_{count}_{letter}" for letter in "abc")
        target, second = f"klp_bench_target_{count}", f"klp_bench_second_{count}"
        self.modules.load(target)
        self.modules.load(second)
        pages = trampolines()
        load, complete = self.enable(first)
        self.report(Figure("trampolines", count), trampolines() - pages)
        patch = first
        weight = slab() if self.plan.weighs(count) else 0
        self.report(Figure("load", count), load)
        self.report(Figure("complete", count), complete)
        if count == self.plan.replace:
            for metric, patch, replaced in (("replace same", same, first), ("replace", other, same)):
                _, duration = self.enable(patch, replaced=replaced)
                self.report(Figure(metric, count), duration)
                self.modules.unload(replaced)
        self.disable_and_wait(patch, Figure("disable", count))
        self.report(Figure("rmmod", count), self.modules.unload(patch))
        if weight:
            self.report(Figure("slab", count), (weight - slab()) / count)
        self.modules.unload(second)
        self.modules.unload(target)

    @contextlib.contextmanager
    def direct(self) -> Iterator[None]:
        """Meanwhile calls jump to replacements."""
        self.modules.unload("livepatch")
        self.modules.load("livepatch", "direct=1")
        yield
        self.modules.unload("livepatch")
        self.modules.load("livepatch")

    def enable_and_jump(self, patch: str, function: str, count: int, replaced: str = "") -> float:
        """Load a patch of so many functions with such names, and wait until their calls jump; the result is the time
        until its transition was complete."""
        _, complete = self.enable(patch, replaced=replaced)
        functions = TRACING / "enabled_functions"
        jump = re.compile(rf"^{function}.*\n\tdirect\(jmp\)", re.MULTILINE)
        wait_until(lambda: len(jump.findall(functions.read_text())) == count, "jumps")
        return complete

    def functions_direct(self) -> None:
        """How a patch is replaced and disabled if calls jump."""
        count = self.plan.replace
        patches = [f"klp_bench_patch_{count}_{letter}" for letter in "abc"]
        targets = [f"klp_bench_{what}_{count}" for what in ("target", "second")]
        for module in targets:
            self.modules.load(module)
        self.enable_and_jump(patches[0], r"klp_bench_\d+ ", count)
        for metric, patch, replaced in zip(("replace same", "replace"), patches[1:], patches):
            duration = self.enable_and_jump(patch, r"klp_bench_\d+ ", count, replaced)
            self.report(Figure(f"{metric}, direct", count), duration)
            self.modules.unload(replaced)
        self.report(Figure("disable, direct", count), self.disable(patches[-1]))
        for module in (patches[-1], *targets):
            self.modules.unload(module)

    def unused_functions(self) -> List[str]:
        """Functions of vmlinux that can be patched and that nobody calls."""
        names = (TRACING / "available_filter_functions").read_text().split()
        return [name for name in sorted(set(names)) if UNUSED_SYSCALL.fullmatch(name)][:self.plan.vmlinux]

    def vmlinux(self, names: Sequence[str]) -> None:
        """The life of a patch of vmlinux."""
        patch = "klp_bench_vmlinux"
        load, complete = self.enable(patch, "functions=" + ",".join(names))
        count = len(names)
        self.report(Figure("load", count, vmlinux=True), load)
        self.report(Figure("complete", count, vmlinux=True), complete)
        self.disable_and_wait(patch, Figure("disable", count, vmlinux=True))
        self.report(Figure("rmmod", count, vmlinux=True), self.modules.unload(patch))

    def crowd(self, number: int, count: int, sleeping: int, busy: int) -> None:
        """A transition with many threads.

        Enabling is timed undisturbed. Disabling makes the same passes, and they are watched: every other time their
        duration, since the probe that it takes makes them slower, otherwise the lock.
        """
        assert self.watch
        patch, target = f"klp_bench_patch_{count}_a", f"klp_bench_target_{count}"
        self.modules.load(target)
        self.enable_and_report(patch, Figure("complete", count, sleeping, busy))
        if number % 2:
            with self.watch.watch(lambda value: self.report(Figure("pass", count, sleeping, busy), value)):
                self.disable(patch)
        else:
            self.modules.load("klp_bench_lock")
            self.disable(patch)
            nanoseconds = int(Path("/proc/klp_bench_lock").read_text())
            self.report(Figure("lock", count, sleeping, busy), nanoseconds / 1e9)
            self.modules.unload("klp_bench_lock")
        self.modules.unload(patch)
        self.modules.unload(target)

    def there_and_back(self, target: str, patch: str, figure: Figure, parameters: str = "") -> None:
        """A transition to a patch and one away from it, beside whoever is busy; parameters are for the target."""
        self.modules.load(target, parameters)
        self.enable_and_report(patch, figure)
        self.disable_and_report(patch, figure)
        self.modules.unload(patch)
        self.modules.unload(target)

    def spinning(self) -> None:
        """A transition with kernel threads that call the function all the time."""
        count = self.plan.spinning
        self.there_and_back("klp_bench_spin", "klp_bench_spin_patch", Figure("complete", 1, spinning=count),
                            f"threads={count}")

    def tickless(self) -> None:
        """A transition with tasks that do not come into the kernel by themselves."""
        self.there_and_back("klp_bench_target_1", "klp_bench_patch_1_a",
                            Figure("complete", 1, tickless=self.plan.tickless))

    def tasks(self) -> None:
        """What it takes to load a patch, and what each sleeping thread adds to its transition, where the clock counts
        instructions."""
        count = self.plan.task_threads()
        target, patch = "klp_bench_target_1", "klp_bench_patch_1_a"
        self.modules.load(target)
        times = []
        for sleeping in (0, count):
            with threads(Path(self.plan.directory) / "threads", sleeping, 0):
                self.log.skip()
                load, _ = self.enable(patch)
                if not sleeping:
                    self.report(Figure("load, instructions", 1), load * 1e9)
                times.append(self.log.transition(patch, "patching"))
                self.disable(patch)
                self.modules.unload(patch)
        self.report(Figure("task", 1, count), (times[1] - times[0]) * 1e9 / count)
        self.modules.unload(target)

    def call(self, metric: str) -> None:
        """The cost of one call."""
        calls, with_calls, without = map(int, Path("/proc/klp_bench_call").read_text().split())
        self.report(Figure(metric, 1), (with_calls - without) / calls)

    def calls(self) -> None:
        """What a call costs with and without patches."""
        first, second = "klp_bench_call_patch_a", "klp_bench_call_patch_b"
        self.modules.load("klp_bench_call")
        self.call("call unpatched")
        self.enable(first)
        self.call("call patched")
        self.enable(second)
        self.call("call patched twice")
        for patch in (second, first):
            self.disable(patch)
            self.modules.unload(patch)

        self.call_in_transition("call in transition", first)
        if self.core == "rust":
            self.direct_calls(first)
        self.modules.unload("klp_bench_call")

    def call_in_transition(self, metric: str, patch: str) -> None:
        """What a call costs while a task sleeps in a function of the patch."""
        sleeper = Sleeper()
        self.modules.load(patch, "sleeper=1")
        self.call(metric)
        if settled(patch):
            raise Timeout("a transition that lasts")
        sleeper.end()
        wait_until(lambda: settled(patch), f"{patch} complete")
        self.disable(patch)
        self.modules.unload(patch)

    def direct_calls(self, patch: str) -> None:
        """What a call costs that jumps to the replacement, and what one where others do."""
        with self.direct():
            self.call_in_transition("call in transition, direct", patch)
            self.enable_and_jump(patch, "klp_bench_called ", 1)
            self.call("call patched directly")
            self.disable(patch)
            self.modules.unload(patch)


def raise_exit(signum: int, _frame: object) -> None:
    """Signal handler: end in an orderly way."""
    sys.exit(128 + signum)


def main(argv: Sequence[str]) -> int:
    """The program."""
    signal.signal(signal.SIGTERM, raise_exit)
    plan = Plan(**json.loads(argv[0]))
    Path("/proc/sys/kernel/threads-max").write_text("20000")
    protocol.report(kernel=os.uname().release, processors=os.cpu_count())
    try:
        Driver(plan).run()
    except (OSError, Timeout) as error:
        if isinstance(error, OSError) and error.errno == errno.EPIPE:
            raise
        say(f"failed: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
