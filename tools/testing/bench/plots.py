#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Draw the plots of a run: plots.py RESULTS.json DIRECTORY. Needs matplotlib; tools/testing/bench/bench calls it."""

import json
import sys
from pathlib import Path
from typing import Any, List, Sequence, Tuple

import matplotlib
from matplotlib import pyplot
from matplotlib.ticker import FuncFormatter

from report import Figure, Samples, collect, quantity

# Legible on a light and on a dark page.
GREY = "#808080"
CORES = (("c", "C core", "#d9822b", "o"), ("rust", "Rust core", "#3d8fd1", "s"))

Points = Sequence[Tuple[float, float]]


def axes(title: str, x_label: str, y_label: str) -> Tuple[Any, Any]:
    """An empty plot."""
    figure, ax = pyplot.subplots(figsize=(6, 3.6))
    ax.set_title(title, color=GREY)
    ax.set_xlabel(x_label)
    ax.set_ylabel(y_label)
    ax.grid(True, which="major", color=GREY, alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    return figure, ax


def save(figure: Any, path: Path) -> None:
    """Write the file; the same figures give the same file."""
    figure.savefig(path, transparent=True, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
    # Matplotlib leaves blanks at the ends of lines.
    path.write_text("".join(f"{line.rstrip()}\n" for line in path.read_text().splitlines()))


def median_line(samples: Samples, core: str, choose: Any) -> List[Tuple[float, float]]:
    """The points of a line; choose gives the place of a figure on the axis, or None."""
    points = [(choose(figure), sample.median) for (of, figure), sample in samples.items() if of == core]
    return sorted((x, y) for x, y in points if x is not None)


def label_last(ax: Any, points: Points, color: str, up: int = 0) -> None:
    """Write the value at the end of a line."""
    x, y = points[-1]
    ax.annotate(quantity(y, "s"), (x, y), textcoords="offset points", xytext=(6, up), color=color, va="center")


def spread(ax: Any, samples: Samples, core: str, choose: Any, color: str) -> None:
    """From the smallest to the largest value of each point."""
    for (of, figure), sample in samples.items():
        if of == core and choose(figure) is not None:
            ax.vlines(choose(figure), min(sample.values), max(sample.values), color=color, alpha=0.35, linewidth=5)


def functions(samples: Samples, path: Path, metric: str, title: str, label: str) -> None:
    """A time against the number of functions."""
    def place(f: Figure) -> Any:
        return f.functions if f.metric == metric and not (f.vmlinux or f.sleeping or f.busy) else None

    figure, ax = axes(title, "functions in the patch", label)
    for core, name, color, marker in CORES:
        points = median_line(samples, core, place)
        if points:
            ax.loglog(*zip(*points), color=color, marker=marker, label=name)
            spread(ax, samples, core, place, color)
            label_last(ax, points, color)
            ax.set_xticks([x for x, _ in points])
    time_axis(ax)
    save(figure, path)


def time_axis(ax: Any) -> None:
    """Times, and plain numbers, instead of powers of ten."""
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{quantity(y, 's').replace('.00', '').replace('.0', '')}"))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    ax.minorticks_off()
    ax.margins(x=0.12)
    ax.legend(frameon=False, labelcolor=GREY)


def threads(samples: Samples, path: Path) -> None:
    """Time of a transition against the number of threads."""
    figure, ax = axes("Enabling a patch, until the transition is complete", "sleeping threads", "until complete")
    for core, name, color, marker in CORES:
        def one(f: Figure) -> Any:
            return f.sleeping if f.metric == "complete" and f.functions == 1 and not (f.busy or f.vmlinux) else None

        def many(f: Figure) -> Any:
            return f.sleeping if f.metric == "complete" and f.functions > 1 and f.sleeping else None

        points = median_line(samples, core, one)
        if points:
            ax.plot(*zip(*points), color=color, marker=marker, label=f"{name}, 1 function")
            spread(ax, samples, core, one, color)
            label_last(ax, points, color, -6)
        points = median_line(samples, core, many)
        if points:
            most = max(f.functions for of, f in samples if of == core and many(f) is not None)
            ax.plot(*zip(*points), color=color, marker="D", linestyle="none", markerfacecolor="none",
                    label=f"{name}, {most:,} functions")
            label_last(ax, points, color, 6)
    ax.set_yscale("log")
    ax.set_xscale("symlog", linthresh=1000)
    ax.set_xticks(sorted({f.sleeping for _, f in samples if f.metric == "complete"}))
    time_axis(ax)
    save(figure, path)


def calls(samples: Samples, path: Path) -> None:
    """Instructions that one call takes."""
    figure, ax = axes("One call", "", "instructions")
    kinds = ("unpatched", "patched", "patched twice", "in transition")
    for index, (core, name, color, _) in enumerate(CORES):
        values = [samples[key].median if (key := (core, Figure(f"call {kind}", 1))) in samples else 0 for kind in kinds]
        bars = ax.bar([x + (index - 0.5) * 0.4 for x in range(len(kinds))], values, width=0.38, color=color, label=name)
        ax.bar_label(bars, fmt="%.0f", color=color, padding=2)
    ax.set_xticks(range(len(kinds)), kinds)
    ax.grid(False, axis="x")
    ax.margins(y=0.15)
    ax.legend(frameon=False, labelcolor=GREY)
    save(figure, path)


def main(argv: Sequence[str]) -> int:
    """The program."""
    results, directory = Path(argv[0]), Path(argv[1])
    samples = collect(json.loads(results.read_text())["records"])
    matplotlib.use("svg")
    pyplot.rcParams.update({
        "svg.fonttype": "none", "svg.hashsalt": "livepatch", "font.family": "sans-serif", "axes.edgecolor": GREY,
        "axes.labelcolor": GREY, "xtick.color": GREY, "ytick.color": GREY, "text.color": GREY,
    })
    functions(samples, directory / "load.svg", "load", "Loading a patch", "until insmod returns")
    functions(samples, directory / "disable.svg", "disable", "Disabling a patch", "until it is gone")
    threads(samples, directory / "threads.svg")
    calls(samples, directory / "calls.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
