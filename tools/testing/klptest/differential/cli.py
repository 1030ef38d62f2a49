# SPDX-License-Identifier: GPL-2.0
"""Do the same to the built-in core and to the Rust core, and compare what they do.

Each run is a list of operations that a seed determines: patches of all kinds are loaded, stacked,
replaced, disabled, reversed while a task sleeps in the way, forced and unloaded, their targets come
and go, and now and then something is asked for that makes no sense. All runs are done on the
built-in core, then, in the same boot, on the Rust core. After each operation its result, the
kernel's messages, all of /sys/kernel/livepatch, the modules and their references, the tasks' states
and what the patched functions return are compared line by line.

A model of livepatch foretells for each operation whether it succeeds and which tasks then hold a
transition up. The virtual machine waits for just that, so nothing depends on timing; a core that
does something else is reported too.

A run in which the cores differ is shrunk to the fewest operations in which they still do, by doing
parts of it in further boots. These are printed with a command that repeats them.

exit status:
  0  the cores do the same in all runs
  1  they do not, or the virtual machine did not get through all runs
  2  wrong usage, or a file of operations that cannot be read
"""

import argparse
import random
import re
import shlex
import tempfile
import time
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

from ..paths import TOP
from ..protocol import events
from . import guest, replay
from .compare import Event, Parting, Record, follow
from .generator import operations_of
from .model import Action, applicable
from .shrink import Actions, Limit, Shrinker

PROGRAM = TOP / "tools" / "testing" / "differential"

# scripts/vm: the time limit was reached.
EXIT_TIMEOUT = 124


def run_machine(timeout: float, records: Sequence[Record]) -> Iterator[Event]:
    """Boots, and yields what the guest reports of the runs; at last the machine's status."""
    with tempfile.NamedTemporaryFile("w", prefix="differential-", encoding="ascii") as runs:
        for record in records:
            print(replay.dump(operation.action for operation in record.operations), file=runs)
        runs.flush()
        yield from events(max(int(timeout), 1), PROGRAM, "--guest", runs.name)


def comment(lines: Sequence[str]) -> None:
    """Prints lines that are no results."""
    print("\n".join(f"# {line}" for line in lines), flush=True)


class Boots:
    """Does sequences of operations on both cores, for the shrinker; see shrink.Boot."""

    def __init__(self, model_errs: bool) -> None:
        self.model_errs = model_errs    # in the difference that is looked for
        self.reports: Dict[Actions, List[str]] = {}

    def __call__(self, candidates: Sequence[Actions], seconds: float) -> List[Optional[bool]]:
        records = [Record("", actions) for actions in candidates]
        status = 0
        for event in follow(records, run_machine(seconds, records)):
            status = event.get("machine", status)
        return [self.verdict(actions, record, status)
                for actions, record in zip(candidates, records)]

    def verdict(self, actions: Actions, record: Record, status: int) -> Optional[bool]:
        """Whether the cores differ; None if the boot did not get there."""
        # The run that the time limit ended says nothing of the cores.
        if record.comparable and (status != EXIT_TIMEOUT or "Rust" in record.seconds):
            parting = record.parting()
            if parting is None or parting.model_errs != self.model_errs:
                return False
            self.reports[actions] = parting.report
            return True
        # If the built-in core did not get through a run, the run is in the way.
        return False if record.begun and "C" not in record.seconds else None


def shrink(record: Record, parting: Parting, limit: Limit) -> None:
    """Looks for fewer operations in which the cores differ likewise, and prints them."""
    actions = [operation.action for operation in record.operations[:parting.where + 1]]
    boots, start = Boots(parting.model_errs), time.monotonic()
    left = limit.boots
    shrunk = Shrinker(boots, limit).shrink(actions)
    spent = f"{left - limit.boots} boots, {time.monotonic() - start:.0f} s"
    if shrunk is None:
        comment([f"run {record.name} by itself does not differ again ({spent})"])
        return
    why = "none can be left out" if shrunk.complete else "the limit is reached"
    comment([f"run {record.name} shrunk from {len(actions)} operations to {len(shrunk.actions)}: "
             f"{why} ({spent})",
             *boots.reports.get(shrunk.actions, parting.report),
             "repeat it: tools/testing/differential --replay /dev/stdin <<< "
             + shlex.quote(replay.dump(shrunk.actions))])


