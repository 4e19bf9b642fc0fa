"""What a process of several is given: where embeddings lie, and a network without those."""

from __future__ import annotations

import pytest
import torch

from pipeline.errors import UserError
from pipeline.models.ncf import NCFSettings
from pipeline.models.neumf import NCFNetwork
from pipeline.training import parts
from pipeline.training.optimizers.lazy_adam import make_optimizer
from pipeline.training.parts import packed_network, unpacked, with_embeddings_placed
from pipeline.training.tables import tables_of
from pipeline.training.trainer import CPU, TrainingSettings

NUMBERS = 16 * (30 + 20)  # of the tables of the network


def network() -> NCFNetwork:
    return NCFNetwork(30, 20, NCFSettings(embedding_dim=8))


@pytest.mark.parametrize(
    ("wanted", "optimizer", "processes", "free", "expected"),
    [
        ("auto", "lazy_adam", 2, 42 * NUMBERS * 2 - 2, "sharded"),  # on one machine they share it
        ("auto", "lazy_adam", 2, 42 * NUMBERS * 2, "replicated"),
        ("auto", "adam", 2, 0, "replicated"),
        ("auto", "lazy_adam", 1, 0, "replicated"),
        ("replicated", "lazy_adam", 2, 0, "replicated"),
        ("sharded", "lazy_adam", 2, 10**9, "sharded"),
    ],
)
def test_embeddings_are_sharded_where_they_take_half_of_memory(
    monkeypatch: pytest.MonkeyPatch,
    wanted: str,
    optimizer: str,
    processes: int,
    free: int,
    expected: str,
) -> None:
    monkeypatch.setattr(parts, "number", lambda: processes)
    monkeypatch.setattr(parts, "on_this_machine", lambda: processes)
    monkeypatch.setattr(parts, "available_memory", lambda: free)
    given = {"embeddings": wanted, "optimizer": optimizer}
    settings = TrainingSettings.model_validate(given)
    assert with_embeddings_placed(network(), settings, CPU).embeddings == expected


@pytest.mark.parametrize(("embeddings", "n"), [("sharded", [0, 0]), ("replicated", [30, 20])])
def test_sharded_embeddings_are_no_part_of_the_network_that_is_given(
    embeddings: str, n: list[int]
) -> None:
    made, generator = network(), torch.Generator().manual_seed(3)
    settings = TrainingSettings.model_validate({"embeddings": embeddings})
    before = {name: value.clone() for name, value in made.state_dict().items()}
    given, draws = unpacked(packed_network(made, generator, settings), CPU)
    assert [table.weight.shape[1] for table in tables_of(given)] == n
    assert [table.n for table in tables_of(given)] == [30, 20]
    assert torch.equal(given.output.weight, made.output.weight)
    assert torch.equal(draws.get_state(), generator.get_state())
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())


def test_adam_moves_no_sharded_embeddings() -> None:
    settings = TrainingSettings(optimizer="auto", embeddings="sharded", weight_decay=0.1)
    with pytest.raises(UserError, match=r"embeddings=sharded are moved by lazy_adam.*=auto\)"):
        make_optimizer(network(), settings)
