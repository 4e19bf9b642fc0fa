"""Both sides of the benchmark train the same network on the same interactions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks import notebook
from benchmarks.fresh import MIB, measure
from benchmarks.training import SIDES, compare, settings
from pipeline.models.neumf import NCFNetwork
from tests.conftest import checkerboard


def allocate(mebibytes: int) -> int:
    return int(np.ones(mebibytes * MIB, np.uint8)[-1])


def test_the_networks_are_the_same() -> None:
    ours = NCFNetwork(7, 11, settings(32, epochs=1))
    theirs = notebook.NeuMF(7, 11, 8, (16, 8), 0.4).eval()
    with torch.no_grad():
        users = torch.cat([theirs.gmf_user.weight, theirs.mlp_user.weight], dim=1)
        items = torch.cat([theirs.gmf_item.weight, theirs.mlp_item.weight], dim=1)
        ours.users.weight.copy_(users.T)
        ours.items.weight.copy_(items.T)
        ours.hidden[0].load_state_dict(theirs.mlp[1].state_dict())
        ours.output.load_state_dict(theirs.output.state_dict())
        users, items = torch.arange(7).repeat_interleave(11), torch.arange(11).repeat(7)
        torch.testing.assert_close(
            ours.score(torch.arange(7)).sigmoid().flatten(), theirs(users, items)
        )


def test_a_sample_is_an_interaction_with_a_negative() -> None:
    rows = checkerboard().train
    samples = notebook.Interactions(rows["user"].to_numpy(), rows["item"].to_numpy(), 20)
    users, positives, negatives = notebook.collate([samples[index] for index in range(160)])
    assert users.tolist() == rows["user"].tolist()
    assert positives.tolist() == rows["item"].tolist()
    assert negatives.shape == (160, 1)
    assert len(negatives.unique()) > 1


def test_the_sides_learn_alike() -> None:
    rows = compare(checkerboard(), batch_size=32, rounds=1)
    assert [row["side"] for row in rows] == list(SIDES)
    losses = [row["loss of epoch 1"] for row in rows]
    assert losses == pytest.approx([np.log(2)] * 3, abs=0.01)


def test_memory_is_that_of_the_function_alone() -> None:
    measured = measure(allocate, 300)
    assert measured.result == 1
    assert 295 < (measured.peak - measured.before) / MIB < 330


def test_a_process_that_ends_without_an_answer_is_told() -> None:
    with pytest.raises(RuntimeError, match="_exit ended without an answer"):
        measure(__import__("os")._exit, 3)
