# SPDX-License-Identifier: GPL-2.0
"""Tests of tools/testing/differential, without a machine: python3 tools/testing/test_differential.py"""

import errno
import io
import sys
import types
import unittest
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

PROGRAM = Path(__file__).resolve().parent / "differential"


def load_program() -> Any:
    """Import the program, whose name has no .py; leaves no compiled file next to it."""
    module = types.ModuleType("differential")
    module.__file__ = str(PROGRAM)
    sys.modules["differential"] = module
    exec(compile(PROGRAM.read_bytes(), str(PROGRAM), "exec"), module.__dict__)
    return module


differential = load_program()
Spec = differential.Spec

T0, T1 = differential.TARGETS
P0, P1, P2 = differential.PATCHES[:3]
SLEEPS = Spec(((T0, (differential.SLEEP,)),))
OTHER = Spec(((T0, ("klp_diff_a",)),))


class Parsing(unittest.TestCase):
    """The kernel's idea of true and false."""

    def test_texts(self) -> None:
        for texts, value in ((("1", "y", "Y", "t", "on", "oN", "1 0"), True),
                             (("0", "n", "F", "off", "oF"), False),
                             (("", "\n", "2", "-1", "o", " 1", "x"), None)):
            for text in texts:
                with self.subTest(text):
                    self.assertIs(differential.parse_bool(text), value)


class ModelTest(unittest.TestCase):
    """What the model expects."""

    def setUp(self) -> None:
        self.model = differential.Model()
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
        for func in differential.UNKNOWN_FUNCTIONS:
            with self.subTest(func):
                self.assertFalse(self.model.load_patch(P0, Spec(((T0, (func,)),))).ok)
        self.assertTrue(self.model.load_patch(P0, Spec(((T1, ("klp_diff_missing",)),))).ok)
        self.assertFalse(self.model.load_target(T1).ok)
        self.model.enable(P0, "0")
        self.assertTrue(self.model.load_target(T1).ok)

    def test_duplicates(self) -> None:
        self.assertFalse(self.model.load_patch(P0, Spec(((T1, ("klp_diff_a", "klp_diff_a+1")),))).ok)
        self.assertFalse(self.model.load_patch(P0, Spec(((T1, ("klp_diff_a",)), (T1, ("klp_diff_b",))))).ok)

    def test_states(self) -> None:
        self.model.load_patch(P0, OTHER._replace(states=((1, 2),)))
        self.assertTrue(self.model.load_patch(P1, OTHER).ok)
        self.assertFalse(self.model.load_patch(P2, OTHER._replace(replace=True)).ok)
        self.assertFalse(self.model.load_patch(P2, OTHER._replace(states=((1, 1),))).ok)
        self.assertTrue(self.model.load_patch(P2, OTHER._replace(replace=True, states=((1, 2),))).ok)

    def test_callbacks_that_fail(self) -> None:
        fails = OTHER._replace(callbacks=True, fail_object=T0, fail_ret=-errno.ENODEV)
        self.assertIs(self.model.load_patch(P0, fails).ok, False)
        self.assertIsNone(self.model.load_patch(P0, fails._replace(fail_ret=1)).ok)
        self.assertTrue(self.model.load_patch(P0, fails._replace(callbacks=False)).ok)
        self.assertTrue(self.model.load_patch(P1, fails._replace(objects=((T1, ("klp_diff_a",)),), fail_object=T1)).ok)
        self.assertIs(self.model.load_target(T1).ok, False)


class Generation(unittest.TestCase):
    """Lists of operations."""

    def setUp(self) -> None:
        self.generators = []
        for seed in range(300):
            generator = differential.Generator(f"test/{seed}", 15)
            generator.generate()
            self.generators.append(generator)

    def test_repeatable(self) -> None:
        self.assertEqual(differential.operations_of("7", 3, 15), differential.operations_of("7", 3, 15))
        self.assertNotEqual(differential.operations_of("7", 3, 15), differential.operations_of("7", 4, 15))
        self.assertNotEqual(differential.operations_of("7", 3, 15), differential.operations_of("8", 3, 15))

    def test_nothing_is_left_behind(self) -> None:
        for generator in self.generators:
            model = generator.model
            self.assertEqual((model.patches, model.sleepers, model.moving, model.targets), ([], [], None, set()))
            self.assertEqual(model.modules, model.stuck)

    def test_transitions_are_not_held_up_for_long(self) -> None:
        for generator in self.generators:
            held = longest = 0
            for operation in generator.operations:
                held = held + 1 if operation.holders else 0
                longest = max(longest, held)
            # The last choice may be several operations.
            self.assertLess(longest, differential.MAX_HELD + 6)

    def test_everything_happens(self) -> None:
        operations = [operation for generator in self.generators for operation in generator.operations]
        self.assertEqual({operation.kind for operation in operations}, {"load", "unload", "write", "sleep", "wake"})
        for kind in "load", "unload", "write":
            for ok in True, False:
                count = sum((operation.kind, operation.ok) == (kind, ok) for operation in operations)
                self.assertGreater(count, 20, (kind, ok))
        self.assertGreater(sum(operation.ok is None for operation in operations), 5)
        self.assertGreater(sum(bool(operation.holders) for operation in operations), 100)
        self.assertGreater(sum(bool(generator.model.stuck) for generator in self.generators), 5)
        texts = "\n".join(map(str, operations))
        for word in ("replace=1", "states=", "callbacks=1", "fail_ret=", "vmlinux:", T0, T1, "init_ret=", "/force",
                     *differential.UNKNOWN_FUNCTIONS):
            self.assertIn(word, texts)


