# SPDX-License-Identifier: GPL-2.0
"""Tests of what the benchmarks make of their measurements: python3 tools/testing/bench/test_bench.py"""

import dataclasses
import json
import unittest
from typing import Dict, List, Tuple

import driver
import report
from report import Figure, Plan, Sample, Samples

PLAN = Plan(parts=["functions", "vmlinux", "threads", "spinning", "tickless", "calls", "tasks"], cores=["c", "rust"], counts=[1, 10, 500, 2000],
            vmlinux=100, replace=500, threads=[0, 1000, 10000], busy=4, repeats=5, seconds=60, directory="/modules")


def samples(**values: Dict[Figure, List[float]]) -> Samples:
    """Measurements of both cores."""
    return {(core, figure): Sample(list(of)) for core, figures in values.items() for figure, of in figures.items()}


def target(text: str, measured: Samples) -> report.Target:
    """The target with that text in it."""
    found = [t for t in report.targets(measured) if text in t.text]
    assert len(found) == 1, found
    return found[0]


class Statistics(unittest.TestCase):
    """Medians, and how they are written."""

    def test_median(self) -> None:
        self.assertEqual(Sample([3.0, 1.0, 2.0]).median, 2.0)
        self.assertEqual(Sample([4.0, 1.0]).median, 2.5)

    def test_text(self) -> None:
        self.assertEqual(Sample([2.0]).text("s"), "2.00 s")
        self.assertEqual(Sample([2.0, 2.0]).text("s"), "2.00 s")
        self.assertEqual(Sample([0.5, 2.0, 0.01]).text("s"), "500 ms (10.0 ms – 2.00 s)")

    def test_quantities(self) -> None:
        for value, unit, text in ((106.4, "s", "106 s"), (1.0, "s", "1.00 s"), (0.9996, "s", "1.00 s"),
                                  (0.9994, "s", "999 ms"), (0.0021, "s", "2.10 ms"), (2.5e-6, "s", "2.50 µs"),
                                  (0.0, "s", "0.00 µs"), (1234.5, "s", "1,234 s"), (99.96, "s", "100 s"),
                                  (2, "pages", "8 KiB"), (300.4, "bytes", "300 bytes"), (79.0, "instructions", "79.0")):
            with self.subTest(text):
                self.assertEqual(report.quantity(value, unit), text)

    def test_ratio(self) -> None:
        figure = Figure("load", 1)
        self.assertEqual(report.ratio(samples(c={figure: [6, 8]}, rust={figure: [2]}), figure), 3.5)
        self.assertIsNone(report.ratio(samples(c={figure: [6]}), figure))
        self.assertIsNone(report.ratio(samples(c={figure: [6]}, rust={figure: [0]}), figure))

    def test_processors(self) -> None:
        self.assertEqual(report.processors("1,3-5"), [1, 3, 4, 5])
        self.assertEqual(report.processors(""), [])
        self.assertEqual(report.processors("(null)"), [])

    def test_collect(self) -> None:
        records: List[Dict[str, object]] = [{"kernel": "7.3"}]
        for value in (1.0, 2.0):
            records.append({"core": "c", "figure": dataclasses.asdict(Figure("load", 5)), "values": [value]})
        collected = report.collect(records)
        self.assertEqual(collected, {("c", Figure("load", 5)): Sample([1.0, 2.0])})
        stored = json.loads(report.to_json({"date": "today"}, collected))
        self.assertEqual(stored["date"], "today")
        self.assertEqual(report.collect(stored["records"]), collected)


class Plans(unittest.TestCase):
    """What belongs to a run."""

    def test_crowds(self) -> None:
        self.assertEqual(PLAN.crowds(), [(1, 0, 0), (1, 1000, 0), (1, 10000, 0), (1, 0, 4), (500, 10000, 0)])
        small = dataclasses.replace(PLAN, threads=[0], busy=0)
        self.assertEqual(small.crowds(), [(1, 0, 0)])

    def test_expected(self) -> None:
        expected = PLAN.expected()
        self.assertEqual({figure.metric for figure in expected}, set(report.METRICS))
        for figure in (Figure("replace", 500), Figure("slab", 2000), Figure("disable", 100, vmlinux=True),
                       Figure("lock", 500, 10000), Figure("pass", 1, 0, 4)):
            self.assertIn(figure, expected)
        for figure in (Figure("replace", 1), Figure("slab", 10), Figure("pass", 500, 10000)):
            self.assertNotIn(figure, expected)
        without_threads = dataclasses.replace(PLAN, threads=[0]).expected()
        self.assertNotIn("task", {figure.metric for figure in without_threads})
        once = dataclasses.replace(PLAN, repeats=1).expected()
        self.assertNotIn("pass", {figure.metric for figure in once})
        self.assertEqual(dataclasses.replace(PLAN, parts=[]).expected(), [])

    def test_minutes(self) -> None:
        self.assertTrue(15 <= PLAN.minutes() <= 25, PLAN.minutes())
        self.assertLess(dataclasses.replace(PLAN, cores=["rust"]).minutes(), 5)


