"""Evaluating runs: one list of parts (`parts.py`), each a file, which eval.json, tables and pages walk."""

from aejax.evaluation.evaluator import evaluate as evaluate
