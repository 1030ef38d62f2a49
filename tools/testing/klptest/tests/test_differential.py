# SPDX-License-Identifier: GPL-2.0
"""Tests of the differential test, without a machine."""

import contextlib
import errno
import io
import shlex
import tempfile
import unittest
from typing import Dict, List, Optional, Sequence, Set, Tuple
from unittest import mock

from klptest.differential import cli, replay
from klptest.differential.compare import Event, Record
from klptest.differential.generator import MAX_HELD, Generator, operations_of
from klptest.differential.guest import CORES, IGNORED, Driver
from klptest.differential.model import (HELD_LIMIT, PATCHES, SLEEP, TARGETS, UNKNOWN_FUNCTIONS,
                                        Action, Model, Spec, applicable, parse_bool, plan)
from klptest.differential.shrink import Actions, Limit, Shrinker, Shrunk

T0, T1 = TARGETS
P0, P1, P2 = PATCHES[:3]
SLEEPS = Spec(((T0, (SLEEP,)),))
OTHER = Spec(((T0, ("klp_diff_a",)),))


class Parsing(unittest.TestCase):
    """The kernel's idea of true and false."""

    def test_texts(self) -> None:
        for texts, value in ((("1", "y", "Y", "t", "on", "oN", "1 0"), True),
                             (("0", "n", "F", "off", "oF"), False),
                             (("", "\n", "2", "-1", "o", " 1", "x"), None)):
            for text in texts:
                with self.subTest(text):
                    self.assertIs(parse_bool(text), value)


