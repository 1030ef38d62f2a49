# SPDX-License-Identifier: GPL-2.0
"""What the operations of the differential test mean, and what to wait for after each.

The model knows as much of livepatch as it takes to foretell whether an operation succeeds and which
tasks then hold a transition up.
"""

import re
from pathlib import Path
from typing import Iterable, List, NamedTuple, Optional, Set, Tuple

LIVEPATCH = Path("/sys/kernel/livepatch")

TARGETS = ("klp_diff_t0", "klp_diff_t1")
PATCHES = tuple(f"klp_diff_p{number}" for number in range(5))
KERNEL_FUNCTIONS = ("cmdline_proc_show", "version_proc_show")
# The position of functions that are not the only ones of their name is part of it.
TARGET_FUNCTIONS = ("klp_diff_a", "klp_diff_b", "klp_diff_c", "klp_diff_twin+1", "klp_diff_twin+2")
SLEEP = "klp_diff_sleep"

# Each fails in every core, when the object is there.
UNKNOWN_FUNCTIONS = ("klp_diff_missing", "klp_diff_twin", "klp_diff_twin+3", "klp_diff_a+2",
                     "klp_diff_notrace")

# The cores signal tasks that hold a transition up for 15 seconds. After so many operations only
# waking a task is applicable.
HELD_LIMIT = 10

# The files that can be written to.
WRITABLE = re.compile(
    rf"{LIVEPATCH}/(?P<patch>\w+)/(?P<file>[\w/]+)"
    r"|/sys/module/(?P<module>\w+)/parameters/(?P<parameter>fail_object|fail_ret)")

# The parameters of a patch module.
PARAMETERS = re.compile(r"""
    id=\d+
    \ objects=(?P<objects>\w+:[\w+]+(?:,[\w+]+)*(?:;\w+:[\w+]+(?:,[\w+]+)*)*)
    (?P<replace>\ replace=1)?
    (?:\ states=(?P<states>\d+:\d+(?:,\d+:\d+)*))?
    (?P<callbacks>\ callbacks=1)?
    (?:\ fail_object=(?P<fail_object>\w+))?
    (?:\ fail_ret=(?P<fail_ret>-?\d+))?
    """, re.VERBOSE)


class Action(NamedTuple):
    """What is asked of a core."""

    kind: str           # load, unload, write, sleep, wake
    name: str           # a module; for write: a file
    value: str = ""     # load: the module's parameters; write: the text

    def __str__(self) -> str:
        if self.kind == "write":
            return f"write {self.value!r} to {self.name}"
        return " ".join(word for word in (self.kind, self.name, self.value) if word)

    def check(self) -> None:
        """Raises ValueError, with a message, for what the model has no idea of."""
        if self.kind not in ("load", "unload", "write", "sleep", "wake"):
            raise ValueError(f"no such kind of operation: {self.kind!r}")
        if self.kind == "write":
            match = WRITABLE.fullmatch(self.name)
            if not match or (match["patch"] or match["module"]) not in PATCHES:
                raise ValueError(f"not a file that operations write to: {self.name!r}")
            if match["parameter"] == "fail_ret" and not re.fullmatch(r"-?\d+", self.value):
                raise ValueError(f"not a number: {self.value!r}")
        elif self.name not in (TARGETS if self.kind == "sleep" else (*TARGETS, *PATCHES)):
            raise ValueError(f"no such module: {self.name!r}")
        elif self.kind == "load" and self.name in PATCHES:
            Spec.parse(self.value)
        elif self.kind == "load":
            init_ret_of(self.value)
        elif self.value:
            raise ValueError(f"{self.kind} takes no value: {self.value!r}")


class Operation(NamedTuple):
    """An action, and what the model expects of it."""

    action: Action
    ok: Optional[bool] = True       # whether it succeeds; None if the cores differ on purpose
    number: int = 0                 # sleep: the new task
    place: str = ""                 # sleep: the module in whose function it then sleeps
    awakes: Tuple[int, ...] = ()    # wake: the tasks that go on
    holders: Tuple[int, ...] = ()   # the tasks that hold a transition up afterwards
    stuck: Tuple[str, ...] = ()     # the modules that stay for ever, because of force

    def __str__(self) -> str:
        return str(self.action)


