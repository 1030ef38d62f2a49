# SPDX-License-Identifier: GPL-2.0
"""Reports in the kernel's log."""

import re
from typing import List, Sequence

from .streams import say

# What a kernel without surprises prints at the start of every line of its log; programs' text on the console has none.
PREFIX = re.compile(r"\[ *\d+\.\d{6}\](?:\[ *[CT]\d+\])? ?")

# How the kernel's reports begin, directly after the prefix. A program can only get there by way of /dev/kmsg.
REPORT = re.compile(
    r"""(?:
      -+\[\ cut\ here\ \]-+$                                # WARN() and BUG(), before their text
    | WARNING:\                                             # WARN(), lockdep, RCU, the unwinder
    | (?:watchdog:\ )?BUG:\                                 # page faults, KASAN, KFENCE, soft lockups, scheduling
    | \[\ BUG:\ .+\ \]$                                     # lockdep, of a lock that may sleep under one that may not
    | kernel\ BUG\ at\                                      # BUG()
    | BUG\ \S+\ \((?:Not\ tainted|Tainted)                  # the slab allocator
    | Oops(?:\ -\ [^:]+)?:\                                 # die()
    | [\w ,-]+:\ [0-9a-f]{4}\ \[\#\d+\]                     # die() of older kernels: "invalid opcode: 0000 [#1] SMP"
    | general\ protection\ fault(?:[,:]|$)
    | Kernel\ panic\ -\ not\ syncing
    | (?:NMI\ )?watchdog:\ .*Watchdog\ detected\ hard\ LOCKUP
    | (?:rcu:\ )?INFO:\ rcu\w*\ .*\bdetected\ (?:\w+\ )?stall
    | rcu:\ rcu\w*\ kthread\ starved\ for\b
    | INFO:\ task\ .+:\d+\ .*\bblocked\ (?:for|on)\b        # hung task
    | INFO:\ trying\ to\ register\ non-static\ key          # lockdep gives up
    | UBSAN:\ .+\ in\ \S+:\d+
    | pagealloc:\ (?:memory\ corruption|single\ bit\ error)
    | kmemleak:\ \d+\ new\ suspected\ memory\ leaks
    | unreferenced\ object\ 0x
    )""",
    re.VERBOSE,
)
# A data race, how its report ends, and a function of a module in it.
RACE = re.compile(r"BUG: KCSAN: ")
RULE = re.compile(r"=+$")
IN_MODULE = re.compile(r" \[\w+\]( |$)")
# With PREEMPT_RT, the built-in core looks at the stack of the task that enables a patch with preemption
# on, into a buffer that belongs to the processor. Lockdep is right, but it is not our mistake.
BUILT_IN = re.compile(r"WARNING: kernel/livepatch/transition\.c:\d+ at klp_check_stack\+")
# A breakpoint that nobody had set, and what stands there now: the byte before the one at the instruction pointer.
BREAKPOINT = re.compile(r"Oops: int3:? ")
CODE = re.compile(r"Code: (?:[0-9a-f]{2} )*([0-9a-f]{2}) <[0-9a-f]{2}>")
INT3 = "cc"
CONTEXT_LINES = 30
MAX_REPORTS = 3


def is_of_a_module(report: Sequence[str]) -> bool:
    """Whether a function of a module is in a report that begins there.

    The kernel itself has data races that are known and harmless: without a module, nobody here is to blame.
    """
    for line in report:
        if RULE.search(line):
            break
        if IN_MODULE.search(line):
            return True
    return False


def complaints(log: str) -> List[List[str]]:
    """Find the kernel's reports in its log: for each a list of its lines, with some that follow."""
    lines = log.splitlines()
    reports: List[List[str]] = []
    end = 0
    for number, line in enumerate(lines):
        prefix = PREFIX.match(line)
        if number >= end and prefix and REPORT.match(line, prefix.end()):
            if RACE.match(line, prefix.end()) and not is_of_a_module(lines[number:]):
                continue
            # The first line of a warning is a rule, the second one says where.
            if any(BUILT_IN.search(text) for text in lines[number:number + 2]):
                end = number + 2
                continue
            end = number + CONTEXT_LINES
            reports.append(lines[number:end])
    return reports


def emulator_is_to_blame(reports: Sequence[Sequence[str]]) -> bool:
    """Whether the first report is of a breakpoint that an emulated processor ran after it had been replaced.

    While the kernel changes its text, a breakpoint stands there; each processor is told before the kernel forgets
    about it. QEMU looks for translations of the text before it writes a byte. Where its thread has to wait in
    between, another processor may translate the old byte once more, and keep that.
    """
    if not reports:
        return False
    lines = [line[prefix.end():] for line in reports[0] if (prefix := PREFIX.match(line))]
    codes = [code[1] for line in lines if (code := CODE.match(line))]
    return bool(lines and BREAKPOINT.match(lines[0]) and codes and codes[0] != INT3)


def report_complaints(reports: Sequence[Sequence[str]]) -> None:
    """Print what the kernel complained about."""
    for report in reports[:MAX_REPORTS]:
        say("the kernel complained:\n    " + "\n    ".join(report))
    if len(reports) > MAX_REPORTS:
        say(f"... and {len(reports) - MAX_REPORTS} more reports")
