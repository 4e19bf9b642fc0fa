"""Training on a GPU, looked at without one: nothing waits, nothing is mixed, draws are the run's.

And what is planted is found, where it was planted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import Tensor

from benchmarks.device import PLAN, Size
from benchmarks.gpu_audit import DEVICE, Audit, Fault, Operation, generator, ncf, on_device
from pipeline.evaluation.ranking import top_k
from pipeline.models.ncf import NCF, NCFSettings
from pipeline.models.neumf import NCFNetwork
from pipeline.models.two_tower import TwoTowerNetwork, TwoTowerSettings
from pipeline.training.graphs import Replayed
from pipeline.training.layers import keep
from pipeline.training.method import Optimizer

ML_1M = Size(6040, 3706, 3 * PLAN.batch_size)
PLANS = {
    "as in the benchmark": PLAN,
    "without dropout": replace(PLAN, dropout=0.0, loss="bce"),
    "verified, popular negatives": replace(PLAN, verified_negatives=True, negative_power=0.75),
    "penalty and biases": replace(PLAN, l2=1e-5, bias=True),
    "softmax in bf16": replace(PLAN, loss="softmax", negatives=4, precision="bf16"),
    "lazy": replace(PLAN, l2=1e-5, optimizer="lazy_adam"),
    "no layers": replace(PLAN, layers=(), loss="bpr_sigmoid", weight_decay=1e-4),
}


@pytest.mark.parametrize("name", PLANS)
def test_an_epoch_of_ncf_is_without_fault(name: str) -> None:
    made = on_device(ncf(ML_1M, PLANS[name]), ML_1M, PLANS[name])
    with Audit() as audit:
        losses = made.run()
    assert audit.faults == []
    assert (losses.shape, losses.device) == ((3,), DEVICE)
    assert all(part.device == DEVICE for part in made.network.parameters())


@pytest.mark.parametrize("items", [ML_1M.items, 20 * PLAN.batch_size])
@pytest.mark.parametrize("optimizer", ["adam", "lazy_adam"])
def test_an_epoch_of_two_towers_is_without_fault(items: int, optimizer: Optimizer) -> None:
    """Of a catalogue that is smaller than what a batch looks up, and of a larger one."""
    size, settings = replace(ML_1M, items=items), TwoTowerSettings(optimizer=optimizer)
    network = TwoTowerNetwork(size.users, np.ones((items, 34), np.float32), settings).to(DEVICE)
    made = on_device(network, size, settings)
    with Audit() as audit:
        losses = made.run()
    assert audit.faults == []
    assert (losses.shape, losses.device) == ((3,), DEVICE)


def test_a_step_from_a_graph_launches_five_kernels_beside_it() -> None:
    """Positives are looked up and put to the negatives, two parts are copied in, the loss out."""

    def launched(steps: int) -> int:
        made = on_device(ncf(ML_1M, PLAN), replace(ML_1M, interactions=steps * 2048), PLAN)
        made.replayed = Replayed(lambda step: lambda: torch.empty((), device=DEVICE))
        with Audit() as audit:
            made.run()
        assert audit.faults == []
        return len(audit.operations)

    assert launched(7) - launched(6) == 5


def test_ranking_a_block_copies_lists_and_no_scores() -> None:
    """Users and their masks to the device; whether all is finite, and the lists, from it."""
    model = NCF(NCFSettings(), seed=0)
    model.network = ncf(ML_1M, model.settings)
    users = np.arange(ML_1M.users, dtype=np.int32)
    seen = sparse.random(ML_1M.users, ML_1M.items, 0.001, format="csr", random_state=0)
    with Audit() as audit:
        scores = model.device_scores(users)
        assert scores is not None
        lists = top_k(scores, seen, 10)
    assert {each.kind for each in audit.faults} == {"wait"}
    waited = [each.operation for each in audit.faults]
    assert waited == ["_to_copy", "_local_scalar_dense", "_to_copy", "_to_copy"]
    copied = [each.bytes for each in audit.operations if each.name == "_to_copy"]
    widened = 12 * scores.numel()  # on the device: integers that scores are ordered by
    expected = [8 * 2 * len(users), 8 * 2 * 2 * seen.nnz, widened, 4 * 2 * lists.size]
    assert sorted(copied) == sorted(expected)


class Planted(NCFNetwork):
    """A network that does something else in between."""

    plant: Callable[[Tensor], object]

    def forward(self, users: Tensor, items: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        logits, used = super().forward(users, items)
        self.plant(logits.detach())
        return logits, used


@pytest.mark.parametrize(
    ("plant", "kind", "operation"),
    [
        (lambda logits: logits.sum().item(), "wait", "_local_scalar_dense"),
        (lambda logits: 1 if logits.sum() > 0 else 0, "wait", "_local_scalar_dense"),
        (lambda logits: logits[logits > 0], "wait", "index"),
        (lambda logits: logits.index_put_((logits > 0,), logits[0, 0]), "wait", "index_put_"),
        (lambda logits: logits.nonzero(), "wait", "nonzero"),
        (lambda logits: logits.cpu(), "wait", "_to_copy"),
        (lambda logits: logits.tolist(), "wait", "_to_copy"),
        (lambda logits: torch.zeros(2, 2048).copy_(logits), "wait", "copy_"),
        (lambda logits: logits.copy_(torch.zeros(2, 2048)), "wait", "copy_"),
        (lambda logits: logits + torch.ones(2048), "devices", "add"),
        (lambda logits: logits[:, torch.arange(3)], "devices", "index"),
        (lambda logits: logits + torch.ones(2048, 2, device=DEVICE).t(), "turned", "add"),
        (lambda logits: logits.t().contiguous(), "turned", "clone"),
        (lambda logits: torch.rand_like(logits), "draw", "rand_like"),
        (lambda logits: logits.bernoulli_(0.5), "draw", "bernoulli_"),
        (lambda logits: logits.bernoulli_(0.5, generator=torch.Generator()), "draw", "bernoulli_"),
    ],
)
def test_what_is_planted_is_found_where_it_stands(
    plant: Callable[[Tensor], object], kind: str, operation: str
) -> None:
    network = Planted(ML_1M.users, ML_1M.items, PLAN, generator()).to(DEVICE)
    network.plant = plant
    with Audit() as audit:
        on_device(network, replace(ML_1M, interactions=PLAN.batch_size), PLAN).run()
    where = f"tests/benchmarks/test_gpu_audit.py:{plant.__code__.co_firstlineno}"
    assert audit.faults[-1:] == [Fault(kind, operation, where)]


def test_a_number_of_the_host_may_stand_beside_the_devices() -> None:
    with Audit() as audit:
        torch.zeros(5, device=DEVICE) + torch.ones(())
        torch.ones(3) + 1
    assert audit.faults == []
    assert [each.name for each in audit.operations] == ["zeros", "add"]


def done(work: Callable[[], object]) -> Operation:
    """The one operation of ``work``."""
    with Audit() as audit:
        work()
    (operation,) = audit.operations
    return operation


def test_bytes_and_flops() -> None:
    left, right = torch.empty(5, 3, device=DEVICE), torch.empty(3, 7, device=DEVICE)
    half = torch.empty(1000, 7, device=DEVICE, dtype=torch.bfloat16)
    places = torch.empty(40, device=DEVICE, dtype=torch.int64)

    def measured(work: Callable[[], object]) -> tuple[int, int, int]:
        operation = done(work)
        return operation.bytes, operation.flops, operation.scattered

    assert measured(lambda: left @ right) == (4 * (15 + 21 + 35), 2 * 5 * 3 * 7, 0)
    assert measured(lambda: half @ half[:7].t()) == (2 * (7000 + 49 + 7000), 2 * 7 * 7 * 1000, 0)
    assert measured(lambda: left + left[:1].expand(5, 3)) == (4 * (15 + 3 + 15), 0, 0)
    assert measured(lambda: left.mul_(2)) == (4 * 30, 0, 0)
    assert measured(lambda: left.zero_()) == (4 * 15, 0, 0)
    assert measured(lambda: left.new_zeros(9)) == (4 * 9, 0, 0)
    assert measured(lambda: half.index_select(0, places)) == (2 * 2 * 280 + 8 * 40, 0, 0)
    assert measured(lambda: half.t().index_select(1, places)) == (2 * 2 * 280 + 8 * 40, 0, 280)
    found = torch.empty(40, 7, device=DEVICE, dtype=torch.bfloat16)
    added = measured(lambda: half.index_add_(0, places, found))
    assert added == (3 * 2 * 280 + 8 * 40, 0, 280)


def test_the_mask_of_dropout_is_one_pass() -> None:
    operation = done(lambda: keep(torch.empty(30, 40, device=DEVICE), 0.4, generator()))
    assert (operation.name, operation.bytes) == ("bernoulli_", 4 * 30 * 40)


def test_views_and_what_is_not_there_are_no_operations() -> None:
    with Audit() as audit:
        table = torch.empty(5, 3, device=DEVICE)
        table.t()[1:].view(2, 5).expand(4, 2, 5).detach()
        torch.zeros(0, 3, device=DEVICE)
    assert audit.operations == []