class ModelTest(unittest.TestCase):
    """What the model expects."""

    def setUp(self) -> None:
        self.model = Model()
        self.assertTrue(self.model.load_target(T0).ok)

    def test_transition_without_sleepers_completes(self) -> None:
        operation = self.model.load_patch(P0, SLEEPS)
        self.assertTrue(operation.ok)
        self.assertEqual(operation.holders, ())
        self.assertIsNone(self.model.moving)

    def test_sleeper_in_the_original_holds_patching_up(self) -> None:
        self.assertEqual(self.model.sleep(T0).place, T0)
        self.assertEqual(self.model.load_patch(P0, SLEEPS).holders, (1,))
        self.assertFalse(self.model.load_patch(P1, OTHER).ok)
        self.assertEqual(self.model.wake(T0).holders, ())
        self.assertIsNone(self.model.moving)

    def test_sleeper_elsewhere_does_not(self) -> None:
        self.model.sleep(T0)
        self.assertEqual(self.model.load_patch(P0, OTHER).holders, ())

    def test_sleeper_in_the_patch_below_holds_up(self) -> None:
        self.model.load_patch(P0, SLEEPS)
        self.assertEqual(self.model.sleep(T0).place, P0)
        self.assertEqual(self.model.load_patch(P1, SLEEPS).holders, (1,))
        self.assertFalse(self.model.enable(P0, "0").ok)

    def test_there_and_back(self) -> None:
        self.model.sleep(T0)
        self.model.load_patch(P0, SLEEPS)
        self.assertEqual(self.model.sleep(T0).place, P0)
        self.assertEqual(self.model.enable(P0, "0").holders, (2,))
        self.assertEqual(self.model.sleep(T0).place, T0)
        self.assertFalse(self.model.enable(P0, "n").ok)
        self.assertEqual(self.model.enable(P0, "1").holders, (1, 3))
        self.assertEqual(self.model.wake(T0).holders, ())
        self.assertEqual([patch.name for patch in self.model.patches], [P0])

    def test_reversal_completes_if_nobody_is_in_the_new_function(self) -> None:
        self.model.sleep(T0)
        self.model.load_patch(P0, SLEEPS)
        self.assertEqual(self.model.enable(P0, "0").holders, ())
        self.assertEqual(self.model.patches, [])
        self.assertTrue(self.model.unload(P0).ok)

    def test_replacing_gives_the_function_back(self) -> None:
        self.model.load_patch(P0, SLEEPS)
        self.model.sleep(T0)
        self.assertEqual(self.model.load_patch(P1, OTHER._replace(replace=True)).holders, (1,))
        self.assertEqual(self.model.sleep(T0).place, T0)
        self.assertEqual(self.model.enable(P1, "0").holders, (2,))
        self.assertEqual(self.model.enable(P1, "1").holders, (1,))
        self.assertEqual(self.model.wake(P0).holders, ())
        self.assertEqual([patch.name for patch in self.model.patches], [P1])
        self.assertTrue(self.model.unload(P0).ok)

    def test_force_makes_modules_stay(self) -> None:
        self.model.load_patch(P0, SLEEPS)
        self.model.sleep(T0)
        self.model.enable(P0, "0")
        self.assertEqual(self.model.force(P0, "1").stuck, (P0,))
        self.assertEqual(self.model.patches, [])
        self.assertFalse(self.model.unload(P0).ok)
        self.assertFalse(self.model.load_patch(P0, OTHER).ok)

    def test_forced_replacing_makes_the_replaced_stay(self) -> None:
        self.model.load_patch(P0, SLEEPS)
        self.model.sleep(T0)
        self.model.load_patch(P1, SLEEPS._replace(replace=True))
        self.assertEqual(self.model.force(P1, "1").stuck, (P0,))

    def test_forced_patching_leaves_no_trace(self) -> None:
        self.model.sleep(T0)
        self.model.load_patch(P0, SLEEPS)
        self.assertEqual(self.model.force(P0, "y").stuck, ())
        self.assertFalse(self.model.force(P0, "y").ok)
        self.assertTrue(self.model.force(P0, "n").ok)

    def test_targets_in_use_stay(self) -> None:
        self.model.sleep(T0)
        self.assertFalse(self.model.unload(T0).ok)
        self.model.wake(T0)
        self.assertTrue(self.model.unload(T0).ok)
        self.assertFalse(self.model.unload(T0).ok)

    def test_mistakes_count_when_the_object_is_there(self) -> None:
        for func in UNKNOWN_FUNCTIONS:
            with self.subTest(func):
                self.assertFalse(self.model.load_patch(P0, Spec(((T0, (func,)),))).ok)
        self.assertTrue(self.model.load_patch(P0, Spec(((T1, ("klp_diff_missing",)),))).ok)
        self.assertFalse(self.model.load_target(T1).ok)
        self.model.enable(P0, "0")
        self.assertTrue(self.model.load_target(T1).ok)

    def test_duplicates(self) -> None:
        self.assertFalse(
            self.model.load_patch(P0, Spec(((T1, ("klp_diff_a", "klp_diff_a+1")),))).ok)
        self.assertFalse(
            self.model.load_patch(P0, Spec(((T1, ("klp_diff_a",)), (T1, ("klp_diff_b",))))).ok)

    def test_states(self) -> None:
        self.model.load_patch(P0, OTHER._replace(states=((1, 2),)))
        self.assertTrue(self.model.load_patch(P1, OTHER).ok)
        self.assertFalse(self.model.load_patch(P2, OTHER._replace(replace=True)).ok)
        self.assertFalse(self.model.load_patch(P2, OTHER._replace(states=((1, 1),))).ok)
        self.assertTrue(
            self.model.load_patch(P2, OTHER._replace(replace=True, states=((1, 2),))).ok)

    def test_callbacks_that_fail(self) -> None:
        fails = OTHER._replace(callbacks=True, fail_object=T0, fail_ret=-errno.ENODEV)
        self.assertIs(self.model.load_patch(P0, fails).ok, False)
        self.assertIsNone(self.model.load_patch(P0, fails._replace(fail_ret=1)).ok)
        self.assertTrue(self.model.load_patch(P0, fails._replace(callbacks=False)).ok)
        elsewhere = fails._replace(objects=((T1, ("klp_diff_a",)),), fail_object=T1)
        self.assertTrue(self.model.load_patch(P1, elsewhere).ok)
        self.assertIs(self.model.load_target(T1).ok, False)


