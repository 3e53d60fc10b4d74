"""A model of sequences on the test split: rollouts, compared with repeating the last frame, and probes of its states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aejax.evaluation.part import Part, Result
from aejax.evaluation.rollouts import AVERAGED, compute, state_table
from aejax.figures.tables import Column, Number, Table
from aejax.runs.run import Run


def tables(result: Result) -> Sequence[Table]:
    shown = []
    if "rollout_mse" in result:
        # The first step, and the last one that any sequence reaches.
        reached = [i for i, error in enumerate(result["rollout_mse"]) if error is not None]
        ends = sorted({reached[0], reached[-1]} if reached else ())
        names = [f"{result['steps'][i]} after {result['prefix']} frames" for i in ends]
        columns = [
            Column(name, "MSE", [result[key][i] for i in ends], None, 4)
            for name, key in (
                ("one rollout", "rollout_mse"),
                (f"mean of {AVERAGED}", "mean_rollout_mse"),
                ("last frame repeated", "last_frame_mse"),
            )
        ]
        shown.append(Table("Rollouts, step", names, columns))
    return [*shown, state_table(result)] if result["probes"] else shown


def numbers(result: Result) -> Sequence[Number]:
    if "rollout_mse" not in result:
        return []
    return [Number("MSE of the next frame", "one rollout", result["rollout_mse"][0], "low", 4)]


def section(run: Run, evaluation: Mapping[str, Any]) -> Any:
    from aejax.evaluation.rollout_pictures import sequences_section

    return sequences_section(run, evaluation["sequences"])


PART = Part(
    "sequences",
    lambda context: context.model.sequence is not None and context.model.sequence.rollout is not None,
    compute,
    tables,
    numbers,
    section,
)
