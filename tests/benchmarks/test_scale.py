"""Growth is found where it is known, and every stage is measured at every size."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import scale
from benchmarks.generated import ML_25M, Shape, write
from benchmarks.scale import (
    CUBE,
    INTERACTIONS,
    STAGES,
    Cost,
    Size,
    exponent,
    growth,
    steepest,
)

MIB = 2**20


def test_the_exponent_of_a_power() -> None:
    assert exponent([1, 2, 4], [3, 12, 48]) == pytest.approx(2)


def test_shapes_double_up_to_the_largest() -> None:
    proportional, alone = scale.shapes(25)
    assert [round(shape.interactions / 1e6) for shape in proportional] == [1, 2, 4, 8, 16, 25]
    assert proportional[-1].users == pytest.approx(ML_25M.users, rel=1e-4)
    assert proportional[0].items == pytest.approx(ML_25M.items / 25, rel=1e-3)
    assert [shape.interactions * 4 // alone[-1].interactions for shape in alone] == [1, 2, 4]
    assert {(shape.users, shape.items) for shape in alone} == {
        (proportional[-1].users, proportional[-1].items)
    }
    assert len(scale.shapes(4)[0]) == 3


def test_growth_and_its_bar() -> None:
    sizes = [
        Size(
            {INTERACTIONS: n * 1_000_000, CUBE: n**3},
            {
                "load": Cost(float(n), 2.0 * n, n * MIB),
                "store": Cost(float(n), float(n**2), MIB),
                **({"fit ease": Cost(float(n**3), float(n**3), n**2 * MIB)} if n < 4 else {}),
            },
        )
        for n in (1, 2, 4)
    ]
    against = {"load": INTERACTIONS, "store": INTERACTIONS, "fit ease": CUBE}
    seconds, memory = growth("All", sizes, against)
    slopes = {row["stage"]: row["exponent"] for row in seconds.rows}
    assert slopes == pytest.approx({"load": 1, "store": 2, "fit ease": 1})
    assert seconds.rows[2] == pytest.approx(
        {
            "stage": "fit ease",
            "over": CUBE,
            "1 M": 1,
            "2 M": 8,
            "4 M": "-",
            "exponent of wall clock": 1,
            "exponent": 1,
        }
    )
    assert [row["exponent"] for row in memory.rows] == pytest.approx([1, 0, 2])
    bar = steepest("time", seconds)
    assert (bar.what, bar.measured, bar.met) == (
        "exponent of time, the steepest: store",
        pytest.approx(2),
        False,
    )
    assert steepest("memory", memory).what.endswith("load")  # the item-item models stand apart


def test_the_best_of_runs_of_which_one_has_ease() -> None:
    first = Size({CUBE: 8}, {"load": Cost(2.0, 1.0, 5), "fit ease": Cost(9.0, 9.0, 9)})
    second = Size({CUBE: 8}, {"load": Cost(1.0, 2.0, 6)})
    costs = {"load": Cost(1.0, 1.0, 5), "fit ease": Cost(9.0, 9.0, 9)}
    assert scale.best([first, second]) == Size({CUBE: 8}, costs)


def test_every_stage_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # stages goes into the folder it is given
    shape = Shape(8_000, 100, 800)
    write(tmp_path / "ratings.csv", shape)
    found = scale.stages(tmp_path, shape, ease=True)
    assert list(found.costs) == list(STAGES)
    assert found.work[CUBE] == round(found.work[CUBE] ** (1 / 3)) ** 3
    monkeypatch.setattr(scale, "EASE_ITEMS", 10)
    assert "fit ease" not in scale.stages(tmp_path, shape, ease=True).costs


def test_a_size_has_processes_of_its_own() -> None:
    found = scale.size(Shape(8_000, 100, 800), rounds=1, ease=False)
    assert list(found.costs) == [stage for stage in STAGES if stage != "fit ease"]
    assert all(cost.seconds > 0 for cost in found.costs.values())
    assert found.costs["read"].memory > 0


def test_report(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[Shape] = []

    def linear(shape: Shape, rounds: int, ease: bool) -> Size:
        measured.append(shape)
        cost = Cost(shape.interactions / 1e6, shape.interactions / 1e6, shape.interactions)
        work = dict.fromkeys(STAGES.values(), shape.interactions)
        return Size(work, {stage: cost for stage in STAGES if ease or stage != "fit ease"})

    monkeypatch.setattr(scale, "size", linear)
    found = scale.report(*scale.shapes(4), rounds=2)
    assert len(measured) == len(set(measured)) == 5
    assert [len(table.rows) for table in found.tables] == [8, 8, 7, 7]
    assert [bar.measured for bar in found.bars] == pytest.approx([1] * 4, abs=1e-3)
    assert "cubic" in found.notes[0]