class Names(unittest.TestCase):
    """Modules that stay for ever make way for others."""

    def test_there_and_back(self) -> None:
        driver = differential.Driver.__new__(differential.Driver)
        driver.generation = 12
        real = driver.real("/sys/kernel/livepatch/klp_diff_p3/enabled klp_diff_t0")
        self.assertEqual(real, "/sys/kernel/livepatch/klp_diff_p12_3/enabled klp_diff_t0")
        self.assertEqual(driver.plain(real), "/sys/kernel/livepatch/klp_diff_p3/enabled klp_diff_t0")


class Comparison(unittest.TestCase):
    """Traces of the two cores."""

    def setUp(self) -> None:
        self.operations = differential.operations_of("1", 1, 15)
        self.trace = [["result: ok", f"value: {place}"] for place in range(len(self.operations))]

    def changed(self, place: int, *lines: str) -> List[List[str]]:
        """The trace with other lines in one place."""
        return [*self.trace[:place], list(lines), *self.trace[place + 1:]]

    def parted(self, builtin: Sequence[Sequence[str]], rust: Sequence[Sequence[str]]) -> Optional[str]:
        """The report as one text."""
        lines = differential.difference(self.operations, builtin, rust)
        return None if lines is None else "\n".join(lines)

    def test_same(self) -> None:
        self.assertIsNone(self.parted(self.trace, self.trace))

    def test_other_line(self) -> None:
        text = self.parted(self.trace, self.changed(3, "result: EINVAL", "value: 3"))
        self.assertIn(f"operation 4, {self.operations[3]}", text)
        self.assertIn("-result: ok\n", text)
        self.assertIn("+result: EINVAL\n", text)
        self.assertIn(f"  4. {self.operations[3]}\n", text)
        self.assertNotIn("  5. ", text)

    def test_line_missing_or_too_many(self) -> None:
        self.assertIsNotNone(self.parted(self.trace, self.changed(3, "result: ok")))
        self.assertIsNotNone(self.parted(self.changed(3, "result: ok"), self.trace))
        self.assertIsNotNone(self.parted(self.trace, self.changed(3, "value: 3", "result: ok")))

    def test_deliberate(self) -> None:
        line = "result of a positive callback: "
        self.assertIsNone(self.parted(self.changed(0, line + "ok"), self.changed(0, line + "EINVAL")))
        self.assertIsNone(self.parted(self.changed(0, line + "1"), self.changed(0, line + "EINVAL")))
        self.assertIsNotNone(self.parted(self.changed(0, line + "EINVAL"), self.changed(0, line + "ok")))
        self.assertIsNotNone(self.parted(self.changed(0, "result: ok"), self.changed(0, "result: EINVAL")))
        text = self.parted(self.changed(0, line + "ok", "value: 1"), self.changed(0, line + "EINVAL", "value: 2"))
        self.assertNotIn("EINVAL", text)
        self.assertIn("+value: 2", text)

    def test_broken_off(self) -> None:
        self.assertIn("(did not get there)", self.parted(self.trace, self.trace[:5]))
        self.assertIn("operation 6,", self.parted(self.trace, self.trace[:5]))

    def test_both_wrong(self) -> None:
        broken = self.changed(3, "result: ok", "! expected to fail")[:4]
        self.assertIn("! expected to fail", self.parted(broken, broken))

    def test_ignored_messages(self) -> None:
        for text in ("livepatch: signaling remaining tasks", "klp_diff_t0: loading out-of-tree module taints kernel.",
                     "livepatch: tainting kernel with TAINT_LIVEPATCH"):
            self.assertTrue(differential.IGNORED.match(text), text)
        for text in ("livepatch: enabling patch 'x'", "klp_diff_p00_0: pre_patch vmlinux: enabled 0"):
            self.assertFalse(differential.IGNORED.match(text), text)

    def judge(self, builtin: Sequence[Sequence[str]], rust: Sequence[Sequence[str]], *more: Dict) -> Tuple[bool, str]:
        """What the host says of what the guest reports."""
        args = differential.parse_arguments(["--seed", "1", "--run", "1"])
        events: List[Dict] = []
        for core, trace in zip(differential.CORES, (builtin, rust)):
            events += [{"core": core, "run": 1, "lines": lines} for lines in trace]
            if len(trace) == len(self.trace):
                events.append({"core": core, "run": 1, "seconds": 1.0})
        said = io.StringIO()
        with redirect_stdout(said):
            good = differential.compare(args, [*events, *more])
        return good, said.getvalue()

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


if __name__ == "__main__":
    unittest.main()
