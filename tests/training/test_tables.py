"""Tables lie as is best where they are, and answer the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pipeline.training import tables
from pipeline.training.layers import by_samples
from pipeline.training.tables import Table
from tests.training.test_layers import turned
from tests.training.test_loop import epochs, like


def test_a_table_is_turned_where_it_is_no_cpu_and_only_there() -> None:
    table = Table(torch.randn(3, 5).t().contiguous().t())
    assert table.weight.stride() == (5, 1)
    assert table.to(torch.float64).weight.stride() == (5, 1)
    elsewhere = table.to("meta")
    assert elsewhere.weight.stride() == (1, 3)
    assert isinstance(elsewhere.weight, torch.nn.Parameter)
    found = elsewhere(torch.zeros(2, 4, dtype=torch.int64, device="meta"))
    assert found.shape == (3, 2, 4)
    assert by_samples(found)


def test_moments_and_gradients_are_turned_with_it() -> None:
    weight = Table(torch.randn(3, 5)).to("meta").weight
    assert torch.zeros_like(weight).stride() == weight.stride()
    found = tables.columns_of(weight, torch.zeros(7, dtype=torch.int64, device="meta"))
    (gradient,) = torch.autograd.grad(found.sum(), weight)
    assert gradient.stride() == weight.stride()


@pytest.mark.parametrize("optimizer", ["adam", "lazy_adam"])
@pytest.mark.parametrize("layers", [(16, 8), (16, 12, 4), ()])
def test_a_network_learns_the_same_however_its_tables_lie(
    layers: tuple[int, ...], optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums are added up in another order: nothing else is another."""
    made = like(layers=layers, optimizer=optimizer, dropout=0.0, loss="bce", bias=True, l2=0.01)
    plain = epochs(made)

    def of_turned(embeddings: Tensor, places: Tensor) -> Tensor:
        return embeddings.t().index_select(0, places).t()

    monkeypatch.setattr(tables, "columns_of", of_turned)
    monkeypatch.setattr(tables, "laid_out", turned)
    monkeypatch.setattr("pipeline.training.optimizers.rows.laid_out", turned)
    as_on_a_gpu = epochs(made)
    lying = by_samples(as_on_a_gpu.network.state_dict()["users.weight"])
    assert lying or optimizer == "lazy_adam"
    for _ in range(3):
        torch.testing.assert_close(as_on_a_gpu.run(), plain.run())
    for one, other in zip(
        as_on_a_gpu.network.parameters(), plain.network.parameters(), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
