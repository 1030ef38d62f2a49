# SPDX-License-Identifier: GPL-2.0
"""Makes up operations from a seed."""

import errno
import random
from typing import Callable, List, Sequence, Tuple

from .model import (KERNEL_FUNCTIONS, PATCHES, SLEEP, TARGET_FUNCTIONS, TARGETS, UNKNOWN_FUNCTIONS,
                    Model, Operation, Spec, parse_bool)

# What is written to enabled and force. Not everything that makes no sense is refused.
TEXTS = ("0", "1", "y", "n", "Y", "on", "off", "oF", "\n", "2", "-1", "x", "o", "enabled", " 1",
         "1 0")

# How many operations may follow while a task holds a transition up, but for those of the last
# choice.
MAX_HELD = 4


class Generator:
    """Makes the operations of a run."""

    def __init__(self, seed: str, length: int) -> None:
        self.random = random.Random(seed)
        self.length = length
        self.model = Model()
        self.operations: List[Operation] = []
        self.held = 0

    def chance(self, probability: float) -> bool:
        """True now and then."""
        return self.random.random() < probability

    def some(self, choices: Sequence[str]) -> Tuple[str, ...]:
        """One or more of them, in any order."""
        return tuple(self.random.sample(choices, self.random.randint(1, len(choices))))

    def spec(self) -> Spec:
        """A patch without mistakes."""
        objects = []
        for name in self.some(("vmlinux", *TARGETS)):
            if name == "vmlinux":
                objects.append((name, self.some(KERNEL_FUNCTIONS)))
            else:
                funcs = list(self.some(TARGET_FUNCTIONS)[:self.random.randint(1, 5)])
                if self.chance(0.7):
                    funcs.insert(self.random.randint(0, len(funcs)), SLEEP)
                objects.append((name, tuple(funcs)))
        states: List[Tuple[int, int]] = []
        if self.chance(0.4):
            states = [(int(identifier), self.random.randint(1, 3))
                      for identifier in self.some(("1", "2"))]
        return Spec(tuple(objects), self.chance(0.3), tuple(states), self.chance(0.6))

    def broken(self) -> Spec:
        """A patch with a mistake, which may not matter yet."""
        spec = self.spec()
        index = self.random.randrange(len(spec.objects))
        name, funcs = spec.objects[index]
        if self.chance(0.4):
            ret = self.random.choice(
                (-errno.ENODEV, -errno.EINVAL, -errno.EBUSY, -errno.ENOMEM, -1000, 1))
            return spec._replace(callbacks=True, fail_object=name, fail_ret=ret)
        if self.chance(0.15):
            return spec._replace(objects=(*spec.objects, (name, funcs[:1])))
        if self.chance(0.15):
            more = funcs[0] if "+" in funcs[0] else funcs[0] + "+1"
        elif name == "vmlinux":
            more = "klp_diff_missing"
        else:
            more = self.random.choice(UNKNOWN_FUNCTIONS)
        place = self.random.randint(0, len(funcs))
        objects = list(spec.objects)
        objects[index] = name, (*funcs[:place], more, *funcs[place:])
        return spec._replace(objects=tuple(objects))

    def load(self) -> List[Operation]:
        """A patch that should work, mostly of a module that is not loaded."""
        free = [name for name in PATCHES if name not in self.model.modules]
        name = self.random.choice(free if free and self.chance(0.95) else PATCHES)
        return [self.model.load_patch(name, self.spec())]

    def load_broken(self) -> List[Operation]:
        """A patch that should not."""
        free = [name for name in PATCHES if name not in self.model.modules]
        return [self.model.load_patch(self.random.choice(free), self.broken())] if free else []

    def load_target(self) -> List[Operation]:
        """A target, mostly one that is not loaded."""
        free = [name for name in TARGETS if name not in self.model.targets]
        name = self.random.choice(free if free and self.chance(0.9) else TARGETS)
        return [self.model.load_target(name, -errno.ENODEV if self.chance(0.15) else 0)]

    def unload_target(self) -> List[Operation]:
        """A target, mostly one that is loaded."""
        name = self.random.choice(
            sorted(self.model.targets) if self.model.targets and self.chance(0.9) else TARGETS)
        return [self.model.unload(name)]

    def unload_patch(self) -> List[Operation]:
        """A patch module, mostly one that may go."""
        idle = [name for name in sorted(self.model.modules - self.model.stuck)
                if not self.model.patch(name)]
        name = self.random.choice(idle if idle and self.chance(0.7) else PATCHES)
        return [self.model.unload(name)]

    def disable(self) -> List[Operation]:
        """Any patch: the newest one or one below it."""
        if not self.model.patches:
            return []
        return [self.model.enable(self.random.choice(self.model.patches).name, "0")]

    def reverse(self) -> List[Operation]:
        """The transition."""
        if not self.model.moving:
            return []
        return [self.model.enable(self.model.moving.name, "0" if self.model.patching else "1")]

    def write_enabled(self) -> List[Operation]:
        """Anything to enabled."""
        return [self.model.enable(self.any_patch(), self.random.choice(TEXTS))]

    def write_force(self) -> List[Operation]:
        """Anything to force, but a transition that is held up is forced on purpose only."""
        patch, text = self.any_patch(), self.random.choice(TEXTS)
        if self.model.moving and self.model.moving.name == patch and parse_bool(text):
            text = "0"
        return [self.model.force(patch, text)]

    def force(self) -> List[Operation]:
        """The transition. The tasks in its way go on then."""
        if not self.model.moving:
            return []
        operations = [self.model.force(self.model.moving.name, "1")]
        return operations + self.model.wake_all()

    def write(self) -> List[Operation]:
        """Something to a file that is not to be written to."""
        patch = self.any_patch()
        file = self.random.choice(("transition", "replace", "stack_order", "vmlinux/patched",
                                   f"{TARGETS[0]}/patched", "nonsense"))
        return [self.model.write(f"{patch}/{file}", self.random.choice(TEXTS))]

    def any_patch(self) -> str:
        """The name of a patch, mostly one that is enabled."""
        enabled = [patch.name for patch in self.model.patches]
        return self.random.choice(enabled if enabled and self.chance(0.8) else PATCHES)

    def let_fail(self) -> List[Operation]:
        """A callback, so that a target that then comes is refused; and the patch is well again."""
        model = self.model
        choices = [(patch.name, name) for patch in model.patches for name, _ in patch.spec.objects
                   if patch.spec.callbacks and name != "vmlinux" and name not in model.targets]
        if not choices:
            return []
        name, target = self.random.choice(choices)
        ret = self.random.choice((-errno.ENODEV, -errno.ENOMEM, 1))
        return [model.let_fail(name, "fail_object", target),
                model.let_fail(name, "fail_ret", str(ret)),
                model.load_target(target),
                model.let_fail(name, "fail_object", "none"),
                model.let_fail(name, "fail_ret", "0")]

    def sleep(self) -> List[Operation]:
        """A task that will be in the way."""
        if not self.model.targets or len(self.model.sleepers) > 3:
            return []
        return [self.model.sleep(self.random.choice(sorted(self.model.targets)))]

    def hold_up(self) -> List[Operation]:
        """A task, and a transition that has to wait for it."""
        free = [name for name in PATCHES if name not in self.model.modules]
        operations = self.sleep()
        if operations and self.model.patch(operations[0].place) and self.chance(0.5):
            operations.append(self.model.enable(operations[0].place, "0"))
        elif operations and free:
            spec, target = self.spec(), operations[0].action.name
            if not spec.replace and SLEEP not in spec.functions(target):
                others = tuple(entry for entry in spec.objects if entry[0] != target)
                spec = spec._replace(objects=(*others, (target, (*spec.functions(target), SLEEP))))
            operations.append(self.model.load_patch(self.random.choice(free), spec))
        return operations

    def wake(self) -> List[Operation]:
        """The tasks in one of the functions."""
        places = sorted({sleeper.place for sleeper in self.model.sleepers})
        return [self.model.wake(self.random.choice(places))] if places else []

    def wake_holders(self) -> List[Operation]:
        """What is in the way of the transition."""
        places = {sleeper.place for sleeper in self.model.holders()}
        return [self.model.wake(place) for place in sorted(places)]

    Choice = Tuple[float, Callable[["Generator"], List[Operation]]]
    WHEN_HELD: Sequence[Choice] = (
        (6, reverse), (2, wake_holders), (1, wake), (0.8, force), (1, load), (0.5, load_broken),
        (1, disable), (4, load_target), (4, unload_target), (1, unload_patch), (2, sleep),
        (1, let_fail), (1, write_enabled), (1, write_force), (0.5, write),
    )
    OTHERWISE: Sequence[Choice] = (
        (8, load), (3, load_broken), (4, disable), (6, hold_up), (2, sleep), (2, wake),
        (4, load_target), (3, unload_target), (3, unload_patch), (2, let_fail), (1, write_enabled),
        (0.5, write_force), (0.5, write),
    )

    def generate(self) -> List[Operation]:
        """The operations of the run, and what leaves nothing behind."""
        self.operations += [self.model.load_target(name) for name in TARGETS if self.chance(0.7)]
        while len(self.operations) < self.length:
            choices = self.WHEN_HELD if self.model.moving else self.OTHERWISE
            if self.held >= MAX_HELD:
                choices = ((1, Generator.wake_holders),)
            _, choice = self.random.choices(choices, [weight for weight, _ in choices])[0]
            made = choice(self)
            self.operations += made
            self.held = self.held + len(made) if self.model.moving else 0
        self.operations += self.model.unwind()
        return self.operations


def operations_of(seed: str, run: int, length: int) -> List[Operation]:
    """The operations of one run: they do not depend on other runs."""
    return Generator(f"{seed}/{run}", length).generate()