class Generation(unittest.TestCase):
    """Lists of operations."""

    def setUp(self) -> None:
        self.generators: List[Generator] = []
        for seed in range(300):
            generator = Generator(f"test/{seed}", 15)
            generator.generate()
            self.generators.append(generator)

    def test_repeatable(self) -> None:
        self.assertEqual(operations_of("7", 3, 15), operations_of("7", 3, 15))
        self.assertNotEqual(operations_of("7", 3, 15), operations_of("7", 4, 15))
        self.assertNotEqual(operations_of("7", 3, 15), operations_of("8", 3, 15))

    def test_actions_are_all_that_matters(self) -> None:
        """What is replayed is what was made up."""
        for generator in self.generators:
            actions = [operation.action for operation in generator.operations]
            self.assertEqual(plan(replay.parse(replay.dump(actions))), generator.operations)

    def test_parts_leave_nothing_behind(self) -> None:
        for generator in self.generators:
            actions = [operation.action for operation in generator.operations]
            for start in range(3):
                model = Model()
                some = [operation for operation in map(model.apply, actions[start::3]) if operation]
                self.assertEqual(plan(actions[start::3]), [*some, *model.unwind()])
                self.assertEqual((model.patches, model.sleepers, model.targets), ([], [], set()))

    def test_nothing_is_left_behind(self) -> None:
        for generator in self.generators:
            model = generator.model
            self.assertEqual((model.patches, model.sleepers, model.moving, model.targets),
                             ([], [], None, set()))
            self.assertEqual(model.modules, model.stuck)

    def test_transitions_are_not_held_up_for_long(self) -> None:
        for generator in self.generators:
            held = longest = 0
            for operation in generator.operations:
                held = held + 1 if operation.holders else 0
                longest = max(longest, held)
            # The last choice may be several operations.
            self.assertLess(longest, MAX_HELD + 6)

    def test_everything_happens(self) -> None:
        operations = [operation for generator in self.generators
                      for operation in generator.operations]
        self.assertEqual({operation.action.kind for operation in operations},
                         {"load", "unload", "write", "sleep", "wake"})
        for kind in "load", "unload", "write":
            for ok in True, False:
                count = sum((operation.action.kind, operation.ok) == (kind, ok)
                            for operation in operations)
                self.assertGreater(count, 20, (kind, ok))
        self.assertGreater(sum(operation.ok is None for operation in operations), 5)
        self.assertGreater(sum(bool(operation.holders) for operation in operations), 100)
        self.assertGreater(sum(bool(generator.model.stuck) for generator in self.generators), 5)
        texts = "\n".join(map(str, operations))
        for word in ("replace=1", "states=", "callbacks=1", "fail_ret=", "vmlinux:", T0, T1,
                     "init_ret=", "/force", *UNKNOWN_FUNCTIONS):
            self.assertIn(word, texts)


class Names(unittest.TestCase):
    """Modules that stay for ever make way for others."""

    def test_there_and_back(self) -> None:
        driver = Driver.__new__(Driver)
        driver.generation = 12
        real = driver.real("/sys/kernel/livepatch/klp_diff_p3/enabled klp_diff_t0")
        self.assertEqual(real, "/sys/kernel/livepatch/klp_diff_p12_3/enabled klp_diff_t0")
        self.assertEqual(driver.plain(real),
                         "/sys/kernel/livepatch/klp_diff_p3/enabled klp_diff_t0")


class Applicability(unittest.TestCase):
    """What the model leaves out of a list of actions."""

    def setUp(self) -> None:
        model = Model()
        self.load = model.load_target(T0).action
        self.sleep = model.sleep(T0).action
        self.patch = model.load_patch(P0, SLEEPS).action
        self.force = model.force(P0, "1").action
        self.wake = model.wake(T0).action

    def test_all(self) -> None:
        actions = (self.load, self.sleep, self.patch, self.force, self.wake)
        self.assertEqual(applicable(actions), actions)

    def test_nobody_sleeps_in_what_is_not_there(self) -> None:
        self.assertEqual(applicable((self.sleep, self.wake, self.patch)), (self.patch,))

    def test_nobody_to_wake(self) -> None:
        self.assertEqual(applicable((self.load, self.wake)), (self.load,))

    def test_a_callback_of_a_patch_that_is_not_there(self) -> None:
        write = Action("write", f"/sys/module/{P0}/parameters/fail_ret", "-5")
        self.assertEqual(applicable((write, self.patch, write)), (self.patch, write))

    def test_tasks_that_were_forced_are_woken_first(self) -> None:
        held = (self.load, self.sleep, self.patch)
        self.assertEqual(applicable((*held, self.force, self.sleep, self.wake, self.sleep)),
                         (*held, self.force, self.wake, self.sleep))

    def test_transitions_are_not_held_up_for_long(self) -> None:
        unload = Action("unload", T1)
        held = (self.load, self.sleep, self.patch)
        self.assertEqual(applicable((*held, *[unload] * 20, self.wake, unload)),
                         (*held, *[unload] * (HELD_LIMIT - 1), self.wake, unload))


