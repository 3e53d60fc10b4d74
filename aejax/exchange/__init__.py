"""Runs as folders to share, and models from and for other libraries."""

from aejax.exchange.folders import export_run as export_run
from aejax.exchange.folders import import_run as import_run