class Comparison:
    """All runs: prints what comes of each when the Rust core has done it."""

    def __init__(self, records: Sequence[Record], repeat: str) -> None:
        self.records = records
        self.repeat = repeat                                # the command, but for the run
        self.good = True
        self.judged: List[Record] = []
        self.parted: List[Tuple[Record, Parting]] = []

    def judge(self, record: Record) -> None:
        """Prints the result of a run."""
        self.judged.append(record)
        parting = record.parting()
        if parting is None:
            spent = ", ".join(f"{core} {record.seconds[core]:.1f} s" for core in guest.CORES
                              if core in record.seconds)
            took = sum(operation.ok is True for operation in record.operations)
            print(f"ok run {record.name} ({len(record.operations)} operations, {took} to succeed; "
                  f"{spent})", flush=True)
            return
        self.good = False
        self.parted.append((record, parting))
        print(f"not ok run {record.name}")
        comment(parting.report)
        if self.repeat:
            comment([f"repeat it: {self.repeat.format(run=record.name)}"])

    def watch(self, reports: Iterator[Event]) -> None:
        """Judges the runs that the guest reports, as they are done, and then the others."""
        for event in follow(self.records, reports):
            if "machine" in event:
                if event["machine"]:
                    print(f"not ok the virtual machine ended with status {event['machine']}")
                    self.good = False
                continue
            record = self.records[event["run"]]
            if "stop" in event:
                print(f"# run {record.name} on the {event['core']} core: {event['stop']}")
                self.good = False
            elif event["core"] == "C":
                print(f"# run {record.name} done on the built-in core "
                      f"({event['seconds']:.1f} s)", flush=True)
            else:
                self.judge(record)
        for record in self.records:
            if record in self.judged:
                continue
            if record.comparable:
                self.judge(record)
            else:
                # What the machine did not get to is a failure, but says nothing of the cores.
                print(f"not ok run {record.name}: not done")
                self.good = False


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="differential", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--seed", metavar="TEXT", help="of the operations (default: a new one)")
    parser.add_argument("--runs", type=int, default=10, metavar="N", help="how many (default 10)")
    parser.add_argument("--run", type=int, action="append", metavar="K",
                        help="only this one; may be repeated")
    parser.add_argument("--operations", type=int, default=15, metavar="N",
                        help="in a run, and then those that leave nothing behind (default 15)")
    source.add_argument("--replay", metavar="FILE",
                        help="do the operations in a file instead of a seed's, and then those that "
                        "leave nothing behind: a JSON list of lists [kind, name, value], of which "
                        "those that are not applicable are left out")
    parser.add_argument("--list", action="store_true", help="only print the operations")
    parser.add_argument("--timeout", type=int, default=3600, metavar="SECONDS",
                        help="for all but shrinking (default 3600)")
    parser.add_argument("--shrink-boots", type=int, default=20, metavar="N",
                        help="shrink runs that differ with at most so many boots for all of them "
                        "(default 20; 0: do not shrink)")
    parser.add_argument("--shrink-minutes", type=float, default=10, metavar="N",
                        help="and for at most so long (default 10)")
    parser.add_argument("--guest", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    args.seed = args.seed or str(random.SystemRandom().randrange(10**9))
    if not re.fullmatch(r"[\w.-]+", args.seed):
        parser.error("a seed is letters and digits")
    args.run = args.run or list(range(1, args.runs + 1))
    if args.replay:
        try:
            args.replay = read_replay(args.replay)
        except (OSError, ValueError) as error:
            parser.exit(2, f"differential: {args.replay}: {getattr(error, 'strerror', error)}\n")
    return args


def read_replay(path: str) -> Sequence[Action]:
    """The operations in a file, but for those that are not applicable."""
    actions = replay.parse(Path(path).read_text(encoding="utf-8"))
    kept = applicable(actions)
    if not kept:
        raise ValueError("none of the operations is applicable")
    if len(kept) < len(actions):
        comment([f"left out, because they are not applicable: {len(actions) - len(kept)} of "
                 f"{len(actions)} operations"])
    return kept


def main(argv: Sequence[str]) -> int:
    """The program."""
    args = parse_arguments(argv)
    if args.guest:
        guest.main(args.guest)
        return 0
    if args.replay:
        records = [Record("replay", args.replay)]
        repeat = ""
    else:
        print(f"# seed {args.seed}", flush=True)
        records = [Record(str(run), [operation.action for operation in
                                     operations_of(args.seed, run, args.operations)])
                   for run in args.run]
        repeat = f"make differential SEED={args.seed} RUN={{run}} OPERATIONS={args.operations}"
    if args.list:
        for record in records:
            print(f"run {record.name}")
            for place, operation in enumerate(record.operations, 1):
                print(f"  {place}. {operation}")
        return 0
    comparison = Comparison(records, repeat)
    comparison.watch(run_machine(args.timeout, records))
    limit = Limit(args.shrink_boots, 60 * args.shrink_minutes)
    for record, parting in comparison.parted:
        if limit.boots > 0:
            shrink(record, parting, limit)
    return 0 if comparison.good else 1
