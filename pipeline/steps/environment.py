"""On what a run ran: Python, packages, machine, device."""

from __future__ import annotations

import os
import platform
from importlib.metadata import distributions
from typing import Any

from pipeline.config import Experiment
from pipeline.tracking.runs import Run

MACHINE, REQUIREMENTS = ENVIRONMENT = "environment/machine.json", "environment/requirements.txt"


def log_environment(run: Run, experiment: Experiment) -> None:
    """Log versions of everything installed, the machine, and the device that training takes."""
    machine: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "device": _device(experiment),
    }
    installed = (each.metadata for each in distributions())  # read anew whenever it is asked for
    packages = sorted({f"{each['Name']}=={each['Version']}" for each in installed}, key=str.lower)
    run.log_json(machine, MACHINE)
    run.log_text("\n".join(packages) + "\n", REQUIREMENTS)
    run.set_tags({"device": machine["device"]})


def chosen_device(experiment: Experiment) -> str:
    """The kind of device that training takes: cpu or cuda."""
    wanted = getattr(experiment.params, "device", None)
    if wanted is None:
        return "cpu"
    from pipeline.training.trainer import choose_device

    return choose_device(wanted).type


def _device(experiment: Experiment) -> str:
    if chosen_device(experiment) == "cpu":
        return "cpu"
    import torch

    return torch.cuda.get_device_name()
