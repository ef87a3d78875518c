"""The picture of an experiment: rate, latency and writability over time, with the faults shaded.

It draws what the timeline says and interprets nothing.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from .timeline import Election, Timeline

INK, GREY, GRID = "#1f2933", "#7b8794", "#e4e7eb"
OK, BAD, UNKNOWN = "#2f855a", "#c53030", "#dd6b20"
LATENCIES = (("p50", "#90cdf4"), ("p95", "#3182ce"), ("p99", "#2a4365"))
FAULT = "#f6ad55"
ELECTION = "#6b46c1"
LABEL_SHARE, ELECTION_LABEL_SHARE = 0.035, 0.14
"""How much of the axis a label needs; what has less stays without one."""
ELECTION_LINES = (0.9, 0.83, 0.76)
"""Heights of the labels of elections, as shares of the axis."""


def draw(timeline: Timeline, title: str, subtitle: str) -> Any:
    """The figure."""
    shards = sorted(timeline.gaps)
    figure, axes = plt.subplots(
        3,
        1,
        sharex=True,
        figsize=(11, 7.2),
        height_ratios=[3, 3, 0.5 + 0.45 * max(1, len(shards))],
        layout="constrained",
    )
    rate, latency, writable = axes
    figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold", color=INK)
    rate.set_title(subtitle, loc="left", fontsize=10, color=GREY, pad=22)  # above the legend
    _rate(rate, timeline)
    _latency(latency, timeline)
    _writable(writable, timeline, shards)
    for axis in axes:
        _decorate(axis, timeline)
    _label_faults(rate, timeline)
    writable.set_xlabel("seconds since the experiment began", color=GREY)
    writable.set_xlim(0, timeline.duration)
    return figure


def _rate(axis: Axes, timeline: Timeline) -> None:
    axis.fill_between(timeline.times, timeline.ok, color=OK, alpha=0.25, linewidth=0)
    axis.plot(timeline.times, timeline.ok, color=OK, linewidth=1.6, label="acknowledged")
    for series, colour, label in ((timeline.failed, BAD, "refused"), (timeline.unknown, UNKNOWN, "no answer")):
        if any(series):
            axis.bar(timeline.times, series, width=timeline.width, color=colour, label=label)
    axis.set_ylabel("operations per second", color=GREY)
    axis.set_ylim(bottom=0, top=1.25 * max([*timeline.ok, *timeline.failed, *timeline.unknown, 1]))
    axis.legend(loc="lower right", bbox_to_anchor=(1, 0.98), ncols=3, frameon=False, fontsize=9)


def _latency(axis: Axes, timeline: Timeline) -> None:
    for name, colour in LATENCIES:
        axis.plot(timeline.times, getattr(timeline, name), color=colour, linewidth=1.5, label=name)
    axis.set_yscale("log")
    axis.set_ylabel("latency (ms)", color=GREY)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.legend(loc="lower right", bbox_to_anchor=(1, 0.98), ncols=3, frameon=False, fontsize=9)


def _writable(axis: Axes, timeline: Timeline, shards: list[str]) -> None:
    for row, shard in enumerate(shards):
        axis.barh(row, timeline.duration, color=OK, alpha=0.45, height=0.6, linewidth=0)
        for start, end in timeline.gaps[shard]:
            axis.barh(row, end - start, left=start, color=BAD, height=0.6, linewidth=0)
            if end - start > LABEL_SHARE * timeline.duration:
                words = f"{end - start:.1f} s"
                axis.text(
                    (start + end) / 2, row, words, ha="center", va="center", color="white", fontsize=8, clip_on=True
                ).set_in_layout(False)
    axis.set_yticks(range(len(shards)), shards)
    axis.set_ylim(max(1, len(shards)) - 0.5, -0.5)
    axis.set_title("writable, by shard: red = no write acknowledged", loc="left", fontsize=9, color=GREY)


def _decorate(axis: Axes, timeline: Timeline) -> None:
    for window in timeline.faults:
        axis.axvspan(window.start, window.end, color=FAULT, alpha=0.28, linewidth=0, zorder=0)
    for election in timeline.elections:
        axis.axvline(election.at, color=ELECTION, linewidth=1, linestyle=(0, (4, 3)))
    axis.grid(axis="y", color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(colors=GREY, labelsize=9)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color(GRID)


def _label_faults(axis: Axes, timeline: Timeline) -> None:
    if len(timeline.faults) <= 8:
        for window in timeline.faults:
            text = f"{window.name}: {', '.join(window.targets[:3])}{' …' if len(window.targets) > 3 else ''}"
            _label(axis, timeline, window.start, 0.985, text, INK, 9)
    for election, line in election_labels(timeline):
        _label(axis, timeline, election.at, ELECTION_LINES[line], f"elected {election.primary}", ELECTION, 8)


def election_labels(timeline: Timeline) -> list[tuple[Election, int]]:
    """Which elections have a label, and in which of `ELECTION_LINES`.

    They often come in bursts: each takes the first line where it covers no other, and has none if every line is taken.
    """
    width = ELECTION_LABEL_SHARE * timeline.duration
    taken: list[list[float]] = [[] for _ in ELECTION_LINES]
    found = []
    for election in timeline.elections:
        start = election.at - width if _is_left(timeline, election.at) else election.at
        line = next((n for n, starts in enumerate(taken) if all(abs(start - other) >= width for other in starts)), None)
        if line is not None:
            taken[line].append(start)
            found.append((election, line))
    return found


def _is_left(timeline: Timeline, at: float) -> bool:
    return at > 0.8 * timeline.duration


def _label(axis: Axes, timeline: Timeline, at: float, height: float, text: str, colour: str, size: int) -> None:
    """A label beside a moment, on the side that has room; it never widens the figure."""
    left = _is_left(timeline, at)
    label = axis.text(
        at,
        axis.get_ylim()[1] * height,
        f"{text} " if left else f" {text}",
        ha="right" if left else "left",
        va="top",
        fontsize=size,
        color=colour,
    )
    label.set_in_layout(False)


def png(figure: Any, path: Path) -> None:
    """Write the figure as a PNG."""
    figure.savefig(path, dpi=130, facecolor="white")


def svg(figure: Any) -> str:
    """The figure as an SVG element, for a page that needs nothing else."""
    out = io.StringIO()
    figure.savefig(out, format="svg", facecolor="white", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def close(figure: Any) -> None:
    """Forget the figure."""
    plt.close(figure)