class Targets(unittest.TestCase):
    """Reached or missed."""

    def test_nothing_measured(self) -> None:
        self.assertEqual({t.verdict for t in report.targets({})}, {"not measured"})

    def test_factors(self) -> None:
        for text, metric, threads, factor in (
                ("disable 500", "disable", 0, 200), ("load a patch of 500", "load", 0, 8),
                ("replace 500", "replace", 0, 100), ("500 functions with 10,000", "complete", 10000, 5)):
            figure = Figure(metric, 500, threads)
            for times, reached in ((factor * 1.01, True), (factor * 0.99, False)):
                with self.subTest(text, times=times):
                    found = target(text, samples(c={figure: [times]}, rust={figure: [1.0]}))
                    self.assertEqual(found.reached, reached)

    def test_idle(self) -> None:
        figure = Figure("complete", 1)
        self.assertTrue(target("idle machine", samples(rust={figure: [0.1]})).reached)
        self.assertFalse(target("idle machine", samples(rust={figure: [0.11]})).reached)

    def test_crowds(self) -> None:
        for text, figure, factor in (("4 busy threads", Figure("transition", 1, 0, 4), 2),
                                     ("in at most as many", Figure("load, instructions", 1), 1),
                                     ("longest pass", Figure("pass", 1, 10000), 1),
                                     ("for each sleeping thread", Figure("task", 1, 2000), 1)):
            for times, reached in ((factor * 1.01, True), (factor * 0.99, False)):
                with self.subTest(text, times=times):
                    found = target(text, samples(c={figure: [times]}, rust={figure: [1.0]}))
                    self.assertEqual(found.reached, reached)

    def test_seconds(self) -> None:
        for text, spinning, tickless in (("kernel threads", 2, 0), ("without a tick", 0, 1)):
            there, back = (Figure(metric, 1, spinning=spinning, tickless=tickless)
                           for metric in ("transition", "transition back"))
            for slower, reached in ((0.05, True), (0.051, False)):
                with self.subTest(text, slower=slower):
                    self.assertEqual(target(text, samples(rust={there: [0.01], back: [slower]})).reached, reached)
            self.assertEqual(target(text, samples(rust={there: [0.01]})).verdict, "not measured")

    def test_calls(self) -> None:
        patched, unpatched = Figure("call patched", 1), Figure("call unpatched", 1)
        for rust, reached in ((73.0, True), (80.0, False)):
            measured = samples(c={patched: [83], unpatched: [3]}, rust={patched: [rust], unpatched: [3]})
            self.assertEqual(target("0.9 of the C core", measured).reached, reached)

    def test_direct_calls(self) -> None:
        directly, unpatched = Figure("call patched directly", 1), Figure("call unpatched", 1)
        for patched, reached in ((12.0, True), (12.5, False)):
            measured = samples(rust={directly: [patched], unpatched: [4]})
            self.assertEqual(target("costs more with direct=1", measured).reached, reached)

    def test_direct_price(self) -> None:
        metrics = ("replace", "replace same", "disable")
        without = {Figure(metric, 500): [1.0] for metric in metrics}
        for slowest, reached in ((1.19, True), (1.21, False)):
            direct = {Figure(f"{metric}, direct", 500): [1.1] for metric in metrics[1:]}
            direct[Figure("replace, direct", 500)] = [slowest]
            self.assertEqual(target("at most 1.2", samples(rust={**without, **direct})).reached, reached)
        self.assertEqual(target("at most 1.2", samples(rust=without)).verdict, "not measured")

    def test_growth_beside_others(self) -> None:
        # What is measured with other tasks is not compared with what is measured alone.
        crowd = {Figure("complete", 1, spinning=2): [9.0], Figure("complete", 1, tickless=1): [5.0]}
        for most, reached in ((11.0, True), (20.0, False)):
            alone = {Figure("complete", 1): [1.0], Figure("complete", 10): [most]}
            self.assertEqual(target("linearly with the functions", samples(rust={**alone, **crowd})).reached, reached)

    def test_executable_memory(self) -> None:
        def found(*pages: int) -> report.Target:
            return target("executable", samples(rust={Figure("trampolines", n): [p] for n, p in enumerate(pages)}))
        self.assertTrue(found(1, 1, 1).reached)
        self.assertFalse(found(1, 1, 2).reached)
        self.assertEqual(found(1).verdict, "not measured")

    def test_growth(self) -> None:
        def functions(*times: float) -> report.Target:
            return target("with the functions", samples(
                rust={Figure("load", 10 ** n): [t] for n, t in enumerate(times)},
                c={Figure("load", 10 ** n): [100 ** n] for n in range(3)}))
        self.assertTrue(functions(1, 1, 10).reached)
        self.assertTrue(functions(1, 12).reached)
        noisy = samples(rust={Figure("lock", 1, 10): [1.0], Figure("lock", 1, 100): [40.0, 50.0, 9.0]})
        self.assertTrue(target("with the threads", noisy).reached)
        found = functions(1, 2, 30)
        self.assertFalse(found.reached)
        self.assertIn("15.0 times from 10 to 100 (load)", found.measured)
        found = target("with the threads", samples(rust={Figure("pass", 1, n): [n * n] for n in (0, 10, 100)}))
        self.assertFalse(found.reached)