class Replaying(unittest.TestCase):
    """Operations from a file."""

    def refused(self, text: str) -> str:
        """The one message that a file's contents lead to."""
        said = io.StringIO()
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(text)
            file.flush()
            with self.assertRaises(SystemExit) as caught, contextlib.redirect_stderr(said):
                cli.main(["--replay", file.name, "--list"])
            self.assertEqual(caught.exception.code, 2)
            self.assertEqual(said.getvalue().count("\n"), 1)
            self.assertTrue(said.getvalue().startswith(f"differential: {file.name}: "))
        return said.getvalue()

    def test_bad_files(self) -> None:
        patch = "/sys/kernel/livepatch/klp_diff_p0"
        fail_ret = "/sys/module/klp_diff_p0/parameters/fail_ret"
        for text, message in (
                ("", "Expecting value"),
                ("{}", "not a list of operations"),
                ("[]", "not a list of operations"),
                ('["load"]', "operation 1: not a list of two or three strings"),
                ('[["unload", "klp_diff_t0"], ["unload"]]', "operation 2: not a list of two or"),
                ('[["write", 1, 2]]', "operation 1: not a list of two or three strings"),
                ('[["boot", "klp_diff_t0"]]', "no such kind of operation: 'boot'"),
                ('[["unload", "ext4"]]', "no such module: 'ext4'"),
                ('[["sleep", "klp_diff_p0"]]', "no such module: 'klp_diff_p0'"),
                ('[["unload", "klp_diff_t0", "1"]]', "unload takes no value: '1'"),
                ('[["write", "/etc/passwd", "1"]]', "not a file that operations write to: '/etc"),
                (f'[["write", "{patch}/../x", "1"]]', "not a file that operations write to"),
                (f'[["write", "{fail_ret}", "x"]]', "not a number: 'x'"),
                ('[["load", "klp_diff_t0", "init_ret"]]', "not the parameter of a target: 'init_"),
                ('[["load", "klp_diff_p0"]]', "not the parameters of a patch: ''"),
                ('[["load", "klp_diff_p0", "id=1"]]', "not the parameters of a patch: 'id=1'"),
                ('[["wake", "klp_diff_t0"]]', "none of the operations is applicable")):
            with self.subTest(text):
                self.assertIn(message, self.refused(text))

    def test_no_file(self) -> None:
        said = io.StringIO()
        with self.assertRaises(SystemExit) as caught, contextlib.redirect_stderr(said):
            cli.main(["--replay", "/nonexistent/file"])
        self.assertEqual(caught.exception.code, 2)
        self.assertEqual(said.getvalue(),
                         "differential: /nonexistent/file: No such file or directory\n")

    def test_list(self) -> None:
        said = io.StringIO()
        with tempfile.NamedTemporaryFile("w") as file, contextlib.redirect_stdout(said):
            file.write('[["wake", "klp_diff_t0"], ["load", "klp_diff_t0"]]')
            file.flush()
            self.assertEqual(cli.main(["--replay", file.name, "--list"]), 0)
        self.assertEqual(said.getvalue().splitlines(), [
            "# left out, because they are not applicable: 1 of 2 operations",
            "run replay", "  1. load klp_diff_t0", "  2. unload klp_diff_t0"])


def numbered(number: int) -> Action:
    """An action that is applicable always; the numbers tell them apart."""
    return Action("write", f"/sys/kernel/livepatch/{P0}/n{number}")


class FakeMachine:
    """Cores that differ once all the culprits were done."""

    def __init__(self, *culprits: Action) -> None:
        self.culprits = culprits
        self.boots: List[Sequence[Actions]] = []
        self.deadly: Set[Actions] = set()       # after these a boot is over, without a verdict
        self.flaky: Dict[Actions, int] = {}     # differ too, but only so often

    def differs(self, actions: Actions) -> bool:
        """Whether the cores do."""
        if self.flaky.get(actions, 0):
            self.flaky[actions] -= 1
            return True
        return set(self.culprits) <= set(actions)

    def __call__(self, candidates: Sequence[Actions], _: float) -> List[Optional[bool]]:
        self.boots.append(candidates)
        verdicts: List[Optional[bool]] = []
        for actions in candidates:
            if actions in self.deadly:
                break
            verdicts.append(self.differs(actions))
        return verdicts + [None] * (len(candidates) - len(verdicts))


