"""The benchmark of one device, on a CPU and in tiny sizes: what it trains, ranks and counts."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import gpu_estimates
from benchmarks.device import PLAN, Size, interactions
from benchmarks.gpu import Measured, report
from benchmarks.gpu_audit import Operation
from benchmarks.gpu_estimates import BESIDE, H100, SCATTERED, SMALLEST
from benchmarks.gpu_floors import (
    Rates,
    floors,
    step_bytes,
    step_flops,
    step_operations,
)
from benchmarks.gpu_ranking import K, evaluate, held_out
from benchmarks.gpu_runs import SMALL
from pipeline.evaluation import metrics
from pipeline.models.neumf import NCFNetwork

ALONE = """
import sys

for absent in ("matplotlib", "mlflow", "pandas", "pydantic", "requests", "rich", "sklearn", "yaml"):
    sys.modules[absent] = None
sys.argv = ["gpu", "--device", "cpu", "--small", "--json"]

from benchmarks.gpu import main

main()
"""


def test_it_runs_where_torch_and_numpy_are_all_there_is() -> None:
    found = subprocess.run(
        [sys.executable, "-c", ALONE],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    titles = [table["title"] for table in json.loads(found.stdout)["tables"]]
    assert titles == [
        "Training",
        "Full evaluation",
        "What the device does",
        "A step against its floors",
    ]


def test_the_bars_are_for_the_full_sizes() -> None:
    made = report(SMALL, "cpu")
    assert not made.bars
    assert len(made.tables) == 4
    losses = [row["loss"] for row in made.tables[0].rows]
    assert losses == pytest.approx([np.log(2)] * 2, abs=0.05)
    for row in made.tables[3].rows:
        assert row["times the estimate"] * row["estimate, H100 [µs]"] == pytest.approx(
            row["step [µs]"]
        )


@pytest.mark.gpu
def test_on_a_gpu_steps_come_from_graphs() -> None:
    made = report(SMALL, "cuda")
    rows = made.tables[0].rows
    assert [row["steps"] for row in rows] == ["kernel by kernel", *["graph"] * 4]
    assert [row["loss"] for row in rows] == pytest.approx([np.log(2)] * 5, abs=0.05)


def test_samples_are_positives_and_negatives() -> None:
    run = replace(SMALL.large_steps, size=Size(60, 40, 500))
    measured = Measured(run, "graph", True, seconds=0.5, loss=0.7)
    assert run.plan.negatives == 4
    assert measured.samples == pytest.approx(500 * 5 / 0.5 / 1e6)
    assert measured.step == pytest.approx(0.5 / (500 / 32))


def test_some_people_and_items_have_more_than_others() -> None:
    users, items = interactions(Size(200, 300, 20_000))
    assert torch.equal(users, users.sort().values)
    for indices, count in ((users, 200), (items, 300)):
        times = torch.bincount(indices, minlength=count).sort(descending=True).values
        assert len(times) == count
        assert int(times[: count // 10].sum()) > 0.2 * 20_000


@pytest.mark.parametrize("block_bytes", [1, 4 * 8 * 40 * 7, 2**20])
def test_evaluation_is_that_of_the_pipeline(block_bytes: int) -> None:
    size = Size(23, 40, 300)
    torch.manual_seed(0)
    network = NCFNetwork(size.users, size.items, PLAN)
    torch.nn.init.normal_(network.users.weight, std=0.5)
    users, items = interactions(size)
    seen, wanted = np.zeros((2, size.users, size.items), bool)
    held = np.arange(300) % 5 == 0
    wanted[users[held], items[held]] = True
    seen[users[~held], items[~held]] = True
    wanted &= ~seen
    scores = np.where(seen, -np.inf, network.score(torch.arange(size.users)).numpy())
    lists = np.argsort(-scores, axis=1)[:, :K]
    some = wanted.any(1)
    hits, relevant = np.take_along_axis(wanted, lists, 1)[some], wanted.sum(1)[some]
    expected = [
        metrics.hit_rate(hits),
        metrics.precision(hits),
        metrics.recall(hits, relevant),
        metrics.ndcg(hits, relevant),
    ]
    assert some.sum() > 0
    found = evaluate(network, held_out(users, items, size.users, size.items, 5), block_bytes)
    assert found == pytest.approx([float(values.mean()) for values in expected], rel=1e-5)


def test_what_a_step_has_to_do() -> None:
    plan = replace(PLAN, embedding_dim=3, layers=(4, 2), batch_size=10, negatives=2)
    # Rows of 3 + 2; 4 * 2 + 2 in the hidden layer, 3 + 2 + 1 in the output.
    parameters = 5 * (7 + 11) + 10 + 6
    assert step_bytes(Size(7, 11, 100), plan) == 4 * (2 * 5 * (10 + 30) + 8 * parameters)
    assert step_flops(plan) == 3 * 2 * 30 * (8 + 5)


def test_operations_grow_with_the_network_and_not_with_the_batch() -> None:
    plan, size = PLAN, Size(70, 110, 1000)
    counted = step_operations(size, plan)
    assert 30 < counted < 100
    assert step_operations(size, replace(plan, batch_size=4096)) == counted
    assert step_operations(size, replace(plan, layers=(16, 8, 4))) > counted
    assert step_operations(size, replace(plan, dropout=0.0)) < counted


def test_the_highest_floor_binds() -> None:
    size, plan = Size(7, 11, 100), PLAN
    slow_copies = Rates(bytes=1e3, flops={"float32": 1e15}, launch=1e-9, node=None)
    assert floors(size, plan, slow_copies, False).highest == step_bytes(size, plan) / 1e3
    slow_launches = Rates(bytes=1e15, flops={"float32": 1e15}, launch=2.0, node=1.0)
    for replayed, each in ((False, 2.0), (True, 1.0)):
        found = floors(size, plan, slow_launches, replayed)
        assert found.highest == found.launches == each * step_operations(size, plan)


@pytest.mark.parametrize(("moved", "worked", "looked_up"), [(3, 1, 2), (1, 3, 2), (2, 1, 3)])
def test_an_operation_is_estimated_by_what_takes_it_longest(
    moved: float, worked: float, looked_up: float
) -> None:
    flops = worked * H100.flops["bf16"]
    large = Operation("", "", int(moved * H100.bytes), int(flops), int(looked_up * SCATTERED))
    small = Operation("", "", 1, 0, 0)
    for replayed, least in ((True, SMALLEST), (False, H100.launch)):
        found = gpu_estimates.seconds([large, small], "bf16", replayed)
        assert found == pytest.approx(3 + H100.node + least)


def test_estimates_are_made_without_a_device() -> None:
    (table,) = gpu_estimates.report().tables
    one_by_one, graph, whole, tf32, half = table.rows
    assert graph["step [µs]"] < one_by_one["step [µs]"] < whole["step [µs]"]
    assert half["step [µs]"] < tf32["step [µs]"] < whole["step [µs]"]
    assert graph["step [µs]"] > 1e6 * H100.node * (graph["operations"] + BESIDE)