class Spec(NamedTuple):
    """What a patch does."""

    objects: Tuple[Tuple[str, Tuple[str, ...]], ...]
    replace: bool = False
    states: Tuple[Tuple[int, int], ...] = ()
    callbacks: bool = False
    fail_object: str = ""
    fail_ret: int = 0

    def parameters(self, number: int) -> str:
        """For the module."""
        words = [f"id={number + 1}",
                 "objects=" + ";".join(f"{name}:{','.join(funcs)}" for name, funcs in self.objects)]
        if self.replace:
            words.append("replace=1")
        if self.states:
            words.append("states=" + ",".join(f"{state}:{version}"
                                              for state, version in self.states))
        if self.callbacks:
            words.append("callbacks=1")
        if self.fail_object:
            words.append(f"fail_object={self.fail_object}")
        if self.fail_ret:
            words.append(f"fail_ret={self.fail_ret}")
        return " ".join(words)

    @classmethod
    def parse(cls, text: str) -> "Spec":
        """What parameters() describes; raises ValueError for anything else."""
        match = PARAMETERS.fullmatch(text)
        if not match:
            raise ValueError(f"not the parameters of a patch: {text!r}")
        objects = (entry.split(":") for entry in match["objects"].split(";"))
        states = (entry.split(":") for entry in (match["states"] or "").split(",") if entry)
        return cls(tuple((name, tuple(funcs.split(","))) for name, funcs in objects),
                   bool(match["replace"]),
                   tuple((int(identifier), int(version)) for identifier, version in states),
                   bool(match["callbacks"]), match["fail_object"] or "",
                   int(match["fail_ret"] or 0))

    def functions(self, target: str) -> List[str]:
        """The functions of one object."""
        return [func for name, funcs in self.objects if name == target for func in funcs]

    def has_duplicates(self) -> bool:
        """Whether two directories in sysfs would have the same name."""
        names = [name for name, _ in self.objects]
        funcs = [[func if "+" in func else func + "+1" for func in funcs]
                 for _, funcs in self.objects]
        return any(len(set(some)) < len(some) for some in (names, *funcs))


class Sleeper:
    """A task that sleeps in a function."""

    def __init__(self, number: int, target: str, place: str) -> None:
        self.number = number
        self.target = target
        self.place = place      # the module the function belongs to
        self.switched = True    # to the target state of the transition


class Patch:
    """A patch that is enabled or in transition."""

    def __init__(self, name: str, spec: Spec, nops: Set[str]) -> None:
        self.name = name
        self.spec = spec
        self.fail_object = spec.fail_object
        self.fail_ret = spec.fail_ret
        self.nops = nops        # objects whose function that sleeps is given back to the original


def parse_bool(text: str) -> Optional[bool]:
    """As kstrtobool() does."""
    if text[:1] and text[0] in "yYtT1":
        return True
    if text[:1] and text[0] in "nNfF0":
        return False
    if text[:1] and text[0] in "oO" and text[1:2] and text[1] in "nNfF":
        return text[1] in "nN"
    return None


def init_ret_of(text: str) -> int:
    """The parameter of a target; raises ValueError for anything else."""
    match = re.fullmatch(r"(?:init_ret=(-?\d+))?", text)
    if not match:
        raise ValueError(f"not the parameter of a target: {text!r}")
    return int(match[1] or 0)