class Shrinking(unittest.TestCase):
    """The shortest sequence in which the cores differ."""

    def setUp(self) -> None:
        self.actions = tuple(map(numbered, range(20)))

    def shrink(self, machine: FakeMachine, boots: int = 100,
               seconds: float = 1000) -> Optional[Shrunk]:
        """What comes of all actions."""
        return Shrinker(machine, Limit(boots, seconds)).shrink(self.actions)

    def test_every_pair_is_found(self) -> None:
        for first in range(20):
            for second in range(first, 20):
                pair = tuple(self.actions[place] for place in sorted({first, second}))
                machine = FakeMachine(*pair)
                self.assertEqual(self.shrink(machine), Shrunk(pair, True))
                self.assertLess(len(machine.boots), 16)

    def test_nothing_to_leave_out(self) -> None:
        self.assertEqual(self.shrink(FakeMachine(*self.actions)), Shrunk(self.actions, True))

    def test_what_is_not_applicable_is_left_out(self) -> None:
        wake, sleep = Action("wake", T0), Action("sleep", T0)
        self.actions = (Action("load", T0), numbered(1), sleep, numbered(2), wake, numbered(3))
        machine = FakeMachine(numbered(2), numbered(3))
        self.assertEqual(self.shrink(machine), Shrunk((numbered(2), numbered(3)), True))
        for candidates in machine.boots:
            for actions in candidates:
                self.assertEqual(actions, applicable(actions))

    def test_no_candidate_twice(self) -> None:
        machine = FakeMachine(*self.actions[3:6])
        self.shrink(machine)
        done = [actions for candidates in machine.boots for actions in candidates]
        # But for the result, which is confirmed.
        self.assertEqual(len(done), len(set(done)) + 1)

    def test_limit_of_boots(self) -> None:
        machine = FakeMachine(self.actions[3], self.actions[12])
        shrunk = self.shrink(machine, boots=4)
        assert shrunk
        self.assertEqual(len(machine.boots), 4)
        self.assertFalse(shrunk.complete)
        self.assertTrue(machine.differs(shrunk.actions))
        self.assertLess(len(shrunk.actions), 20)

    def test_limit_of_time(self) -> None:
        machine = FakeMachine(self.actions[3])
        with mock.patch("time.monotonic", side_effect=(float(now) for now in range(0, 1000, 10))):
            shrunk = self.shrink(machine, seconds=35)
        assert shrunk
        self.assertEqual(len(machine.boots), 3)
        self.assertFalse(shrunk.complete)

    def test_does_not_differ_again(self) -> None:
        machine = FakeMachine(numbered(99))
        self.assertIsNone(self.shrink(machine))
        self.assertEqual(len(machine.boots), 1)

    def test_candidate_that_differs_by_chance(self) -> None:
        pair = (self.actions[3], self.actions[12])
        for flaky in ((self.actions[3],), self.actions[:10], self.actions[10:]):
            machine = FakeMachine(*pair)
            machine.flaky[flaky] = 1
            self.assertEqual(self.shrink(machine), Shrunk(pair, True))

    def test_boot_that_ends_early(self) -> None:
        pair = (self.actions[3], self.actions[12])
        machine = FakeMachine(*pair)
        machine.deadly = {self.actions[10:], (self.actions[3],), self.actions[2:]}
        self.assertEqual(self.shrink(machine), Shrunk(pair, True))

    def test_every_boot_fails(self) -> None:
        machine = FakeMachine(*self.actions)
        machine.deadly = {self.actions}
        self.assertIsNone(self.shrink(machine))


