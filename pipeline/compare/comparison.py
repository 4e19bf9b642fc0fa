"""The comparison itself: who is ranked, tested against whom, and who stands apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from pipeline.compare.contenders import (
    Contender,
    Protocol,
    contenders,
    distinguished,
    name_of,
    per_user,
)
from pipeline.compare.evaluated import EvaluatedRun
from pipeline.compare.evidence import gather
from pipeline.compare.looks import count_looks, left_out
from pipeline.compare.paired_tests import SEED, PairedTests, paired_tests
from pipeline.compare.result import OF_PAIR, OF_ROW, Cell, Comparison, Standing
from pipeline.compare.statements import alike, median_smallest, say, too_small, unlike
from pipeline.errors import UserError
from pipeline.evaluation.metrics import BY_NAME, bounds
from pipeline.evaluation.names import parse_accuracy
from pipeline.evaluation.warnings import WARNING_NOTE


def compare_runs(runs: Sequence[EvaluatedRun], metric: str, baseline: str | None) -> Comparison:
    """Compare ``runs`` (latest first) on ``metric``, as in ndcg_at_10.

    The largest set of experiments on one protocol is ranked, or the one of ``baseline``, which is
    a run's id or an experiment; without it, the best is the baseline.

    Raises:
        UserError: the metric is none of accuracy or no run has it, no run has per-user values, or
            there is no such baseline, or several.
    """
    of, k = parse_accuracy(metric)
    name = of.name
    evidence = gather([run for run in runs if not run.from_ledger])
    edited = {run_id: each.findings for run_id, each in evidence.items() if each.findings}
    found = contenders([run for run in runs if run.id not in edited], k)
    refused = _refused(contenders([run for run in runs if run.id in edited], k), edited)
    if refused and all(each.runs[0].from_ledger for each in found):
        raise UserError(
            "No run can be compared, for what they hold does not fit together: "
            + " ".join(f"{row.name}: {'; '.join(row.sentences)}." for row in refused)
        )
    group, tested, values = per_user(_group(found, metric, k, baseline), evidence)
    if name not in tested:
        raise UserError(f"Not every run has {metric} per user: evaluate them again.")
    whole = np.flatnonzero((~np.isnan(values)).all(axis=1).any(axis=0))
    tested, values = [tested[i] for i in whole], values[:, :, whole]
    order = np.argsort(-values[:, :, tested.index(name)].mean(axis=0), kind="stable")
    group, values = [group[i] for i in order], values[:, order]
    tests = paired_tests(
        values, np.random.default_rng(SEED), bounds=bounds(BY_NAME[each] for each in tested)
    )
    place = 0 if baseline is None else _place(group, baseline)
    rows = [
        _row(each, _cells(each, i, place, tested, tests), say(group, i, name, tested, tests))
        for i, each in enumerate(group)
    ]
    protocol = group[0].protocol
    ledger, apart = _unranked(found, protocol)
    of_metric = values[:, :, tested.index(name)]
    of_metric = of_metric[~np.isnan(of_metric).any(axis=1)]
    smallest = median_smallest(of_metric)
    names = [each.name for each in group]
    return Comparison(
        name,
        protocol,
        rows,
        place,
        tested,
        values,
        tests,
        ledger,
        apart,
        refused,
        smallest,
        [
            *too_small(of_metric, smallest, protocol.split),
            *alike(names, place, name, tested, tests),
        ],
        unlike(names, place, name, tested, tests),
    )


def with_looks(
    comparison: Comparison, runs: Sequence[EvaluatedRun], evaluated: Sequence[EvaluatedRun]
) -> Comparison:
    """The same, with what was left out of it.

    ``runs`` are those that were to be compared, ``evaluated`` all on the same dataset.
    """
    by_id = {run.id: run for run in runs}
    metric = f"{comparison.metric}_at_{comparison.protocol.k}"
    rows, looks = [], {}
    for row in comparison.rows:
        compared = [by_id[run_id] for run_id in row.run_ids]
        picked = left_out(compared, evaluated, metric)
        rows.append(replace(row, sentences=[*row.sentences, *([picked] if picked else [])]))
        experiment = name_of(compared[0])
        looks[experiment] = count_looks(experiment, evaluated)
    return replace(comparison, rows=rows, looks=looks)


def _group(
    found: Sequence[Contender], metric: str, k: int, baseline: str | None
) -> list[Contender]:
    """Those that are ranked."""
    groups: dict[Protocol, list[Contender]] = defaultdict(list)
    for each in found:
        if not each.runs[0].from_ledger and each.protocol.k == k:
            groups[each.protocol].append(each)
    if not groups:
        known = sorted({each.protocol.k for each in found if not each.runs[0].from_ledger})
        raise UserError(
            f"No evaluated run of train has {metric}"
            + (f"; they are evaluated at k = {', '.join(map(str, known))}." if known else ".")
        )
    named = [distinguished(group) for group in groups.values()]
    chosen = [group for group in named if baseline is None or _matching(group, baseline)]
    if not chosen:
        names = sorted({each.experiment for group in named for each in group})
        raise UserError(
            f"baseline={baseline}: no compared run has this id and none is of such an experiment; "
            f"these are: {', '.join(names)}."
        )
    return max(chosen, key=len)


def _matching(group: Sequence[Contender], baseline: str) -> list[int]:
    return [
        i
        for i, each in enumerate(group)
        if baseline in each.run_ids or baseline in (each.experiment, each.name)
    ]


def _place(group: Sequence[Contender], baseline: str) -> int:
    places = _matching(group, baseline)
    if len(places) != 1:
        candidates = ", ".join(f"{group[i].name} (run {group[i].run_ids[0]})" for i in places)
        raise UserError(
            f"baseline={baseline}: expected one experiment with per-user values, there "
            f"{'are ' + candidates if candidates else 'is none'}. Give the id of a run."
        )
    return places[0]


def _row(each: Contender, cells: dict[str, Cell], sentences: list[str]) -> Standing:
    return Standing(each.name, each.model, each.run_ids, each.protocol.k, cells, sentences)


def _cells(
    each: Contender,
    row: int = 0,
    baseline: int = 0,
    tested: Sequence[str] = (),
    tests: PairedTests | None = None,
) -> dict[str, Cell]:
    cells = {}
    for name, seeds in each.metrics.items():
        spread = float(np.std(seeds, ddof=1)) if len(seeds) > 1 else None
        values = {"mean": float(np.mean(seeds))}
        if tests is not None and name in tested:
            metric = tested.index(name)
            found = {of: float(getattr(tests, of)[row, metric]) for of in OF_ROW}
            if row != baseline:
                found |= {of: float(getattr(tests, of)[row, baseline, metric]) for of in OF_PAIR}
            values = {of: x for of, x in found.items() if np.isfinite(x)}  # one user: no interval
        cells[name] = Cell(seed_std=spread, **values)
    return cells


def _unranked(
    found: Sequence[Contender], protocol: Protocol
) -> tuple[list[Standing], dict[str, list[Standing]]]:
    """Rows of the ledger on the same data, and all others by what makes them incomparable."""
    ledger: list[Standing] = []
    apart: dict[str, list[Contender]] = defaultdict(list)
    for each in found:
        if each.runs[0].from_ledger and _may_stand_beside(each.protocol, protocol):
            ledger.append(_row(each, _cells(each), _say_of_ledger(each, protocol)))
        elif each.protocol != protocol:
            why = each.protocol.unlike(protocol)
            apart[f"{why}, from the ledger" if each.runs[0].from_ledger else why].append(each)
    ledger.sort(key=lambda row: row.name)
    return ledger, {
        why: [_row(each, _cells(each), []) for each in sorted(distinguished(group), key=_by_name)]
        for why, group in sorted(apart.items())
    }


def _refused(found: Sequence[Contender], edited: Mapping[str, list[str]]) -> list[Standing]:
    """A row per run that was edited."""
    alone = [replace(each, runs=(run,)) for each in found for run in each.runs]
    return [
        _row(
            each,
            _cells(each),
            [f"run {each.runs[0].id} does not fit together", *edited[each.runs[0].id]],
        )
        for each in sorted(alone, key=_by_name)
    ]


def _may_stand_beside(imported: Protocol, ranked: Protocol) -> bool:
    """Whether a row of the ledger, which knows little of its data, may be of the same."""
    return imported.k == ranked.k and imported.dataset in ("", "unknown", ranked.dataset)


def _say_of_ledger(each: Contender, ranked: Protocol) -> list[str]:
    tags = each.runs[0].tags
    said = [] if each.protocol.mask == ranked.mask else [each.protocol.words["mask"]]
    if tags.get("audit") == "impossible":
        said.append(f"cannot be true: {tags.get(WARNING_NOTE, 'see its run')}")
    return said


def _by_name(each: Contender) -> str:
    return each.name
