"""What the benchmark of one device trains, in full and in tiny sizes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchmarks.device import PLAN, Size
from pipeline.models.neumf import NCFMethod
from pipeline.training.method import Precision

EVERY = 5  # in evaluation every fifth interaction is to be found, the others are masked
PRECISIONS: dict[str, list[Precision]] = {"cuda": ["float32", "tf32", "bf16"], "cpu": ["float32"]}


@dataclass(frozen=True)
class Run:
    """What is trained."""

    name: str
    size: Size
    plan: NCFMethod


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    many_steps: Run
    large_steps: Run
    rounds: int
    copied_megabytes: int
    matrix_width: int


FULL = Scale(
    many_steps=Run("ML-1M, batch 2,048", Size(6040, 3706, 1_000_209), PLAN),
    large_steps=Run(
        "NVIDIA's NCF, batch 1,048,576",
        Size(138_493, 26_744, 20_000_000),
        NCFMethod(
            embedding_dim=64,
            layers=(256, 256, 128, 64),
            dropout=0.5,
            loss="bce",
            batch_size=1_048_576 // 5,
            learning_rate=0.0045,
            negatives=4,
        ),
    ),
    rounds=5,
    copied_megabytes=1000,
    matrix_width=8192,
)
SMALL = Scale(
    many_steps=Run("small, batch 64", Size(60, 40, 500), replace(PLAN, batch_size=64)),
    large_steps=Run(
        "small, batch 160",
        Size(60, 40, 500),
        replace(FULL.large_steps.plan, embedding_dim=4, layers=(8, 8, 4), batch_size=32),
    ),
    rounds=1,
    copied_megabytes=1,
    matrix_width=64,
)