class Judging(unittest.TestCase):
    """What a boot says of candidates."""

    def setUp(self) -> None:
        self.candidates: List[Actions] = [(numbered(place),) for place in range(3)]

    def verdicts(self, *events: Event, model_errs: bool = False) -> List[Optional[bool]]:
        """For what the guest reports."""
        with mock.patch.object(cli, "run_machine", return_value=events):
            return cli.Boots(model_errs)(self.candidates, 1)

    @staticmethod
    def done(core: str, run: int, *lines: str) -> List[Event]:
        """What the guest reports of a run."""
        return [{"core": core, "run": run, "lines": list(lines)},
                {"core": core, "run": run, "seconds": 1.0}]

    def test_all_done(self) -> None:
        builtin = [event for run in range(3) for event in self.done("C", run, "x")]
        rust = [*self.done("Rust", 0, "x"), *self.done("Rust", 1, "y"), *self.done("Rust", 2, "x")]
        self.assertEqual(self.verdicts(*builtin, *rust, {"machine": 0}), [False, True, False])

    def test_other_kinds_of_differences_do_not_count(self) -> None:
        events = [*self.done("C", 0, "! x"), *self.done("Rust", 0, "! x"),
                  *self.done("C", 1, "x"), *self.done("Rust", 1, "y")]
        self.assertEqual(self.verdicts(*events), [False, True, None])
        self.assertEqual(self.verdicts(*events, model_errs=True), [True, False, None])

    def test_builtin_core_does_not_get_through(self) -> None:
        self.candidates = [(numbered(place), numbered(place + 1)) for place in range(3)]
        events = [*self.done("C", 0, "x"), {"core": "C", "run": 1, "lines": ["x"]},
                  {"machine": 125}]
        self.assertEqual(self.verdicts(*events), [None, False, None])

    def test_rust_core_does_not_get_through(self) -> None:
        self.candidates = [(numbered(place), numbered(place + 1)) for place in range(3)]
        events: List[Event] = []
        for run in range(3):
            events += [{"core": "C", "run": run, "lines": ["x"]}, *self.done("C", run, "x")]
        events.append({"core": "Rust", "run": 0, "lines": ["x"]})
        self.assertEqual(self.verdicts(*events, {"machine": 125}), [True, None, None])
        self.assertEqual(self.verdicts(*events, {"machine": 124}), [None, None, None])

    def test_report(self) -> None:
        """From a run that differs to the command that repeats what is left of it."""
        actions = tuple(map(numbered, range(6)))
        culprits = {actions[1], actions[4]}

        def machine(_: float, records: Sequence[Record]) -> List[Event]:
            events: List[Event] = []
            for core in CORES:
                for run, record in enumerate(records):
                    before: Set[Action] = set()
                    for operation in record.operations:
                        before.add(operation.action)
                        planted = core == "Rust" and culprits <= before
                        lines = ["y" if planted else "x"]
                        events.append({"core": core, "run": run, "lines": lines})
                    events.append({"core": core, "run": run, "seconds": 1.0})
            return events

        said = io.StringIO()
        with tempfile.NamedTemporaryFile("w") as file, contextlib.redirect_stdout(said), \
                mock.patch.object(cli, "run_machine", machine):
            file.write(replay.dump(actions))
            file.flush()
            self.assertEqual(cli.main(["--replay", file.name]), 1)
        head, _, tail = said.getvalue().partition(
            "# run replay shrunk from 5 operations to 2: none can")
        self.assertIn("\nnot ok run replay\n", head)
        self.assertIn(f"\n#   2. {actions[4]}\n# operation 2, ", tail)
        command = tail.splitlines()[-1].partition("repeat it: ")[2]
        words = shlex.split(command)
        self.assertEqual(words[:4], ["tools/testing/differential", "--replay", "/dev/stdin", "<<<"])
        self.assertEqual(replay.parse(words[4]), (actions[1], actions[4]))


