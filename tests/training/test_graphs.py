from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pipeline.training.graphs import WARM_UP, Replayed, on_stream


class Summing:
    """What a graph is to a function, for one that adds two tensors up: it knows the first pair."""

    def __init__(self) -> None:
        self.recorded = 0
        self.result = torch.zeros(())

    def __call__(self, function: Callable[[], Tensor]) -> Callable[[], Tensor]:
        self.recorded += 1

        def replay() -> Tensor:
            self.result.copy_(function())
            return self.result

        return replay


def added(left: Tensor, right: Tensor) -> Tensor:
    return (left + right).sum()


def pair(number: int) -> tuple[Tensor, Tensor]:
    return torch.full((3,), float(number)), torch.ones(3)


def test_what_is_replayed_is_what_is_called() -> None:
    record = Summing()
    replayed = Replayed(record)
    results = [replayed(added, *pair(number)) for number in range(6)]
    assert [float(result) for result in results] == [3.0 * (number + 1) for number in range(6)]
    assert record.recorded == 1


def test_a_few_calls_come_before_the_record() -> None:
    record = Summing()
    replayed = Replayed(record)
    recorded = [(replayed(added, *pair(0)), record.recorded)[1] for _ in range(WARM_UP + 2)]
    assert recorded == [0] * WARM_UP + [1, 1]


def test_a_batch_is_not_changed_by_the_next() -> None:
    replayed = Replayed(Summing())
    batches = [pair(number) for number in range(6)]
    for batch in batches:
        replayed(added, *batch)
    assert [float(left[0]) for left, _ in batches] == [0, 1, 2, 3, 4, 5]


def test_what_cannot_be_recorded_is_called_and_told_once(
    recwarn: pytest.WarningsRecorder,
) -> None:
    asked = list[int]()

    def refuse(function: Callable[[], Tensor]) -> Callable[[], Tensor]:
        asked.append(1)
        raise RuntimeError("operation not permitted when stream is capturing\nCUDA error: 900")

    replayed = Replayed(refuse)
    results = [float(replayed(added, *pair(number))) for number in range(6)]
    assert results == [3.0 * (number + 1) for number in range(6)]
    assert asked == [1]
    (told,) = recwarn
    message = str(told.message)
    assert message.startswith("A training step cannot be recorded as a CUDA graph")
    assert message.endswith(": operation not permitted when stream is capturing")


def test_what_forbids_a_record_is_told_and_not_what_it_leads_to(
    recwarn: pytest.WarningsRecorder,
) -> None:
    def refuse(function: Callable[[], Tensor]) -> Callable[[], Tensor]:
        try:
            raise RuntimeError("Cannot copy between CPU and CUDA tensors during CUDA graph capture")
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    replayed = Replayed(refuse)
    [replayed(added, *pair(number)) for number in range(WARM_UP + 1)]
    (told,) = recwarn
    assert str(told.message).endswith(
        ": Cannot copy between CPU and CUDA tensors during CUDA graph capture"
    )


def test_an_error_of_another_kind_is_not_hidden() -> None:
    def broken(function: Callable[[], Tensor]) -> Callable[[], Tensor]:
        raise TypeError("a mistake of ours")

    replayed = Replayed(broken)
    with pytest.raises(TypeError, match="a mistake of ours"):
        [replayed(added, *pair(0)) for _ in range(WARM_UP + 1)]


def test_without_a_stream_nothing_is_asked_of_cuda() -> None:
    with on_stream(None):
        assert float(added(*pair(1))) == 6
