from __future__ import annotations

import numpy as np

from benchmarks import estimates
from benchmarks.estimates import GIB, LARGEST, STAGES, report, shape
from benchmarks.generated import ML_25M


def test_estimates_begin_where_measurements_end() -> None:
    size = shape(ML_25M.interactions)
    assert (round(size.users), round(size.items)) == (ML_25M.users, ML_25M.items)
    prepared = STAGES["prepare"](shape(LARGEST))
    assert (prepared.seconds, prepared.memory) == (15.6, 2.73 * GIB)
    four = STAGES["prepare"](shape(4 * LARGEST))
    np.testing.assert_allclose(four.seconds, 15.6 * 4**1.09)
    np.testing.assert_allclose(four.memory, 4 * 2.73 * GIB)


def test_a_full_ranking_is_quadratic_and_an_index_is_not() -> None:
    exact, index = (STAGES[f"recommend to all, {how}"] for how in ("exact", "index"))
    np.testing.assert_allclose(exact(shape(1e9)).seconds / exact(shape(1e8)).seconds, 100)
    assert 10 < index(shape(1e9)).seconds / index(shape(1e8)).seconds < 15


def test_what_is_refused_is_said_in_every_table() -> None:
    time, memory, money = report(cpu_hour=0.04, gib_hour=0.005).tables
    for table in (time, money):
        cells = {row["stage"]: row for row in table.rows}
        assert cells["train ease"]["1,000 M"] == cells["train slim"]["1,000 M"] == "refused"
        assert cells["train ncf"]["10,000 M"] != "refused"  # goes on after a kill
    assert {row["stage"] for row in time.rows} < {row["stage"] for row in memory.rows}


def test_times_are_spelled_in_units_of_people() -> None:
    assert [estimates.spelled(s) for s in (0.5, 90, 7200, 2 * 86400)] == [
        "0.5 s", "1.5 min", "2 h", "2 d",
    ]  # fmt: skip
