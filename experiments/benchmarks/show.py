"""The results as tables in Markdown and as a figure."""

from __future__ import annotations

import shlex
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

BEGIN, END = "<!-- results: made by peers.py --readme -->", "<!-- end of results -->"

INK, MUTED, LINE = "#1c1e21", "#6a7078", "#e3e6ea"
OURS, THEIRS = "#0072b2", "#8a9099"
LINES = {"aejax AE": OURS, "PyTorch AE": "#d55e00"}

SWEEP_TITLES = {
    "hidden": ("ms a step", "width of the hidden layers", 1e3),
    "batch_size": ("ms a step", "batch size", 1e3),
    "examples": ("s an epoch", "examples in the training split", 1.0),
}


def tables(result: dict) -> str:
    """What was measured, then what is derived from it, then where it was measured."""
    parts = [_contenders(result), _derived(result), _cost(result), _where(result)]
    return "\n".join(part for part in parts if part)


def into_readme(text: str, readme: Path) -> None:
    """Replaces what stands between the markers."""
    before, rest = readme.read_text().split(BEGIN)
    figure = "![Throughput, time to a test error, start-up, memory, and cost against size](figure.png)"
    readme.write_text(f"{before}{BEGIN}\n\n{figure}\n\n{text}\n{END}{rest.split(END)[1]}")


