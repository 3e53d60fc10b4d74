"""The autoencoder family as pure functions in JAX: one step, explicit seeds, runs that replay bit for bit.

import aejax
run = aejax.open_run("runs/...")
z = run.encode(x)
"""

from aejax.runs.opening import open_run as open_run
from aejax.runs.run import Run as Run
from aejax.training.settings import Settings as Settings
from aejax.training.trainer import resume as resume
from aejax.training.trainer import train as train
from aejax.types import Dataset as Dataset
from aejax.types import Experiment as Experiment
from aejax.types import Model as Model
from aejax.types import TrainState as TrainState
