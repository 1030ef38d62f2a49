# SPDX-License-Identifier: GPL-2.0
"""The operations of a run as text: a JSON list of lists [kind, name] or [kind, name, value]."""

import json
from typing import Iterable, Tuple

from .model import Action


def dump(actions: Iterable[Action]) -> str:
    """One line of text."""
    return json.dumps([action if action.value else action[:2] for action in actions])


def parse(text: str) -> Tuple[Action, ...]:
    """The operations in a text. Raises ValueError, with a message, if there is anything else."""
    entries = json.loads(text)
    if not isinstance(entries, list) or not entries:
        raise ValueError("not a list of operations")
    actions = []
    for place, entry in enumerate(entries, 1):
        if (not isinstance(entry, list) or len(entry) not in (2, 3)
                or not all(isinstance(word, str) for word in entry)):
            raise ValueError(f"operation {place}: not a list of two or three strings")
        action = Action(*entry)
        try:
            action.check()
        except ValueError as error:
            raise ValueError(f"operation {place}: {error}") from None
        actions.append(action)
    return tuple(actions)
