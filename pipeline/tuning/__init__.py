"""Optuna studies: what is searched, how a trial is judged, and the processes that do it."""

import warnings

import optuna
from optuna.exceptions import ExperimentalWarning

# Heartbeats, retries and names of metrics are all experimental in Optuna 5: once is enough to know.
warnings.filterwarnings("ignore", category=ExperimentalWarning)
optuna.logging.set_verbosity(optuna.logging.ERROR)  # a study tells in its own words how far it is
