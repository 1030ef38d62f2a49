# SPDX-License-Identifier: GPL-2.0
"""Reduces a run in which the cores differ to as few operations as possible.

This is delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing
Input"), with rounds instead of single steps: all candidates of a round share a boot, which costs
more than the operations. Libraries such as Hypothesis ask for one candidate at a time.
"""

import time
from typing import Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from .model import Action, applicable

Actions = Tuple[Action, ...]

# Does candidates one after the other, on both cores, in one boot that takes at most so many
# seconds. Returns whether the cores differ in each; None for those that the boot did not get to.
Boot = Callable[[Sequence[Actions], float], Sequence[Optional[bool]]]


class Exhausted(Exception):
    """There is no boot or no time left."""


class Limit:
    """What shrinking may cost."""

    def __init__(self, boots: int, seconds: float) -> None:
        self.boots = boots
        self.end = time.monotonic() + seconds

    def take(self) -> float:
        """Takes a boot; returns the seconds it may take."""
        seconds = self.end - time.monotonic()
        if self.boots <= 0 or seconds <= 0:
            raise Exhausted
        self.boots -= 1
        return seconds


class Shrunk(NamedTuple):
    """What came of it."""

    actions: Actions    # differ
    complete: bool      # None of the actions can be left out; else the limit came first.


def without(actions: Actions, places: Iterable[int]) -> Actions:
    """The actions but for some, and for those that are not applicable any more."""
    left_out = set(places)
    return applicable(action for place, action in enumerate(actions) if place not in left_out)


class Shrinker:
    """Looks for fewer actions in which the cores still differ."""

    def __init__(self, boot: Boot, limit: Limit) -> None:
        self.boot = boot
        self.limit = limit
        self.known: Dict[Actions, bool] = {(): False}
        self.differing: List[Actions] = []  # each shorter than the one before

    def ask(self, candidates: Sequence[Actions]) -> List[bool]:
        """Whether the cores differ in each."""
        pending = [actions for actions in dict.fromkeys(candidates) if actions not in self.known]
        while pending:
            verdicts = self.boot(pending, self.limit.take())
            found = {actions: verdict for actions, verdict in zip(pending, verdicts)
                     if verdict is not None}
            # If the boot got to no verdict at all, the first candidate is taken to be the cause.
            self.known.update(found or {pending[0]: False})
            pending = [actions for actions in pending if actions not in self.known]
        return [self.known[actions] for actions in candidates]

    def reduce(self, actions: Actions) -> None:
        """Leaves out pieces, ever smaller ones, as long as the cores differ without them."""
        size = max(len(actions) // 2, 1)
        while True:
            pieces = [range(start, start + size) for start in range(0, len(actions), size)]
            verdicts = self.ask([without(actions, piece) for piece in pieces])
            needless = [piece for piece, verdict in zip(pieces, verdicts) if verdict]
            if needless:
                # All of them at once if possible, else half of them, and so on.
                counts = [len(needless) >> shift for shift in range(len(needless).bit_length())]
                candidates = [without(actions, (place for piece in needless[:count]
                                                for place in piece)) for count in counts]
                actions = candidates[self.ask(candidates).index(True)]
                self.differing.append(actions)
            elif size == 1:
                return
            else:
                size //= 2
            size = min(size, max(len(actions) // 2, 1))

    def shrink(self, actions: Sequence[Action]) -> Optional[Shrunk]:
        """The shortest sequence found. None if the cores do not differ when the run is repeated."""
        self.differing = [applicable(actions)]
        try:
            if not self.ask(self.differing)[0]:
                return None
            while True:
                self.reduce(self.differing[-1])
                # If what differed does not differ again, it was by chance: back to what was before.
                shortest = self.differing[-1]
                del self.known[shortest]
                if self.ask([shortest])[0]:
                    return Shrunk(shortest, True)
                self.differing.pop()
                if not self.differing:
                    return None
        except Exhausted:
            return Shrunk(self.differing[-1], False)
