"""Evaluation of runs: a list of parts (`parts.py`), each in its own file, from which eval.json, tables and pages are made."""

from aejax.evaluation.evaluator import evaluate as evaluate
from aejax.evaluation.matching import mean_correlation as mean_correlation
from aejax.evaluation.units import loss_recovered as loss_recovered
from aejax.evaluation.units import top_examples as top_examples
