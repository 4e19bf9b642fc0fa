"""On what a run ran: Python, packages, machine, device."""

from __future__ import annotations

import logging
import os
import platform
from functools import cache
from importlib.metadata import distributions
from typing import Any

from pipeline.config import Experiment
from pipeline.errors import UserError
from pipeline.process import torchrun
from pipeline.settings import AUTO
from pipeline.tracking.runs import Run

MACHINE, REQUIREMENTS = ENVIRONMENT = "environment/machine.json", "environment/requirements.txt"
SHARDS = "shards"  # a field of what can be trained by several processes
RESUMED_ON = "resumed_on"  # a tag: another kind of device than the one that a run was begun on

log = logging.getLogger("pipeline")


def log_environment(run: Run, experiment: Experiment) -> None:
    """Log versions of everything installed, the machine, and the device that training takes."""
    machine: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "device": _device(experiment),
    }
    run.log_json(machine, MACHINE)
    run.log_text("\n".join(_packages()) + "\n", REQUIREMENTS)
    run.set_tags({"device": machine["device"]})


@cache
def _packages() -> list[str]:
    """Names and versions of what is installed, read once for all runs of a process."""
    installed = (each.metadata for each in distributions())  # parsed anew at each access
    return sorted({f"{each['Name']}=={each['Version']}" for each in installed}, key=str.lower)


def chosen_device(experiment: Experiment) -> str:
    """The kind of device that training takes: cpu or cuda."""
    if experiment.device is None:
        return "cpu"
    from pipeline.training.trainer import choose_device

    return choose_device(experiment.device).type


def say_device(experiment: Experiment) -> None:
    """Say of what trains on either kind of device on which it does."""
    if experiment.device is not None:
        log.info("device=%s: training on %s", experiment.device, _device(experiment))


def on_this_machine(experiment: Experiment) -> Experiment:
    """``experiment``, which may have begun on a GPU, on what there is here."""
    try:
        chosen_device(experiment)
    except UserError:
        params = experiment.params.model_copy(update={"device": AUTO})
        return experiment.model_copy(update={"params": params})
    return experiment


def on_processes(experiment: Experiment) -> Experiment:
    """``experiment`` on as many processes as torchrun has started: a shard for each, unless it says
    how many shards there are.

    Raises:
        UserError: it cannot be trained on so many.
    """
    _, processes = torchrun()
    if processes == 1:
        return experiment
    params = experiment.params
    shards = getattr(params, SHARDS, None)
    if shards is None:
        raise UserError(
            f"model={experiment.model} is fitted in one process, and torchrun has started "
            f"{processes}: give the same command without torchrun."
        )
    if SHARDS not in params.model_fields_set:
        params = params.model_copy(update={SHARDS: processes})
        return experiment.model_copy(update={"params": params})
    if shards < processes:
        raise UserError(
            f"{experiment.name} is trained in {shards} shards (a run keeps their number), and "
            f"torchrun has started {processes} processes: give --nproc_per_node {shards} or fewer, "
            f"or train anew with --shards {processes}."
        )
    return experiment


def note_device(run: Run, experiment: Experiment) -> None:
    """Note of a run that goes on where it goes on, if that is no device of the kind it began on."""
    begun = run.tags.get("device", "cpu")
    if (begun == "cpu") != (chosen_device(experiment) == "cpu"):
        now = _device(experiment)
        log.warning("Run %s was begun on %s and goes on on %s.", run.id, begun, now)
        run.set_tags({RESUMED_ON: now})


def _device(experiment: Experiment) -> str:
    if chosen_device(experiment) == "cpu":
        return "cpu"
    import torch

    return torch.cuda.get_device_name()
