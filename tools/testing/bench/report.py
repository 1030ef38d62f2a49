# SPDX-License-Identifier: GPL-2.0
"""What is measured, and what is said about it: plans, figures, statistics, targets, tables. Free of input and output."""

import dataclasses
import json
import statistics
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple

PAGE = 4096


@dataclasses.dataclass(frozen=True)
class Figure:
    """One thing that is measured, on both cores."""

    metric: str
    functions: int
    sleeping: int = 0
    busy: int = 0
    vmlinux: bool = False
    # Kernel threads that call the function all the time.
    spinning: int = 0
    # Tasks that compute on processors without a tick.
    tickless: int = 0


@dataclasses.dataclass
class Plan:
    """What the driver is to measure."""

    parts: List[str]
    cores: List[str]
    counts: List[int]
    # The number of functions of vmlinux.
    vmlinux: int
    # The number of functions of the patch that is replaced, and that is enabled with many threads.
    replace: int
    threads: List[int]
    busy: int
    # Measure so many times, but do not start again after so many seconds.
    repeats: int
    seconds: float
    # Where the modules are.
    directory: str
    spinning: int = 2
    tickless: int = 1

    def crowds(self) -> List[Tuple[int, int, int]]:
        """Functions, sleeping threads and busy threads of each transition with many threads."""
        result = [(self.counts[0], sleeping, 0) for sleeping in self.threads]
        if self.busy:
            result.append((self.counts[0], 0, self.busy))
        if max(self.threads, default=0) and self.replace != self.counts[0]:
            result.append((self.replace, max(self.threads), 0))
        return result

    def task_threads(self) -> int:
        """How many sleeping threads there are when the cost of one is measured."""
        return min(max(self.threads), 2000)

    def weighs(self, count: int) -> bool:
        """Whether a patch of so many functions takes enough memory to be measured in pages."""
        return count >= 100 or count == self.counts[-1]

    def expected(self) -> List[Figure]:
        """What must be there when all has gone well."""
        result: List[Figure] = []
        life = ("load", "complete", "disable", "unused", "rmmod")
        busy = ("complete", "transition", "disable", "transition back")
        if "functions" in self.parts:
            for count in self.counts:
                result += [Figure(metric, count) for metric in (*life, "trampolines")]
                if self.weighs(count):
                    result.append(Figure("slab", count))
            result += [Figure(metric, self.replace) for metric in
                       ("replace same", "replace", "replace same, direct", "replace, direct", "disable, direct")]
        if "vmlinux" in self.parts:
            result += [Figure(metric, self.vmlinux, vmlinux=True) for metric in life]
        if "threads" in self.parts:
            for crowd in self.crowds():
                result += [Figure(metric, *crowd) for metric in ("complete", "transition", "lock")]
                if self.repeats > 1 and crowd[0] == self.counts[0]:
                    result.append(Figure("pass", *crowd))
        if "spinning" in self.parts:
            result += [Figure(metric, 1, spinning=self.spinning) for metric in busy]
        if "tickless" in self.parts:
            result += [Figure(metric, 1, tickless=self.tickless) for metric in busy]
        if "tasks" in self.parts and self.task_threads():
            result += [Figure("load, instructions", 1), Figure("task", 1, self.task_threads())]
        if "calls" in self.parts:
            result += [Figure(metric, 1) for metric in METRICS if metric.startswith("call ")]
        return result

    def minutes(self) -> int:
        """About how long it takes: the C core needs 0.2 s to take one function away, and waits a second twice."""
        functions: List[int] = []
        if "functions" in self.parts:
            functions += [count * (2 if count == self.replace else 1) for count in self.counts]
        if "vmlinux" in self.parts:
            functions.append(self.vmlinux)
        if "threads" in self.parts:
            functions += [crowd[0] for crowd in self.crowds()]
        times = [2 + 0.22 * count for count in functions] if "c" in self.cores else []
        if "c" in self.cores:
            # It waits 15 s until it signals tasks, and for kernel threads until it is lucky.
            times += [40 for part in ("spinning", "tickless") if part in self.parts]
        total = sum(once * min(self.repeats, self.seconds // once + 1) for once in times)
        if "rust" in self.cores:
            total += self.repeats * (len(functions) + sum(functions) / 500)
        return round(total / 60) + 1


# What the C core does not have.
RUST_ONLY = {"replace same, direct", "replace, direct", "disable, direct", "call patched directly",
             "call in transition, direct"}

# In the order of the table: what is said of each, and how it is written.
METRICS: Dict[str, Tuple[str, str]] = {
    "load": ("load a patch", "s"),
    "load, instructions": ("load a patch", "instructions"),
    "complete": ("load, until the transition is complete", "s"),
    "transition": ("the transition when a patch is loaded, by the kernel log", "s"),
    "replace": ("replace by a patch of other functions", "s"),
    "replace, direct": ("replace by a patch of other functions, with direct=1", "s"),
    "replace same": ("replace by a patch of the same functions", "s"),
    "replace same, direct": ("replace by a patch of the same functions, with direct=1", "s"),
    "disable": ("disable, until the directory is gone", "s"),
    "transition back": ("the transition when a patch is disabled, by the kernel log", "s"),
    "disable, direct": ("disable, until the directory is gone, with direct=1", "s"),
    "unused": ("disable, until the module can be unloaded", "s"),
    "rmmod": ("rmmod", "s"),
    "call unpatched": ("one call, unpatched", "instructions"),
    "call patched": ("one call, patched", "instructions"),
    "call patched twice": ("one call, patched twice", "instructions"),
    "call patched directly": ("one call, patched, with direct=1", "instructions"),
    "call in transition": ("one call, during a transition", "instructions"),
    "call in transition, direct": ("one call, during a transition, with direct=1", "instructions"),
    "task": ("a transition, for each sleeping thread", "instructions"),
    "pass": ("longest pass over the tasks", "s"),
    "lock": ("longest wait for the task list", "s"),
    "slab": ("slab memory per function", "bytes"),
    "trampolines": ("executable memory for ftrace trampolines", "pages"),
}


@dataclasses.dataclass
class Sample:
    """The measurements of one figure."""

    values: List[float]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    def text(self, unit: str) -> str:
        """Median and spread, for people."""
        text = quantity(self.median, unit)
        if len(self.values) > 1 and min(self.values) != max(self.values):
            text += f" ({quantity(min(self.values), unit)} – {quantity(max(self.values), unit)})"
        return text


Samples = Dict[Tuple[str, Figure], Sample]


def digits(value: float) -> str:
    """Three significant digits, without an exponent."""
    decimals = 0 if abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2
    return f"{value:,.{decimals}f}"


def quantity(value: float, unit: str) -> str:
    """A value with its unit, for people."""
    if unit == "s":
        for factor, name in ((1.0, "s"), (1e3, "ms"), (1e6, "µs")):
            if value * factor >= 0.9995 or name == "µs":
                return f"{digits(value * factor)} {name}"
    if unit == "pages":
        return f"{value * PAGE / 1024:,.0f} KiB"
    if unit == "bytes":
        return f"{value:,.0f} bytes"
    return digits(value)


def processors(text: str) -> List[int]:
    """The numbers in a list of processors, as the kernel writes it."""
    result: List[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            result += range(int(first), int(last or first) + 1)
    return result


def collect(records: Iterable[Dict[str, Any]]) -> Samples:
    """The driver's results, by core and figure."""
    result: Samples = {}
    for record in records:
        if "figure" in record:
            key = (record["core"], Figure(**record["figure"]))
            result.setdefault(key, Sample([])).values += record["values"]
    return result


def to_json(about: Dict[str, Any], samples: Samples) -> str:
    """A run in JSON, one line for each figure; collect() reads its records."""
    lines = [json.dumps({"core": core, "figure": dataclasses.asdict(figure), "values": samples[core, figure].values})
             for figure in figures(samples) for core in ("c", "rust") if (core, figure) in samples]
    head = "".join(f"{json.dumps(key)}: {json.dumps(value)},\n" for key, value in about.items())
    return "{\n" + head + '"records": [\n' + ",\n".join(lines) + "\n]\n}\n"


def case(figure: Figure) -> str:
    """The circumstances, in words."""
    def count(number: int, what: str) -> str:
        return f"{number:,} {what}" + ("" if number == 1 else "s")

    if figure.metric.startswith("call "):
        return ""
    text = count(figure.functions, "function") + (" of vmlinux" if figure.vmlinux else "")
    if figure.sleeping:
        text += ", " + count(figure.sleeping, "sleeping thread")
    if figure.busy:
        text += ", " + count(figure.busy, "busy thread")
    if figure.spinning:
        text += ", " + count(figure.spinning, "busy kernel thread")
    if figure.tickless:
        text += ", " + count(figure.tickless, "busy task") + " without a tick"
    return text


def figures(samples: Samples) -> List[Figure]:
    """All figures in the order of the table."""
    order = list(METRICS)
    return sorted({figure for _, figure in samples}, key=lambda f: (
        order.index(f.metric), f.vmlinux, f.busy, f.spinning, f.tickless, f.functions if not f.sleeping else 1 << 30, f.sleeping, f.functions))


def ratio(samples: Samples, figure: Figure) -> Optional[float]:
    """How many times the Rust core's value the C core's is."""
    c, rust = samples.get(("c", figure)), samples.get(("rust", figure))
    if not c or not rust or rust.median <= 0:
        return None
    return c.median / rust.median


def rows(samples: Samples) -> List[List[str]]:
    """The table: what, circumstances, C core, Rust core, ratio."""
    result = [["", "", "C core", "Rust core", "C / Rust"]]
    for figure in figures(samples):
        label, unit = METRICS[figure.metric]
        cells = [samples[core, figure].text(unit) if (core, figure) in samples else "–" for core in ("c", "rust")]
        times = ratio(samples, figure)
        result.append([label, case(figure), *cells, "–" if times is None else digits(times)])
    return result


@dataclasses.dataclass
class Target:
    """What is to be reached, and what was; nothing if it was not measured."""

    text: str
    measured: str
    reached: Optional[bool]

    @property
    def verdict(self) -> str:
        """In one word."""
        return {True: "reached", False: "missed", None: "not measured"}[self.reached]


# Growth may exceed that of what it depends on by this, for the variation of single measurements.
TOLERANCE = 1.25


def at_least_times(samples: Samples, text: str, figure: Figure, times: float) -> Target:
    """A target for how much faster the Rust core is."""
    measured = ratio(samples, figure)
    if measured is None:
        return Target(text, "", None)
    return Target(text, f"{digits(measured)} times", measured >= times)


def at_most_seconds(samples: Samples, text: str, figures_of: Sequence[Figure], limit: float) -> Target:
    """A target for how long the Rust core may take at most, for each of several figures."""
    medians = [samples[key].median for key in (("rust", figure) for figure in figures_of) if key in samples]
    if len(medians) < len(figures_of):
        return Target(text, "", None)
    return Target(text, " and ".join(quantity(median, "s") for median in medians), max(medians) <= limit)


def call_overhead(samples: Samples) -> Target:
    """The target for the cost of a call."""
    text = "instructions that a patched call costs more: at most 0.9 of the C core's"
    more = []
    for core in ("rust", "c"):
        patched = samples.get((core, Figure("call patched", 1)))
        unpatched = samples.get((core, Figure("call unpatched", 1)))
        if not patched or not unpatched:
            return Target(text, "", None)
        more.append(patched.median - unpatched.median)
    rust, c = more
    return Target(text, f"{digits(rust)} against {digits(c)}, {digits(rust / c)}", rust / c <= 0.9)


def direct_overhead(samples: Samples) -> Target:
    """The target for the cost of a call that jumps."""
    text = "instructions that a patched call costs more with direct=1: at most 8"
    patched = samples.get(("rust", Figure("call patched directly", 1)))
    unpatched = samples.get(("rust", Figure("call unpatched", 1)))
    if not patched or not unpatched:
        return Target(text, "", None)
    more = patched.median - unpatched.median
    return Target(text, digits(more), more <= 8)


def direct_price(samples: Samples) -> Target:
    """The target for what it costs to take the jumps of many functions away first."""
    text = "with direct=1, patches of 500 functions are replaced and disabled in at most 1.2 of the time"
    times = []
    for metric in ("replace", "replace same", "disable"):
        without = samples.get(("rust", Figure(metric, 500)))
        direct = samples.get(("rust", Figure(f"{metric}, direct", 500)))
        if not without or not direct:
            return Target(text, "", None)
        times.append(direct.median / without.median)
    return Target(text, ", ".join(digits(value) for value in times), max(times) <= 1.2)


def growth(samples: Samples, text: str, metrics: Sequence[str], size: Callable[[Figure], int],
           others: Callable[[Figure], bool]) -> Target:
    """A target for how the Rust core's times grow: no faster than what they depend on.

    The smallest times are compared: a virtual processor that is stopped for some milliseconds only makes them longer.
    """
    worst = 0.0
    where = ""
    for metric in metrics:
        points = sorted((size(figure), min(sample.values)) for (core, figure), sample in samples.items()
                        if core == "rust" and figure.metric == metric and others(figure) and size(figure) > 0)
        for (small, before), (large, after) in zip(points, points[1:]):
            excess = (after / before) / (large / small)
            if excess > worst:
                worst, where = excess, f"at most {digits(after / before)} times from {small:,} to {large:,} ({metric})"
    return Target(text, where, worst <= TOLERANCE if where else None)


def executable_memory(samples: Samples) -> Target:
    """The target for trampolines."""
    pages = {figure.functions: sample.median for (core, figure), sample in samples.items()
             if core == "rust" and figure.metric == "trampolines"}
    text = "executable memory of the Rust core independent of the number of functions"
    if len(pages) < 2:
        return Target(text, "", None)
    values = sorted(set(pages.values()))
    return Target(text, " or ".join(quantity(value, "pages") for value in values), len(values) == 1)


def targets(samples: Samples) -> List[Target]:
    """What the project wants to reach."""
    one = samples.get(("rust", Figure("complete", 1)))
    idle = "transition of one function complete in at most 0.1 s on an idle machine"
    return [
        at_least_times(samples, "disable 500 functions at least 200 times faster", Figure("disable", 500), 200),
        at_least_times(samples, "load a patch of one function in at most as many instructions",
                       Figure("load, instructions", 1), 1),
        at_least_times(samples, "load a patch of 500 functions at least 8 times faster", Figure("load", 500), 8),
        at_least_times(samples, "replace 500 functions by 500 at least 100 times faster", Figure("replace", 500), 100),
        Target(idle, quantity(one.median, "s"), one.median <= 0.1) if one else Target(idle, "", None),
        call_overhead(samples),
        direct_overhead(samples),
        direct_price(samples),
        at_least_times(samples, "transition of 500 functions with 10,000 sleeping threads at least 5 times faster",
                       Figure("complete", 500, 10000), 5),
        # By the log: beside busy tasks, most of what else passes is insmod waiting for a processor.
        at_least_times(samples, "transition with 4 busy threads at least twice as fast", Figure("transition", 1, 0, 4), 2),
        at_most_seconds(samples, "transitions there and back with 2 busy kernel threads in at most 50 ms each",
                        [Figure(metric, 1, spinning=2) for metric in ("transition", "transition back")], 0.05),
        at_most_seconds(samples, "transitions there and back with a busy task without a tick in at most 50 ms each",
                        [Figure(metric, 1, tickless=1) for metric in ("transition", "transition back")], 0.05),
        at_least_times(samples, "longest pass over 10,000 sleeping threads at most as long",
                       Figure("pass", 1, 10000), 1),
        at_least_times(samples, "a transition takes at most as many instructions for each sleeping thread",
                       Figure("task", 1, 2000), 1),
        executable_memory(samples),
        growth(samples, "the Rust core's times grow at most linearly with the functions",
               ("load", "complete", "disable", "rmmod"), lambda f: f.functions,
               lambda f: f == Figure(f.metric, f.functions)),
        growth(samples, "the Rust core's times grow at most linearly with the threads",
               ("complete", "pass", "lock"), lambda f: f.sleeping, lambda f: f.functions == 1),
    ]


def target_rows(samples: Samples) -> List[List[str]]:
    """The targets as a table."""
    return [["target", "measured", ""], *([t.text, t.measured or "–", t.verdict] for t in targets(samples))]


def plain(table: Sequence[Sequence[str]]) -> str:
    """A table for the terminal; equal cells in the first column are written once."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = []
    above = ""
    for row in table:
        first = "" if row[0] == above and len(row) > 3 else row[0]
        above = row[0]
        cells = [first, *row[1:]]
        lines.append("  ".join(cell.ljust(width) for cell, width in zip(cells, widths)).rstrip())
        if row is table[0]:
            lines.append("  ".join("-" * width for width in widths))
    return "\n".join(lines) + "\n"


def markdown(table: Sequence[Sequence[str]]) -> str:
    """A table for the README."""
    head, *body = table
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    above = ""
    for row in body:
        first = "" if row[0] == above and len(row) > 3 else row[0]
        above = row[0]
        lines.append("| " + " | ".join([first, *row[1:]]) + " |")
    return "\n".join(lines) + "\n"


def circumstances(run: Dict[str, Any]) -> str:
    """When and where, in one sentence."""
    return (f"{run['date']}, Linux {run['kernel']}, {run['processors']} virtual processors, {run['qemu']} with software "
            f"emulation, on {run['machine']}")


def readme_section(run: Dict[str, Any], samples: Samples, plots: Sequence[Tuple[str, str]]) -> str:
    """What the README says; plots are pairs of a file and its title."""
    images = "\n".join(f"![{title}]({path})" for path, title in plots)
    return (f"{circumstances(run)}. Medians, smallest and largest values; what takes the C core minutes was measured "
            f"once.\n\n{markdown(target_rows(samples))}\n{images}\n\n<details><summary>All figures</summary>\n\n"
            f"{markdown(rows(samples))}\n</details>\n")


def replace_section(text: str, section: str) -> str:
    """The README with another text between the marks."""
    begin, end = "<!-- benchmarks: begin -->\n", "<!-- benchmarks: end -->\n"
    before, found, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end:
        raise ValueError("the README has no place for the benchmarks")
    return before + begin + section + end + after
