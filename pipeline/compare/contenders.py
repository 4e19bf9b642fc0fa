"""Who is compared with whom: runs of one experiment together, like with like, the rest apart."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipeline.compare.evaluated import EvaluatedRun
from pipeline.compare.evidence import PER_USER, Evidence
from pipeline.errors import UserError
from pipeline.evaluation.metrics import METRICS
from pipeline.evaluation.names import at, parse
from pipeline.evaluation.sample import SAMPLE

NOT_SETTINGS = {  # params that runs of one experiment may vary, or that the protocol tells
    "seed", "config", "name", "metrics", "dataset", "protocol", "repeats", "split_seed",
    "device", "embeddings", "eval_users",
}  # fmt: skip
MASKS = {"seen": "seen items masked", "none": "seen items not masked"}
KNOWS_FUTURE = ("random-", "leave-one-out-")  # splits that do not heed time begin so
FUTURE = "which knows the future"
SHOWN_SETTINGS = 3  # in the name of an experiment that ran with several

log = logging.getLogger("pipeline")


@dataclass(frozen=True)
class Protocol:
    """What has to be the same before numbers can be ranked."""

    dataset: str
    fingerprint: str
    split: str
    mask: str
    k: int
    sample: str = ""
    """As "1,000 of 24,858 users"; empty where all test users are ranked for."""

    @classmethod
    def of(cls, run: EvaluatedRun, k: int) -> Protocol:
        """That of a run; a run that is not evaluated at ``k`` has another k."""
        tags, ks = run.tags, _ks(run)
        return cls(
            tags.get("dataset", ""),
            tags.get("dataset_fingerprint", ""),
            tags.get("split", ""),
            tags.get("mask", "seen"),
            k if k in ks else ks[0],
            tags.get(SAMPLE, ""),
        )

    @property
    def knows_future(self) -> bool:
        """Whether models may have learned from what happened after what they are tested on."""
        return self.split.startswith(KNOWS_FUTURE)

    @property
    def words(self) -> dict[str, str]:
        """Each part as it is printed."""
        return {
            "dataset": f"dataset {self.dataset or 'unknown'}",
            "fingerprint": f"fingerprint {self.fingerprint or 'unknown'}",
            "split": f"split {self.split or 'unknown'}{', ' + FUTURE if self.knows_future else ''}",
            "mask": MASKS.get(self.mask, f"mask rule {self.mask}"),
            "k": f"k = {self.k}",
            "sample": f"a sample of {self.sample}" if self.sample else "all test users",
        }

    def unlike(self, other: Protocol) -> str:
        """In what this is not ``other``, in words."""
        return ", ".join(
            word for name, word in self.words.items() if getattr(self, name) != getattr(other, name)
        )


@dataclass(frozen=True)
class Contender:
    """One experiment: its runs, one per seed, alike in everything else."""

    experiment: str
    name: str
    """As it is shown: the experiment, with the settings that tell it from another of its name."""
    model: str
    protocol: Protocol
    runs: tuple[EvaluatedRun, ...]

    @property
    def run_ids(self) -> list[str]:
        """Of its runs."""
        return [run.id for run in self.runs]

    @property
    def metrics(self) -> dict[str, list[float]]:
        """Test metrics at the protocol's k, by name without k: a value per run."""
        keys = {each.name: f"test/{at(each, self.protocol.k)}" for each in METRICS}
        return {
            name: [run.metrics[key] for run in self.runs]
            for name, key in keys.items()
            if all(key in run.metrics for run in self.runs)
        }


def contenders(runs: Sequence[EvaluatedRun], k: int) -> list[Contender]:
    """Runs, latest first, by protocol, experiment and settings; of each seed the latest run.

    Imported runs stand each for itself.
    """
    grouped: dict[object, dict[object, EvaluatedRun]] = defaultdict(dict)
    for run in runs:
        who = run.id if run.from_ledger else (name_of(run), settings_of(run.params))
        grouped[Protocol.of(run, k), who].setdefault(run.params.get("seed"), run)
    superseded = len(runs) - sum(map(len, grouped.values()))
    if superseded:
        log.info("%d runs left out: a later one has the same settings and seed.", superseded)
    found = []
    for by_seed in grouped.values():
        first = next(iter(by_seed.values()))
        name, model = name_of(first), first.tags.get("model", "")
        found.append(Contender(name, name, model, Protocol.of(first, k), tuple(by_seed.values())))
    return found


def distinguished(group: Sequence[Contender]) -> list[Contender]:
    """The same with the settings in the name, where one experiment is there with several."""
    by_name: dict[str, list[dict[str, str]]] = defaultdict(list)
    for each in group:
        by_name[each.experiment].append(dict(settings_of(each.runs[0].params)))
    named = []
    for each in group:
        own = dict(settings_of(each.runs[0].params))
        others = by_name[each.experiment]
        unlike = [key for key in own if any(other.get(key) != own[key] for other in others)]
        settings = ", ".join(f"{key}={own[key]}" for key in unlike[:SHOWN_SETTINGS])
        named.append(f"{each.experiment} {settings}".strip())
    return [
        replace(each, name=name if named.count(name) == 1 else f"{name} [{each.runs[0].id[:6]}]")
        for each, name in zip(group, named, strict=True)
    ]


def per_user(
    group: Sequence[Contender], evidence: Mapping[str, Evidence]
) -> tuple[list[Contender], list[str], npt.NDArray[np.float64]]:
    """Per-user values, means over seeds, of contenders on one protocol.

    Returns:
        The contenders of whose runs there is ``evidence``, the metrics (without k) that all of
        them have, and float64[users, contenders, metrics].

    Raises:
        UserError: there is none, or runs were evaluated on different users.
    """
    runs = [run for each in group for run in each.runs]
    found = {run.id: evidence[run.id].per_user for run in runs if run.id in evidence}
    if not found:
        raise UserError(f"No run has per-user values ({PER_USER}): evaluate them again.")
    k = group[0].protocol.k
    columns = {
        each.name: at(each, k)
        for each in METRICS
        if all(at(each, k) in table for table in found.values())
    }
    first_id, first = next(iter(found.items()))
    for run_id, table in found.items():
        if not table.index.equals(first.index):
            raise UserError(
                f"Runs {first_id} and {run_id} have per-user values of different users, on data "
                f"with the same fingerprint: evaluate them again, with --reuse false."
            )
    readable, values = [], []
    for each in group:
        kept = tuple(run for run in each.runs if run.id in found)
        if kept:
            readable.append(replace(each, runs=kept))
            seeds = [found[run.id][list(columns.values())].to_numpy(np.float64) for run in kept]
            values.append(np.mean(seeds, axis=0))
    return readable, list(columns), np.stack(values, axis=1)


def name_of(run: EvaluatedRun) -> str:
    """The experiment; a row of the ledger keeps its own name."""
    return run.name if run.from_ledger else run.tags.get("experiment", run.name)


def _ks(run: EvaluatedRun) -> list[int]:
    """The list lengths at which a run is evaluated."""
    found = (parse(key.removeprefix("test/")) for key in run.metrics if key.startswith("test/"))
    return sorted({each[1] for each in found if each}) or [0]


def settings_of(params: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Params that make an experiment another one, each in one spelling (1e-4 is 0.0001)."""
    return tuple((key, _plain(params[key])) for key in sorted(params) if key not in NOT_SETTINGS)


def _plain(value: str) -> str:
    try:
        return f"{float(value):.12g}"
    except ValueError:
        # Runs of before spell lists as Python does, and an empty one with its brackets alone.
        return re.sub(r"[\[\]()\s]", "", value).lower() or "none"
