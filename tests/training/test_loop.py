from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.models.neumf import NCFMethod, NCFNetwork
from pipeline.training.graphs import Replayed, on_stream
from pipeline.training.loop import TrainingLoop
from pipeline.training.method import Optimizer, Precision

ALONE = """
import sys

for absent in ("mlflow", "pandas", "pydantic", "scipy", "sklearn", "yaml"):
    sys.modules[absent] = None

from tests.training.test_loop import MADE, epochs

print(epochs(MADE).run().tolist())
"""


MADE = NCFMethod(loss="bpr", batch_size=32, learning_rate=0.01, dropout=0.4)


def like(**changes: Any) -> NCFMethod:
    """``MADE`` with some of its fields changed."""
    return replace(MADE, **changes)


def epochs(made: NCFMethod, device: str = "cpu") -> TrainingLoop:
    """Epochs over 80 interactions of 12 users with 9 items; the same every time."""
    torch.manual_seed(0)
    pairs = torch.randperm(12 * 9)[:80].sort().values
    generator = torch.Generator(device).manual_seed(0)
    return TrainingLoop(
        NCFNetwork(12, 9, made, generator).to(device),
        (pairs // 9).to(device),
        (pairs % 9).to(device),
        torch.ones((), device=device),
        9,
        made,
        generator,
    )


def test_an_epoch_tells_the_loss_of_every_step() -> None:
    losses = epochs(MADE).run()
    assert losses.shape == (3,)
    torch.testing.assert_close(losses, torch.full((3,), math.log(2)), atol=0.01, rtol=0)


def test_a_penalty_is_not_in_the_loss_that_is_told() -> None:
    plain, held = (epochs(like(batch_size=80, l2=l2)).run() for l2 in (0.0, 100.0))
    assert torch.equal(plain, held)


def test_torch_and_numpy_will_do() -> None:
    """On a bare GPU machine there is nothing else; what is blocked here cannot be imported."""
    found = subprocess.run(
        [sys.executable, "-c", ALONE],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == str(epochs(MADE).run().tolist())


def as_it_stands(function: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """What a graph does, by doing it: from the buffers, into one and the same tensor."""
    result = torch.zeros(())
    return lambda: result.copy_(function())


@pytest.mark.parametrize(
    "made",
    [
        like(batch_size=8),
        like(batch_size=12, loss="bce", negatives=3, l2=0.1),
        like(batch_size=16, loss="softmax", negatives=2, verified_negatives=True),
        like(batch_size=8, optimizer="lazy_adam", l2=0.1),
    ],
)
@pytest.mark.parametrize("even", [True, False])
def test_steps_from_buffers_are_the_steps(made: NCFMethod, even: bool) -> None:
    plain, replayed = epochs(made), epochs(made)
    replayed.replayed = Replayed(as_it_stands)
    if not even:
        plain.weights = replayed.weights = torch.linspace(0.5, 1.5, 80)
    for _ in range(3):
        assert torch.equal(plain.run(), replayed.run())
    for ours, theirs in zip(replayed.network.parameters(), plain.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("optimizer", ["adam", "lazy_adam"])
def test_a_step_that_cannot_be_recorded_leaves_nothing_to_the_next(optimizer: Optimizer) -> None:
    made = like(batch_size=8, optimizer=optimizer, dropout=0.0)
    plain, refused = epochs(made), epochs(made)

    def refuse(function: Callable[[], Tensor]) -> Callable[[], Tensor]:
        refused.network(refused.users[:8], refused.items[None, :8])
        raise RuntimeError("operation not permitted when stream is capturing")

    refused.replayed = Replayed(refuse)
    with pytest.warns(UserWarning, match="cannot be recorded"):
        assert torch.equal(refused.run(), plain.run())
    for ours, theirs in zip(refused.network.parameters(), plain.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_batch_that_is_not_full_is_not_replayed() -> None:
    made = epochs(like(batch_size=16, negatives=2))  # 80 interactions in full batches
    made.replayed = Replayed(as_it_stands)
    made.run()
    assert made.replayed.calls == 5
    made = epochs(like(batch_size=32))  # 32, 32 and 16
    made.replayed = Replayed(as_it_stands)
    made.run()
    assert made.replayed.calls == 2


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_other_peoples_matrix_products_are_as_before(precision: Precision) -> None:
    for before in ("highest", "high"):
        torch.set_float32_matmul_precision(before)
        epochs(like(precision=precision)).run()
        assert torch.get_float32_matmul_precision() == before
    torch.set_float32_matmul_precision("highest")


@pytest.mark.gpu
def test_tf32_is_for_the_time_of_an_epoch() -> None:
    made, within = epochs(like(precision="tf32"), "cuda"), list[str]()
    step, made.replayed = made.step, None

    def note(*batch: Tensor) -> Tensor:
        within.append(torch.get_float32_matmul_precision())
        return step(*batch)

    made.step = note  # type: ignore[method-assign]
    made.run()
    assert set(within) == {"high"}
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_other_precisions_learn_alike(precision: Precision) -> None:
    plain, other = (
        epochs(like(batch_size=8, precision=kind), "cuda") for kind in ("float32", precision)
    )
    for _ in range(3):
        torch.testing.assert_close(plain.run().mean(), other.run().mean(), rtol=0.02, atol=0)


@contextmanager
def no_waiting() -> Iterator[None]:
    """Waiting for the GPU is an error."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def close(ours: Tensor, theirs: Tensor) -> None:
    """Sums over a batch are added up in another order every time."""
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("verified", [False, True])
def test_steps_of_a_graph_are_the_steps(verified: bool) -> None:
    """With dropout too: the draws of a graph are those of the steps one by one."""
    made = like(batch_size=8, l2=0.01, verified_negatives=verified)
    graph, plain = epochs(made, "cuda"), epochs(made, "cuda")
    plain.replayed = None
    for _ in range(3):
        close(graph.run(), plain.run())
    assert graph.replayed is not None
    assert graph.replayed.replay is not None
    for ours, theirs in zip(graph.network.parameters(), plain.network.parameters(), strict=True):
        close(ours, theirs)


@pytest.mark.gpu
def test_the_draws_of_a_graph_go_on() -> None:
    """Without learning, only order, negatives and dropout can make one epoch another."""
    made = epochs(like(batch_size=80, learning_rate=0.0, dropout=0.5, loss="bce"), "cuda")
    with torch.no_grad():
        for part in made.network.parameters():
            part.mul_(30)  # until a mask makes a difference that a float32 holds
    losses = torch.cat([made.run() for _ in range(12)])  # the last nine are replays
    assert len(losses[3:].unique()) == 9
    # One batch over and over: dropout alone.
    assert made.replayed is not None
    batch = made.users, torch.stack([made.items, made.items.flip(0)])
    with on_stream(made.stream):
        again = torch.stack([made.replayed(made.step, *batch) for _ in range(9)])
    assert len(again.unique()) == 9


@pytest.mark.gpu
@pytest.mark.parametrize("replayed", [False, True])
def test_an_epoch_waits_for_nothing(replayed: bool) -> None:
    made = epochs(like(batch_size=12, verified_negatives=True, negative_power=0.75), "cuda")
    if not replayed:
        made.replayed = None
    made.run()  # recording waits, once
    with no_waiting():
        made.run()


@pytest.mark.gpu
def test_a_network_that_waits_is_trained_without_a_graph() -> None:
    made, plain = (epochs(like(batch_size=8, dropout=0.0), "cuda") for _ in range(2))
    plain.replayed = None

    step = made.step

    def waiting(*batch: Tensor) -> Tensor:
        batch[0].max().item()
        return step(*batch)

    made.step = waiting  # type: ignore[method-assign]
    with pytest.warns(UserWarning, match="cannot be recorded as a CUDA graph"):
        losses = made.run()
    close(losses, plain.run())
    close(made.run(), plain.run())