class Comparison(unittest.TestCase):
    """Traces of the two cores."""

    def setUp(self) -> None:
        self.operations = operations_of("1", 1, 15)
        self.actions = [operation.action for operation in self.operations]
        self.trace = [["result: ok", f"value: {place}"] for place in range(len(self.operations))]

    def changed(self, place: int, *lines: str) -> List[List[str]]:
        """The trace with other lines in one place."""
        return [*self.trace[:place], list(lines), *self.trace[place + 1:]]

    def parted(self, builtin: Sequence[Sequence[str]], rust: Sequence[Sequence[str]]) -> str:
        """The report as one text; empty if the cores do not part."""
        record = Record("1", self.actions)
        for core, trace in zip(CORES, (builtin, rust)):
            record.lines[core] = [list(lines) for lines in trace]
        parting = record.parting()
        return "\n".join(parting.report) if parting else ""

    def test_same(self) -> None:
        self.assertFalse(self.parted(self.trace, self.trace))

    def test_other_line(self) -> None:
        text = self.parted(self.trace, self.changed(3, "result: EINVAL", "value: 3"))
        self.assertIn(f"operation 4, {self.operations[3]}", text)
        self.assertIn("-result: ok\n", text)
        self.assertIn("+result: EINVAL\n", text)
        self.assertIn(f"  4. {self.operations[3]}\n", text)
        self.assertNotIn("  5. ", text)

    def test_line_missing_or_too_many(self) -> None:
        self.assertTrue(self.parted(self.trace, self.changed(3, "result: ok")))
        self.assertTrue(self.parted(self.changed(3, "result: ok"), self.trace))
        self.assertTrue(self.parted(self.trace, self.changed(3, "value: 3", "result: ok")))

    def test_deliberate(self) -> None:
        line = "result of a positive callback: "
        self.assertFalse(
            self.parted(self.changed(0, line + "ok"), self.changed(0, line + "EINVAL")))
        self.assertFalse(self.parted(self.changed(0, line + "1"), self.changed(0, line + "EINVAL")))
        self.assertTrue(self.parted(self.changed(0, line + "EINVAL"), self.changed(0, line + "ok")))
        self.assertTrue(
            self.parted(self.changed(0, "result: ok"), self.changed(0, "result: EINVAL")))
        text = self.parted(self.changed(0, line + "ok", "value: 1"),
                           self.changed(0, line + "EINVAL", "value: 2"))
        self.assertNotIn("EINVAL", text)
        self.assertIn("+value: 2", text)

    def test_broken_off(self) -> None:
        self.assertIn("(did not get there)", self.parted(self.trace, self.trace[:5]))
        self.assertIn("operation 6,", self.parted(self.trace, self.trace[:5]))

    def test_both_wrong(self) -> None:
        broken = self.changed(3, "result: ok", "! expected to fail")[:4]
        self.assertIn("! expected to fail", self.parted(broken, broken))

    def test_ignored_messages(self) -> None:
        for text in ("livepatch: signaling remaining tasks",
                     "klp_diff_t0: loading out-of-tree module taints kernel.",
                     "livepatch: tainting kernel with TAINT_LIVEPATCH"):
            self.assertTrue(IGNORED.match(text), text)
        for text in ("livepatch: enabling patch 'x'",
                     "klp_diff_p00_0: pre_patch vmlinux: enabled 0"):
            self.assertFalse(IGNORED.match(text), text)

    def judge(self, builtin: Sequence[Sequence[str]], rust: Sequence[Sequence[str]],
              *more: Event) -> Tuple[bool, str]:
        """What the host says of what the guest reports."""
        events: List[Event] = []
        for core, trace in zip(CORES, (builtin, rust)):
            events += [{"core": core, "run": 0, "lines": lines} for lines in trace]
            if len(trace) == len(self.trace):
                events.append({"core": core, "run": 0, "seconds": 1.0})
        said = io.StringIO()
        with contextlib.redirect_stdout(said), \
                mock.patch.object(cli, "run_machine", return_value=[*events, *more]):
            status = cli.main(["--seed", "1", "--run", "1", "--shrink-boots", "0"])
        return status == 0, said.getvalue()

    def test_verdict(self) -> None:
        good, text = self.judge(self.trace, self.trace, {"machine": 0})
        self.assertTrue(good)
        self.assertIn("\nok run 1 ", text)
        good, text = self.judge(self.trace, self.changed(2, "result: EIO"), {"machine": 0})
        self.assertFalse(good)
        self.assertIn("\nnot ok run 1\n", text)
        self.assertIn("make differential SEED=1 RUN=1 OPERATIONS=15", text)

    def test_machine_ends(self) -> None:
        self.assertFalse(self.judge(self.trace, self.trace, {"machine": 125})[0])
        good, text = self.judge(self.trace, self.trace[:5], {"machine": 124})
        self.assertFalse(good)
        self.assertIn("not ok run 1\n", text)
        good, text = self.judge(self.trace[:5], [], {"machine": 124})
        self.assertFalse(good)
        self.assertIn("not ok run 1: not done", text)
