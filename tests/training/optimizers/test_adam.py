"""Steps against those of torch.optim.Adam, and a process that does without the compiler."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.training.optimizers.adam import Adam

ROOT = Path(__file__).parents[3]
SHAPES = [(17, 5), (5,), (1, 33), ()]
TRAINS = """
import sys
from pipeline.models import ncf
from tests.conftest import checkerboard

model = ncf.NCF(ncf.NCFSettings(epochs=1, batch_size=64), seed=0).fit(checkerboard())
print([name for name in ("torch._dynamo", "sympy") if name in sys.modules])
"""


def parameters(device: str = "cpu") -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(shape, generator=generator).to(device) for shape in SHAPES]


def step(optimizer: Adam | torch.optim.Adam, of: list[Tensor], number: int) -> None:
    """A step along gradients that depend on its number and the parameters alone."""
    generator = torch.Generator().manual_seed(number)
    gradients = [
        torch.randn(each.shape, generator=generator).to(each.device) + each / 7 for each in of
    ]
    if isinstance(optimizer, Adam):
        optimizer.step(gradients)
        return
    for each, gradient in zip(of, gradients, strict=True):
        each.grad = gradient
    optimizer.step()


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_steps_are_those_of_torch(device: str, weight_decay: float) -> None:
    ours, theirs = parameters(device), parameters(device)
    made = Adam(ours, 0.03, weight_decay)
    reference = torch.optim.Adam(theirs, lr=0.03, weight_decay=weight_decay, fused=True)
    for number in range(20):
        step(made, ours, number)
        step(reference, theirs, number)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)


def test_a_state_is_gone_on_from_as_often_as_one_likes() -> None:
    ours = parameters()
    made = Adam(ours, 0.03)
    for number in range(5):
        step(made, ours, number)
    state = copy.deepcopy(made.state_dict())
    copies = [[each.detach().clone() for each in ours] for _ in range(2)]
    step(made, ours, 5)
    for again in copies:
        other = Adam(again, 0.03)
        other.load_state_dict(state)
        step(other, again, 5)
        for one, two in zip(again, ours, strict=True):
            assert torch.equal(one, two)


def test_the_state_of_torch_is_gone_on_from() -> None:
    theirs = parameters()
    reference = torch.optim.Adam(theirs, lr=0.03, fused=True)
    for number in range(5):
        step(reference, theirs, number)
    ours = [each.detach().clone() for each in theirs]
    made = Adam(ours, 0.03)
    made.load_state_dict(reference.state_dict())
    step(made, ours, 5)
    step(reference, theirs, 5)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state["state"].pop(2), "3 parameters have moments, not 4"),
        (lambda state: state["state"][0].update(step=torch.zeros(2)), r"step has shape \(2,\)"),
        (lambda state: state["state"][1].update(exp_avg=torch.zeros(4)), r"has shape \(4,\)"),
    ],
)
def test_the_state_of_other_parameters(change: Any, said: str) -> None:
    state = Adam(parameters(), 0.03).state_dict()
    change(state)
    with pytest.raises(ValueError, match=said):
        Adam(parameters(), 0.03).load_state_dict(state)


def test_training_does_without_the_compiler() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRAINS], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]", done.stderr
