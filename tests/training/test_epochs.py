from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.models.neumf import NCFNetwork
from pipeline.training.epochs import Epochs
from pipeline.training.losses import LossName

ALONE = """
import sys

for absent in ("mlflow", "numpy", "pandas", "pydantic", "scipy", "sklearn", "yaml"):
    sys.modules[absent] = None

from tests.training.test_epochs import Made, epochs

print(epochs(Made()).run().tolist())
"""


@dataclass(frozen=True)
class Made:
    """A network and how it is trained, without the settings of an experiment."""

    embedding_dim: int = 8
    layers: tuple[int, ...] = (16, 8)
    dropout: float = 0.4
    bias: bool = False
    loss: LossName = "bpr"
    batch_size: int = 32
    learning_rate: float = 0.01
    weight_decay: float = 0.0
    l2: float = 0.0
    negatives: int = 1
    negative_power: float = 0.0
    verified_negatives: bool = False


def epochs(made: Made, device: str = "cpu") -> Epochs:
    """Epochs over 80 interactions of 12 users with 9 items; the same every time."""
    torch.manual_seed(0)
    pairs = torch.randperm(12 * 9)[:80].sort().values
    return Epochs(
        NCFNetwork(12, 9, made).to(device),
        (pairs // 9).to(device),
        (pairs % 9).to(device),
        torch.ones((), device=device),
        9,
        made,
        torch.Generator(device).manual_seed(0),
    )


def test_an_epoch_tells_the_loss_of_every_step() -> None:
    losses = epochs(Made()).run()
    assert losses.shape == (3,)
    torch.testing.assert_close(losses, torch.full((3,), math.log(2)), atol=0.01, rtol=0)


def test_a_penalty_is_not_in_the_loss_that_is_told() -> None:
    plain, held = (epochs(Made(batch_size=80, l2=l2)).run() for l2 in (0.0, 100.0))
    assert torch.equal(plain, held)


def test_torch_alone_will_do() -> None:
    """On a bare GPU machine there is nothing else; what is blocked here cannot be imported."""
    found = subprocess.run(
        [sys.executable, "-c", ALONE],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == str(epochs(Made()).run().tolist())