class Model:
    """What livepatch does, as far as it is needed to know what to wait for.

    Its methods are the operations.
    """

    def __init__(self) -> None:
        self.targets: Set[str] = set()
        self.modules: Set[str] = set()          # patch modules that are loaded
        self.patches: List[Patch] = []          # oldest first
        self.moving: Optional[Patch] = None     # in transition
        self.patching = False                   # which way
        self.sleepers: List[Sleeper] = []
        self.stuck: Set[str] = set()
        self.count = 0                          # of tasks that slept
        self.held = 0                           # operations since a transition is held up
        self.forced = False                     # over tasks that sleep still

    def patch(self, name: str) -> Optional[Patch]:
        """An enabled patch."""
        return next((patch for patch in self.patches if patch.name == name), None)

    def stack(self, target: str) -> List[Tuple[Patch, str]]:
        """The patches of a target's function that sleeps, oldest first.

        Each comes with the module that its function is in.
        """
        return [(patch, target if target in patch.nops else patch.name) for patch in self.patches
                if target in patch.nops or SLEEP in patch.spec.functions(target)]

    def place(self, target: str) -> str:
        """Where a task that has switched goes to sleep."""
        stack = self.stack(target)
        if stack and stack[-1][0] is self.moving and not self.patching:
            stack.pop()
        return stack[-1][1] if stack else target

    def holders(self) -> List[Sleeper]:
        """The tasks that cannot switch now."""
        places = set()
        for target in self.targets if self.moving else ():
            stack = self.stack(target)
            index = next((index for index, (patch, _) in enumerate(stack) if patch is self.moving),
                         None)
            if index is not None:
                before = stack[index - 1][1] if index else target
                places.add(before if self.patching else stack[index][1])
        return [sleeper for sleeper in self.sleepers
                if not sleeper.switched and sleeper.place in places]

    def settle(self) -> None:
        """Lets all tasks switch that can, and completes the transition if these are all."""
        if not self.moving:
            return
        holders = self.holders()
        for sleeper in self.sleepers:
            sleeper.switched |= sleeper not in holders
        if not holders:
            self.complete()

    def complete(self) -> None:
        """The transition is complete."""
        assert self.moving
        if not self.patching:
            self.patches.remove(self.moving)
        elif self.moving.spec.replace:
            self.patches = [self.moving]
            self.moving.nops = set()
        self.moving = None

    def start(self, patch: Patch, patching: bool) -> None:
        """Starts a transition."""
        self.moving, self.patching = patch, patching
        for sleeper in self.sleepers:
            sleeper.switched = False

    def done(self, action: Action, ok: Optional[bool] = True) -> Operation:
        """Describes an operation that the model has done."""
        self.settle()
        self.held = self.held + 1 if self.moving else 0
        self.forced = self.forced and bool(self.sleepers)
        return Operation(action, ok, holders=tuple(sleeper.number for sleeper in self.holders()),
                         stuck=tuple(sorted(self.stuck)))

    def apply(self, action: Action) -> Optional[Operation]:
        """Does the operation that an action asks for. None if it is not applicable now."""
        if action.kind == "wake":
            asleep = any(sleeper.place == action.name for sleeper in self.sleepers)
            return self.wake(action.name) if asleep else None
        if self.forced or self.held >= HELD_LIMIT:
            return None
        if action.kind == "sleep":
            return self.sleep(action.name) if action.name in self.targets else None
        if action.kind == "unload":
            return self.unload(action.name)
        if action.kind == "load" and action.name in PATCHES:
            return self.load_patch(action.name, Spec.parse(action.value))
        if action.kind == "load":
            return self.load_target(action.name, init_ret_of(action.value))
        match = WRITABLE.fullmatch(action.name)
        assert match
        if match["parameter"]:
            name = match["module"]
            if not self.patch(name):
                return None
            return self.let_fail(name, match["parameter"], action.value)
        if match["file"] == "enabled":
            return self.enable(match["patch"], action.value)
        if match["file"] == "force":
            return self.force(match["patch"], action.value)
        return self.write(f"{match['patch']}/{match['file']}", action.value)

    def unwind(self) -> List[Operation]:
        """Wakes, disables and unloads everything."""
        operations = self.wake_all()
        while self.patches:
            operations.append(self.enable(self.patches[-1].name, "0"))
        operations += [self.unload(name) for name in sorted(self.modules - self.stuck)]
        return operations + [self.unload(name) for name in sorted(self.targets)]

    def wake_all(self) -> List[Operation]:
        """Lets all tasks go on."""
        return [self.wake(place) for place in sorted({sleeper.place for sleeper in self.sleepers})]

    def compatible(self, spec: Spec) -> bool:
        """Whether a patch suits the system states of those that are enabled."""
        states = dict(spec.states)
        return all(states[identifier] >= version if identifier in states else not spec.replace
                   for patch in self.patches for identifier, version in patch.spec.states)

    def load_patch(self, name: str, spec: Spec) -> Operation:
        """Loads a patch module."""
        present = [(obj, funcs) for obj, funcs in spec.objects
                   if obj == "vmlinux" or obj in self.targets]
        good = (name not in self.modules and not self.moving
                and self.compatible(spec) and not spec.has_duplicates()
                and not any(func in UNKNOWN_FUNCTIONS for _, funcs in present for func in funcs))
        fails = (spec.callbacks and spec.fail_ret != 0
                 and spec.fail_object in (obj for obj, _ in present))
        ok: Optional[bool] = good and not fails
        if ok:
            nops = {target for target in TARGETS
                    if spec.replace and self.stack(target) and SLEEP not in spec.functions(target)}
            patch = Patch(name, spec, nops)
            self.patches.append(patch)
            self.modules.add(name)
            self.start(patch, True)
        elif good and spec.fail_ret > 0:
            ok = None
        return self.done(Action("load", name, spec.parameters(PATCHES.index(name))), ok)

    def load_target(self, name: str, init_ret: int = 0) -> Operation:
        """Loads a module that patches may change."""
        ok: Optional[bool] = name not in self.targets
        if ok:
            for patch in self.patches:
                funcs = patch.spec.functions(name)
                if any(func in UNKNOWN_FUNCTIONS for func in funcs):
                    ok = False
                elif (funcs and patch.spec.callbacks and patch.fail_object == name
                      and patch.fail_ret):
                    ok = None if patch.fail_ret > 0 else False
                if not ok:
                    break
            else:
                ok = init_ret == 0
        if ok:
            self.targets.add(name)
        return self.done(Action("load", name, f"init_ret={init_ret}" if init_ret else ""), ok)

    def unload(self, name: str) -> Operation:
        """Unloads a module, if nobody uses it."""
        if name in TARGETS:
            busy = any(sleeper.target == name for sleeper in self.sleepers)
            ok = name in self.targets and not busy
            self.targets.discard(name if ok else "")
        else:
            ok = name in self.modules and name not in self.stuck and not self.patch(name)
            self.modules.discard(name if ok else "")
        return self.done(Action("unload", name), ok)

    def enable(self, name: str, text: str) -> Operation:
        """Writes to enabled."""
        patch, value = self.patch(name), parse_bool(text)
        ok = False
        if patch and value is not None:
            enabled = self.patching if patch is self.moving else True
            if value != enabled and patch is self.moving:
                self.patching = value
                for sleeper in self.sleepers:
                    sleeper.switched = not sleeper.switched
                ok = True
            elif value != enabled and not self.moving:
                self.start(patch, False)
                ok = True
        return self.done(Action("write", f"{LIVEPATCH}/{name}/enabled", text), ok)

    def force(self, name: str, text: str) -> Operation:
        """Writes to force."""
        patch, value = self.patch(name), parse_bool(text)
        ok = patch is not None and value is not None and (patch is self.moving or not value)
        if ok and value:
            for sleeper in self.sleepers:
                sleeper.switched = True
            # No core knows of the tasks in its way any more, nor where they sleep.
            self.forced = True
            if not self.patching:
                self.stuck.add(name)
            elif patch and patch.spec.replace:
                self.stuck |= {other.name for other in self.patches if other is not patch}
        return self.done(Action("write", f"{LIVEPATCH}/{name}/force", text), ok)

    def write(self, file: str, text: str) -> Operation:
        """Writes to a file of sysfs that cannot be written to."""
        return self.done(Action("write", f"{LIVEPATCH}/{file}", text), False)

    def let_fail(self, name: str, parameter: str, text: str) -> Operation:
        """Changes for which object, or how, the pre-patch callback of an enabled patch fails."""
        patch = self.patch(name)
        assert patch
        if parameter == "fail_object":
            patch.fail_object = text
        else:
            patch.fail_ret = int(text)
        return self.done(Action("write", f"/sys/module/{name}/parameters/{parameter}", text))

    def sleep(self, target: str) -> Operation:
        """Starts a task that sleeps in a target's function or in what replaces it."""
        self.count += 1
        sleeper = Sleeper(self.count, target, self.place(target))
        self.sleepers.append(sleeper)
        return self.done(Action("sleep", target))._replace(number=sleeper.number,
                                                           place=sleeper.place)

    def wake(self, name: str) -> Operation:
        """Lets the tasks that sleep in a module's function go on."""
        awakes = [sleeper for sleeper in self.sleepers if sleeper.place == name]
        self.sleepers = [sleeper for sleeper in self.sleepers if sleeper not in awakes]
        return self.done(Action("wake", name))._replace(
            awakes=tuple(sleeper.number for sleeper in awakes))


def applicable(actions: Iterable[Action]) -> Tuple[Action, ...]:
    """Those of the actions that can be done one after the other."""
    model = Model()
    return tuple(action for action in actions if model.apply(action))


def plan(actions: Iterable[Action]) -> List[Operation]:
    """The operations of a run: the actions that are applicable, then what leaves nothing behind."""
    model = Model()
    operations = [operation for operation in map(model.apply, actions) if operation]
    return operations + model.unwind()