def _contenders(result: dict) -> str:
    lines = [
        "| | examples/s | s to the goal | steps to it | start, cold | start, warm | compiling, cold | warm | peak MiB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, row in result["contenders"].items():
        rate, goal, start = row["examples_per_second"], row["goal"], row["start"]
        compiles = row["environment"] == "aejax"
        cells = [
            _with_range(rate),
            _goal(goal),
            _number(goal["steps"]["median"]) if goal["steps"] else "",
            *(_start(start, kind, "seconds") for kind in ("cold", "warm")),
            *(_start(start, kind, "compiling") if compiles else "" for kind in ("cold", "warm")),
            _number(row["peak_MiB"]),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    if command := result.get("aejax_train"):
        start = [_start(command["start"], kind, "seconds") for kind in ("cold", "warm")]
        rate, peak = _number(command["examples_per_second"]), _number(command["peak_MiB"])
        lines.append(f"| `aejax train dae` | {rate} | | | {start[0]} | {start[1]} | | | {peak} |")
    goals = ", ".join(f"{task} {goal:g}" for task, goal in result["goals"].items())
    plan = result["plan"]
    return (
        "\n".join(lines) + f"\n\nMedian (min–max) over {plan['rounds']} rounds of {plan['seconds']:g} s, "
        f"{plan['seeds']} seeds and {plan['starts']} starts. Seconds throughout. Goals, test MSE per pixel: {goals}.\n"
    )


def _derived(result: dict) -> str:
    rows = dict(result["ratios"])
    rows |= {f"{name}: noise, as a part of the AE's step": row for name, row in result.get("overheads", {}).items()}
    if layers := result.get("dense_layers"):
        rows |= {
            "aejax AE: GFLOP/s of its dense layers": layers["gflops"],
            "matmul: GFLOP/s": result["matmul_gflops"],
            "aejax AE: utilization": layers["utilization"],
            "by the usual count, 6 FLOP a weight": layers["usual"],
        }
    lines = [f"| {name} | {_number(row['median'])} | {_range(row)} |" for name, row in rows.items()]
    return "\n".join(["| derived in each round | median | range |", "|---|---:|---:|", *lines]) + "\n" if rows else ""


def _cost(result: dict) -> str:
    lines = []
    for what, cost in result["cost"].items():
        unit, title, scale = SWEEP_TITLES[what]
        for name, row in cost["contenders"].items():
            points = ", ".join(
                f"{value}: {_number(point['median'] * scale)}" for value, point in zip(cost["values"], row["seconds"])
            )
            power = "" if row["exponent"] is None else f"{row['exponent']:.2f}"
            lines.append(f"| {title}: {name} | {unit} | {points} | {power} |")
    if not lines:
        return ""
    return "\n".join(["| cost against | in | medians | exponent |", "|---|---|---|---:|", *lines]) + "\n"


def _where(result: dict) -> str:
    machine = result["machine"]
    packages = {name: v for versions in result["versions"].values() for name, v in versions.items()}
    lines = [
        f"{result['date'][:10]}, `{shlex.join(result['command'])}`, {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['memory_GiB']:.0f} GiB, load average before {machine['load_before'][0]:.1f}; Python {machine['python']}, "
        + ", ".join(f"{name} {v}" for name, v in packages.items())
        + ".",
        *(f"Left out: {name} ({why})." for name, why in result["absent"].items()),
    ]
    return "\n\n".join(lines) + "\n"


def _goal(goal: dict) -> str:
    if not goal["reached"]:
        return "missed"
    some = "" if goal["reached"] == goal["of"] else f", {goal['reached']} of {goal['of']} seeds"
    return _with_range(goal["seconds"]) + some


def _start(start: dict, kind: str, what: str) -> str:
    return f"{start[kind][what]['median']:.1f}" if start[kind] else ""


def _with_range(row: dict) -> str:
    return f"{_number(row['median'])} ({_range(row)})"


def _range(row: dict) -> str:
    return f"{_number(row['min'])}–{_number(row['max'])}"


def _number(value: float) -> str:
    return (f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}").replace("-", "−")


def figure(result: dict, path: Path) -> None:
    """Above, one row for each contender; below, cost against size on logarithmic axes."""
    found = result["contenders"]
    names = sorted(found, key=lambda name: found[name]["task"])
    canvas = Figure(figsize=(12, 3.4 + 0.3 * len(names)), layout="constrained")
    above, below = canvas.subfigures(2, 1, height_ratios=(0.6 + 0.3 * len(names), 2.8))
    axes = above.subplots(1, 4, sharey=True)

    rows = [(name, len(names) - 1 - i) for i, name in enumerate(names)]
    for ax, title in zip(
        axes, ("examples a second", "s of training to the goal", "s to the first step", "peak memory, MiB")
    ):
        _plain(ax, title)
        ax.set_ylim(-0.6, len(names) - 0.4)
    axes[0].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes[0].set_yticks([y for _, y in rows], [name for name, _ in rows])
    for name, y in rows:
        row, color = found[name], OURS if found[name]["environment"] == "aejax" else THEIRS
        _bar(axes[0], y, row["examples_per_second"], color)
        goal = row["goal"]
        if goal["seconds"]:
            _bar(axes[1], y, goal["seconds"], color)
        else:
            axes[1].text(0, y, " missed", va="center", color=MUTED, fontsize=8)
        for kind, alpha in (("cold", 0.35), ("warm", 1.0)):
            if row["start"][kind]:
                _bar(axes[2], y, row["start"][kind]["seconds"], color, alpha)
        axes[3].barh(y, row["peak_MiB"], 0.62, color=color)
    if any(found[name]["start"]["cold"] for name in names):
        axes[2].set_xlabel("pale: with nothing compiled before", fontsize=8, color=MUTED)

    for ax, (what, cost) in zip(below.subplots(1, 3), result["cost"].items()):
        unit, title, scale = SWEEP_TITLES[what]
        _plain(ax, unit)
        ax.set_xlabel(title, fontsize=9, color=INK)
        for name, row in cost["contenders"].items():
            medians = [point["median"] * scale for point in row["seconds"]]
            margins = [
                [(point["median"] - point["min"]) * scale for point in row["seconds"]],
                [(point["max"] - point["median"]) * scale for point in row["seconds"]],
            ]
            power = "" if row["exponent"] is None else f", exponent {row['exponent']:.2f}"
            ax.errorbar(
                cost["values"], medians, margins, marker="o", ms=4, lw=1.5, color=LINES[name], label=f"{name}{power}"
            )
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xticks(cost["values"], [f"{value:,}" for value in cost["values"]])
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.minorticks_off()
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.grid(axis="both", color=LINE, lw=0.8)
        if cost["contenders"]:
            ax.legend(frameon=False, fontsize=8, labelcolor=INK)
    canvas.savefig(path, dpi=130)


def _bar(ax: Axes, y: float, row: dict, color: str, alpha: float = 1.0) -> None:
    """The median as a bar, minimum and maximum as whiskers."""
    ax.barh(y, row["median"], 0.62, color=color, alpha=alpha)
    ax.plot([row["min"], row["max"]], [y, y], color=INK, lw=1)


def _plain(ax: Axes, title: str) -> None:
    ax.set_title(title, loc="left", fontsize=10, color=INK)
    ax.set_axisbelow(True)
    ax.grid(axis="x", color=LINE, lw=0.8)
    ax.tick_params(length=0, labelsize=8.5, labelcolor=INK)
    for side in ("top", "right", "left", "bottom"):
        ax.spines[side].set_visible(False)
