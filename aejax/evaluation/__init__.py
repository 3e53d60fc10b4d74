"""Evaluation of runs: a list of parts (`parts.py`), each in its own file, from which eval.json, tables and pages are made."""

from aejax.evaluation.evaluator import evaluate as evaluate
