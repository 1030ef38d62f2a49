# SPDX-License-Identifier: GPL-2.0
"""What the two cores did in a run, and where they part."""

import difflib
import re
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence

from .guest import CORES
from .model import Action, plan

Event = Dict[str, Any]


class Deliberate(NamedTuple):
    """A line in which the cores differ on purpose."""

    why: str
    builtin: str
    rust: str


DELIBERATE = (
    Deliberate("A pre-patch callback that returns a positive value: the built-in core passes it on "
               "to the module loader, which takes it for success though the patch is not enabled. "
               "The Rust core fails with EINVAL.",
               r"result of a positive callback: (ok|1)", r"result of a positive callback: EINVAL"),
)


def same(builtin: str, rust: str) -> bool:
    """Whether two lines are the same, or differ on purpose."""
    return builtin == rust or any(
        re.fullmatch(known.builtin, builtin) and re.fullmatch(known.rust, rust)
        for known in DELIBERATE)


def differ(builtin: Sequence[str], rust: Sequence[str]) -> bool:
    """Whether what two cores did differs."""
    return len(builtin) != len(rust) or not all(map(same, builtin, rust))


def is_wrong(lines: Iterable[str]) -> bool:
    """Whether a core did something else than the model expects."""
    return any(line.startswith("! ") for line in lines)


class Parting(NamedTuple):
    """Where the cores part, or where both of them do something else than the model expects."""

    where: int          # the index of the operation
    model_errs: bool
    report: List[str]   # the operations up to there and the lines of the last one


class Record:
    """A run, and what the guest reported of it."""

    def __init__(self, name: str, actions: Sequence[Action]) -> None:
        self.name = name
        self.operations = plan(actions)
        self.lines: Dict[str, List[List[str]]] = {core: [] for core in CORES}   # of each operation
        self.seconds: Dict[str, float] = {}     # of the cores that are done with the run

    @property
    def begun(self) -> bool:
        """Whether any core was asked for anything."""
        return any(self.lines.values())

    @property
    def comparable(self) -> bool:
        """Whether there is something to compare; else the run says nothing of the cores."""
        return bool(self.lines["Rust"]) or any(map(is_wrong, self.lines["C"]))

    def parting(self) -> Optional[Parting]:
        """Where the cores part. None if nowhere."""
        builtin, rust = self.lines["C"], self.lines["Rust"]
        index = next((index for index, pair in enumerate(zip(builtin, rust)) if differ(*pair)),
                     min(len(builtin), len(rust)))
        # If the model errs, both cores do something else than it, and the run ends there.
        wrong = next((index for index, lines in enumerate(builtin) if is_wrong(lines)), None)
        if wrong is not None and wrong < index:
            index = wrong
        if index == len(self.operations):
            return None
        report = ["operations:"]
        report += [f"  {place}. {operation}"
                   for place, operation in enumerate(self.operations[:index + 1], 1)]
        ours = builtin[index] if index < len(builtin) else ["(did not get there)"]
        theirs = rust[index] if index < len(rust) else ["(did not get there)"]
        report.append(f"operation {index + 1}, {self.operations[index]}:")
        if ours == theirs:
            return Parting(index, True, report + [f"  {line}" for line in ours])
        # So that lines which differ on purpose are not shown.
        known = {there: here for here in ours for there in theirs if same(here, there)}
        theirs = [known.get(line, line) for line in theirs]
        report += [f"  {line}" for line in difflib.unified_diff(
            ours, theirs, "built-in core", "Rust core", n=3, lineterm="")]
        return Parting(index, False, report)


def follow(records: Sequence[Record], events: Iterable[Event]) -> Iterator[Event]:
    """Notes what the guest reports of each run, and passes all events on but single operations."""
    for event in events:
        if "lines" in event:
            records[event["run"]].lines[event["core"]].append(event["lines"])
            continue
        if "seconds" in event:
            records[event["run"]].seconds[event["core"]] = event["seconds"]
        yield event
