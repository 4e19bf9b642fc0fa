"""The model card: what a model is, what it was measured on, how good it is there, and its limits.

Markdown, an artifact of the run of every evaluated model: whoever finds the model registered,
compared or copied to another server later finds the card with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from pipeline.compare.looks import Looks
from pipeline.compare.paired_tests import SEED, PairedTests, paired_tests
from pipeline.config import Experiment
from pipeline.data.dataset import AS_GIVEN, Dataset
from pipeline.data.split_settings import COLD, LOW_ACTIVITY
from pipeline.evaluation.evaluate import Ranked
from pipeline.evaluation.metrics import BY_NAME, METRICS, Metric, bounds
from pipeline.evaluation.names import at
from pipeline.evaluation.significance import ALPHA, p_words
from pipeline.evaluation.warnings import WARNING_NOTE, recommends_popularity
from pipeline.models import family

CARD = "model_card.md"
HELD_OUT = {
    "time": "One moment for all users, the {:g} quantile of the timestamps, ends the training.",
    "random": "Of each user a share of {:g} trains, drawn; the rest is held out.",
    "leave_one_out": "Of each user the latest interaction is held out.",
}
OF_SAMPLE = (
    "The users are a sample of {}: coverage, and what else belongs to all lists together, is that "
    "of the sample's lists, not of everybody's."
)
SEGMENTS = {LOW_ACTIVITY: "low activity", COLD: "cold"}


def model_card(
    run_id: str,
    tags: Mapping[str, str],
    logged: Mapping[str, float],
    experiment: Experiment,
    dataset: Dataset,
    warm: Ranked,
    popular: Ranked,
    metrics: Mapping[str, float],
    groups: pd.DataFrame,
    looks: Looks,
) -> str:
    """The card of the model that a run has trained.

    Args:
        run_id: of that run.
        tags: of that run.
        logged: its metrics so far, those of validation among them.
        experiment: what the model was asked to be.
        dataset: what it was trained and evaluated on.
        warm: its lists for the warm users.
        popular: the lists of the most popular unseen items for the same users.
        metrics: the run's test metrics of all segments, by name as logged.
        groups: as from ``breakdown``.
        looks: of the experiment at this test, with this one.
    """
    k = experiment.k[0]
    per_user = warm.evaluation.per_user
    shown = [each for each in METRICS if each.per_user and at(each, k) in per_user]
    names = [at(metric, k) for metric in shown]
    values = np.stack([each.evaluation.per_user[names].to_numpy() for each in (warm, popular)], 1)
    tests = paired_tests(values, np.random.default_rng(SEED), bounds=bounds(shown))
    warning = [f"**Warning:** {tags[WARNING_NOTE]}", ""] if WARNING_NOTE in tags else []
    return "\n".join(
        [
            f"# {experiment.name}, a recommender of family `{experiment.model}`",
            "",
            *warning,
            _data(dataset),
            _protocol(dataset, experiment, warm),
            _metrics(k, metrics, tests, shown, warm),
            _popularity(tags, logged, experiment, tests, shown),
            _segments(dataset, metrics, groups, len(warm.users), k),
            _training(run_id, tags, logged, experiment),
            _limits(dataset, experiment, looks),
            _use(run_id),
        ]
    )


def _data(dataset: Dataset) -> str:
    facts = dataset.statistics
    dates = [str(facts[name])[:10] for name in ("train_from", "train_until", "later_until")]
    return _section(
        "Data",
        f"{dataset.name}, fingerprint `{dataset.fingerprint}`: "
        f"{facts['train_interactions']:,} training interactions of {dataset.n_users:,} users with "
        f"{dataset.n_items:,} items, from {dates[0]} to {dates[1]}; what is held out lasts "
        f"until {dates[2]}.",
    )


def _protocol(dataset: Dataset, experiment: Experiment, warm: Ranked) -> str:
    split = dataset.split
    how = (
        "The split was given with the data." if dataset.protocol == AS_GIVEN
        else f"{HELD_OUT[split.protocol].format(split.test_cut)} Who has {split.least_training} "
        f"training and {split.least_held_out} held-out interactions is warm."
    )  # fmt: skip
    how = " ".join([how, *dataset.notes.values()])
    windows = ", ".join(f"{quantile:g}" for quantile in experiment.windows)
    validated = (
        f"Validation was inside the training part, in windows at the quantiles {windows}."
        if windows and split.protocol == "time"
        else f"Validation was inside the training part, in {len(experiment.windows)} draws of it."
        if windows
        else "The run was not validated."
    )
    users = f"{len(warm.users):,} warm users"
    if warm.sample is not None:
        users = f"a sample of {warm.sample} who are warm"
    masked = "are not" if experiment.mask == "seen" else "may be"
    return _section(
        "Protocol",
        f"Split `{dataset.protocol}`. {how} The whole catalogue is ranked for each of {users}; "
        f"items that a user has in training {masked} recommended again. A hit is an item "
        f"that is held out of the user's, whatever the rating. {validated}",
    )


def _metrics(
    k: int,
    metrics: Mapping[str, float],
    tests: PairedTests,
    shown: Sequence[Metric],
    warm: Ranked,
) -> str:
    rows = [
        (
            at(metric, k),
            tests.mean[0, i],
            f"{tests.low[0, i]:.4f} to {tests.high[0, i]:.4f}",
            metric.meaning,
        )
        for i, metric in enumerate(shown)
    ]
    rows += [
        (at(metric, k), metrics[f"test/{at(metric, k)}"], "", metric.meaning)
        for metric in METRICS
        if not metric.per_user and f"test/{at(metric, k)}" in metrics
    ]
    return _section(
        "Metrics",
        *_table(
            ("test, warm users", "mean", "95 % interval", "meaning"),
            ((name, f"{mean:.4f}", interval, meaning) for name, mean, interval, meaning in rows),
        ),
        "",
        "Intervals are studentised, over users; what belongs to all lists together has none. "
        "The chance in training is not in them: only more seeds show it.",
        *([] if warm.sample is None else [OF_SAMPLE.format(warm.sample)]),
    )


def _popularity(
    tags: Mapping[str, str],
    logged: Mapping[str, float],
    experiment: Experiment,
    tests: PairedTests,
    shown: Sequence[Metric],
) -> str:
    title = "Compared with popularity"
    if not family(experiment.model).personal:
        return _section(title, "This model is not personal: it is what others are compared with.")
    ndcg, shared = (shown.index(BY_NAME[name]) for name in ("ndcg", "popularity_overlap"))
    k = experiment.k[0]
    overlap = tests.mean[0, shared]
    low, high = tests.difference_low[0, 1, ndcg], tests.difference_high[0, 1, ndcg]
    sentence = (
        f"{overlap:.0%} of a list are the user's most popular unseen items. Those alone have "
        f"{at(shown[ndcg], k)} {tests.mean[1, ndcg]:.4f}: this model has "
        f"{tests.difference[0, 1, ndcg]:+.4f} ({low:+.4f} to {high:+.4f}, "
        f"{p_words(float(tests.p_permutation[0, 1, ndcg]))})."
    )
    if recommends_popularity(tags, logged, float(overlap)):
        sentence += " **It has collapsed to the popularity list.**"
    if tests.difference[0, 1, ndcg] < 0 and tests.p_permutation[0, 1, ndcg] < ALPHA:
        sentence += " **It is worse than the popularity list.**"
    return _section(title, sentence)


def _segments(
    dataset: Dataset, metrics: Mapping[str, float], groups: pd.DataFrame, warm: int, k: int
) -> str:
    ndcg, hit_rate = f"ndcg_at_{k}", f"hit_rate_at_{k}"
    rows = [("warm", f"{warm:,}", metrics[f"test/{ndcg}"], f"{metrics[f'test/{hit_rate}']:.4f}")]
    for segment, name in SEGMENTS.items():
        if f"test/{segment}/{ndcg}" in metrics:
            users = len(dataset.segments[segment].users)
            values = [metrics[f"test/{segment}/{metric}"] for metric in (ndcg, hit_rate)]
            rows.append((name, f"{users:,}", values[0], f"{values[1]:.4f}"))
    for group in groups.itertuples():
        rows.append((f"{group.by}: {group.group}", f"{group.users:,}", float(str(group.ndcg)), ""))
    return _section(
        "Users and items",
        *_table(
            ("group", "users", ndcg, hit_rate),
            ((name, users, f"{value:.4f}", rate) for name, users, value, rate in rows),
        ),
        "",
        "Quarters are of the warm users by activity. For a third of the items, only its items "
        "count as hits; the head are the few most popular ones.",
    )


def _training(
    run_id: str, tags: Mapping[str, str], logged: Mapping[str, float], experiment: Experiment
) -> str:
    validation = {
        name: value for name, value in logged.items()
        if name in ("val/epochs", f"val/{experiment.selection_metric}")
    }  # fmt: skip
    found = "".join(f", {name} {value:.4g}" for name, value in sorted(validation.items()))
    params = {**experiment.params.model_dump(mode="json"), "seed": experiment.seed}
    dirty = {"true": ", with changes that are not committed", "false": ""}
    return _section(
        "Training",
        f"Run `{run_id}` on {tags.get('device', 'an unknown device')}, code at commit "
        f"`{tags.get('git_commit', 'unknown')}`"
        f"{dirty.get(tags.get('git_dirty', ''), ', perhaps changed')}{found}. "
        f"Settings: {', '.join(f'`{name}={value}`' for name, value in params.items())}.",
    )


def _limits(dataset: Dataset, experiment: Experiment, looks: Looks) -> str:
    left_out = int((dataset.later["item"] < 0).sum())
    return _section(
        "Limits",
        "- The test is what people happened to rate next. What a service did not show them could "
        "not be rated, so a good recommendation may count as none, and popular items gain.",
        f"- Warm users are the active ones who came back: {len(dataset.test_users):,}, beside "
        f"{dataset.n_users:,} who trained. The means say little of others.",
        "- Who did not train gets what is popular, and so are the figures of cold users. Lists "
        "made of items that somebody says to like are not measured here.",
        f"- Items first seen after the cut cannot be recommended: {left_out:,} later interactions "
        f"are with such items.",
        "- Lists are as old as the last training interaction. Whoever looks at the test to choose "
        f"among models makes its figures flatter: of `{experiment.name}`, {looks} so far, with "
        "this one.",
    )


def _use(run_id: str) -> str:
    uri = f"runs:/{run_id}/model"
    return _section(
        "Use",
        "```python",
        "import mlflow, pandas as pd",
        "",
        f'model = mlflow.pyfunc.load_model("{uri}")',
        'model.predict(pd.DataFrame({"user": [42]}), params={"k": 10})',
        "```",
        "",
        "```",
        f"mlflow models serve -m {uri} --env-manager local --port 5001",
        f"python -m pipeline recommend --run_id {run_id} --output lists.parquet",
        "```",
    )


def _section(title: str, *lines: str) -> str:
    return "\n".join([f"## {title}", "", *lines, ""])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]