class Tables(unittest.TestCase):
    """What people read."""

    MEASURED = samples(
        c={Figure("load", 1): [0.2], Figure("load", 1000): [2.0, 3.0, 4.0], Figure("call patched", 1): [79.0]},
        rust={Figure("load", 1): [0.1], Figure("complete", 1, 1000): [1.0], Figure("load", 100, vmlinux=True): [0.1]})

    def test_rows(self) -> None:
        self.assertEqual(report.rows(self.MEASURED), [
            ["", "", "C core", "Rust core", "C / Rust"],
            ["load a patch", "1 function", "200 ms", "100 ms", "2.00"],
            ["load a patch", "1,000 functions", "3.00 s (2.00 s – 4.00 s)", "–", "–"],
            ["load a patch", "100 functions of vmlinux", "–", "100 ms", "–"],
            ["load, until the transition is complete", "1 function, 1,000 sleeping threads", "–", "1.00 s", "–"],
            ["one call, patched", "", "79.0", "–", "–"],
        ])

    def test_plain(self) -> None:
        lines = report.plain(report.rows(self.MEASURED)).splitlines()
        self.assertEqual(len(lines), 7)
        self.assertTrue(lines[2].startswith("load a patch "))
        self.assertTrue(lines[3].startswith(" "))
        column = lines[0].index("Rust core")
        self.assertEqual(lines[2].index("100 ms"), column)
        self.assertFalse(any(line.endswith(" ") for line in lines))

    def test_markdown(self) -> None:
        lines = report.markdown(report.rows(self.MEASURED)).splitlines()
        self.assertEqual({line.count("|") for line in lines}, {6})
        self.assertEqual(lines[3].split("|")[1].strip(), "")

    def test_readme(self) -> None:
        about = {"date": "2026-01-01", "kernel": "7.3.4", "processors": 2, "qemu": "QEMU 10", "machine": "a machine"}
        section = report.readme_section(about, self.MEASURED, [("a/b.svg", "A plot")])
        self.assertIn("2026-01-01, Linux 7.3.4", section)
        self.assertIn("![A plot](a/b.svg)", section)
        begin, end = "<!-- benchmarks: begin -->\n", "<!-- benchmarks: end -->\n"
        readme = f"before\n{begin}old\n{end}after\n"
        self.assertEqual(report.replace_section(readme, section), f"before\n{begin}{section}{end}after\n")
        for broken in ("", begin, end, end + begin):
            with self.assertRaises(ValueError):
                report.replace_section(broken, section)


class Traces(unittest.TestCase):
    """Passes over the tasks in a trace."""

    @staticmethod
    def trace(*events: Tuple[str, float, str]) -> str:
        head = "# tracer: nop\n#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION\n"
        return head + "".join(f"  {walker:>16}   [001] ...1.  {when:.6f}: pass: (task_call_func+0x4/0x90) task={task}\n"
                              for walker, when, task in events)

    def test_none(self) -> None:
        self.assertEqual(driver.passes(""), [])
        self.assertEqual(driver.passes(self.trace(("python3-5", 1.0, "0xa"))), [])

    def test_one(self) -> None:
        found = driver.passes(self.trace(*(("python3-5", 1 + n / 10, f"0x{n}") for n in range(5))))
        self.assertEqual([round(value, 6) for value in found], [0.5])

    def test_a_task_again(self) -> None:
        events = [("python3-5", 1.0, "0xa"), ("python3-5", 1.1, "0xb"), ("python3-5", 3.0, "0xa"),
                  ("python3-5", 3.2, "0xb")]
        self.assertEqual([round(value, 6) for value in driver.passes(self.trace(*events))], [0.2, 0.4])

    def test_another_thread(self) -> None:
        events = [("python3-5", 1.0, "0xa"), ("python3-5", 1.1, "0xb"), ("kworker/u8:1-33", 3.0, "0xc"),
                  ("kworker/u8:1-33", 3.2, "0xd")]
        self.assertEqual([round(value, 6) for value in driver.passes(self.trace(*events))], [0.2, 0.4])


class Functions(unittest.TestCase):
    """Which functions of vmlinux are patched."""

    def test_unused(self) -> None:
        for name, unused in (("setuid16", True), ("mq_notify", True), ("futex_time32", True), ("s390_ipc", True),
                             ("timer_create", True), ("read", False), ("futex", False), ("nanosleep", False),
                             ("ioctl", False), ("init_module", False), ("sendmsg", False)):
            with self.subTest(name):
                self.assertEqual(bool(driver.UNUSED_SYSCALL.fullmatch(f"__x64_sys_{name}")), unused)


if __name__ == "__main__":
    unittest.main()
