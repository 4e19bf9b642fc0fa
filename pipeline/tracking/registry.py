"""Registered models: versions made from runs, the champion among them, and its challenger.

A version carries the tags that decide whether it may replace the champion: how good it is on
validation, and on what that was measured; then those of the comparison that was made; and what its
page shows without a look at the run: data, test metrics, and the way to the model card.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import mlflow
from mlflow.entities import LoggedModelStatus
from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException

from pipeline.compare.card import CARD
from pipeline.errors import UserError
from pipeline.evaluation.metrics import HEADLINE
from pipeline.evaluation.names import parse
from pipeline.outbox.delivery import shown_uri
from pipeline.tracking.links import TRAINING
from pipeline.tracking.models import NAME
from pipeline.tracking.runs import NOTE, Run
from pipeline.tracking.store import ask

CHAMPION, CHALLENGER = "champion", "challenger"
METRIC, FINGERPRINT, WINDOWS = "metric", "dataset_fingerprint", "windows"
LONGEST = 5000  # characters that PostgreSQL takes of a version's description
COMPARED_ON = "comparison_fingerprint"  # of the test on which a version met the champion
SHOWN_TAGS = ("model", "dataset", "split", "mask")  # of the run, that a version has, too
COMPARABLE = {FINGERPRINT: "data", WINDOWS: "windows", METRIC: "metric"}
"""Tags in which two versions must agree to be compared, and what they tell."""


@dataclass(frozen=True)
class Champion:
    """The version of a registered model that bears the alias ``champion``."""

    version: str
    run_id: str
    tags: dict[str, str]


@dataclass(frozen=True)
class Verdict:
    """Whether a challenger becomes the champion, and what that rests on."""

    wins: bool
    why: str
    """In a line."""
    tags: dict[str, str] = field(default_factory=dict)
    """The comparison, where there was one."""
    notes: str = ""
    """What its reader has to know."""


def registered_name(*parts: str) -> str:
    """A name that MLflow takes, in a URI too, made of several; what it does not take is a dash."""
    return re.sub(r"[^\w.]+", "-", "-".join(parts)).strip("-")


def measured(
    metric: str, value: float, fingerprint: str, windows: Sequence[float]
) -> dict[str, str]:
    """Tags for a version: its ``value`` of ``metric`` on validation, and on what it was measured.

    ``metric`` is named as the run's, as in val/ndcg_at_10; ``fingerprint`` is the dataset's,
    ``windows`` are the quantiles of its validation windows.
    """
    return {
        METRIC: metric,
        metric: str(value),
        FINGERPRINT: fingerprint,
        WINDOWS: ",".join(str(quantile) for quantile in windows),
    }


def beats(candidate: Mapping[str, str], champion: Champion | None) -> tuple[bool, str]:
    """Whether a version with the tags of ``measured`` may replace the champion, and why.

    It may where there is no champion, or where that one has a lower value of the same metric on
    the same data and windows.
    """
    if champion is None:
        return True, "there is no champion yet"
    holder = f"the champion, version {champion.version},"
    for tag, what in COMPARABLE.items():
        theirs = champion.tags.get(tag, "unknown")
        if theirs != candidate[tag]:
            return False, (
                f"{holder} was chosen on other {what} ({theirs}, here {candidate[tag]}): not "
                f"comparable; give another name"
            )
    metric = candidate[METRIC]
    if metric not in champion.tags:
        return False, f"{holder} has no tag {metric}: not comparable; give another name"
    ours, theirs_value = float(candidate[metric]), float(champion.tags[metric])
    why = f"{holder} has {theirs_value:.4f} on validation, this one {ours:.4f}"
    return ours > theirs_value, why


def register(run: Run, name: str, tags: Mapping[str, str]) -> str:
    """The version of registered model ``name`` that is made of the run's model, with ``tags``.

    A run that is registered under that name already keeps its version as it is.

    Raises:
        UserError: the run has no model, or MLflow takes no model of that name or with such tags.
    """
    with _explained(name):
        client = mlflow.MlflowClient()
        earlier = ask(client.search_model_versions, f"name = '{name}' and run_id = '{run.id}'")
        if earlier:
            return str(earlier[0].version)
        logged = ask(
            client.search_logged_models,
            [run.experiment_id],
            filter_string=f"source_run_id = '{run.id}' and name = '{NAME}'",
            order_by=[{"field_name": "creation_timestamp", "ascending": False}],
        )
        # A run that was killed and resumed may have others, and one that is not whole.
        ready = [model for model in logged if model.status == LoggedModelStatus.READY]
        if not ready:
            raise UserError(f"Run {run.id} has no model to register as {name}.")
        made = ask(mlflow.register_model, f"models:/{ready[0].model_id}", name, tags=dict(tags))
        return str(made.version)


def find_registered(client: mlflow.MlflowClient, name: str) -> RegisteredModel | None:
    """The registered model of that name, if there is one.

    Raises:
        MlflowException: the store says something else than that.
    """
    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def champion(name: str) -> Champion | None:
    """The champion of registered model ``name``; none where there is no such model, too.

    Raises:
        UserError: MLflow takes no such name.
    """
    with _explained(name):
        client = mlflow.MlflowClient()
        registered = ask(find_registered, client, name)
        version = registered.aliases.get(CHAMPION) if registered else None
        if version is None:
            return None
        found = ask(client.get_model_version, name, version)
        return Champion(str(found.version), str(found.run_id), dict(found.tags))


def compared_before(name: str, version: str, fingerprint: str) -> int:
    """How many other versions have met a champion on the test with this fingerprint."""
    with _explained(name):
        found = ask(mlflow.MlflowClient().search_model_versions, f"name = '{name}'")
        return sum(
            str(each.version) != version and each.tags.get(COMPARED_ON) == fingerprint
            for each in found
        )


def appoint(
    name: str,
    version: str,
    holder: Champion | None,
    *,
    wins: bool,
    tags: Mapping[str, str],
    description: str,
) -> None:
    """Make a version the champion or the challenger, with the tags and description that say why.

    The reasons are there before the alias is. A new champion is no challenger any more; the one
    that it replaces, ``holder``, has a tag that says by whom.

    Raises:
        UserError: there is no such version, or MLflow takes no such tags.
    """
    with _explained(name):
        client = mlflow.MlflowClient()
        replaced = holder if wins and holder is not None and holder.version != version else None
        all_tags = {**tags, **({"beat_version": replaced.version} if replaced else {})}
        for key, value in all_tags.items():
            ask(client.set_model_version_tag, name, version, key, value)
        ask(client.update_model_version, name, version, description[:LONGEST])
        ask(client.set_registered_model_alias, name, CHAMPION if wins else CHALLENGER, version)
        if replaced:
            ask(client.set_model_version_tag, name, replaced.version, "beaten_by_version", version)
        if wins and _holds(client, name, CHALLENGER, version):
            ask(client.delete_registered_model_alias, name, CHALLENGER)


def promote(
    run: Run, name: str, tags: Mapping[str, str], judge: Callable[[Champion | None, str], Verdict]
) -> str:
    """Register a run's model, and keep with the version whether it becomes the champion, and why.

    ``judge`` is given the champion, if there is one, and the number of the new version.

    Returns:
        The verdict, in a line.

    Raises:
        UserError: the run has no model, or MLflow takes no model of that name or with such tags.
    """
    version = register(run, name, tags)
    holder = champion(name)
    if holder is not None and holder.version == version:
        return f"Version {version} of `{name}` is the champion, as before."
    verdict = judge(holder, version)
    now = "is the champion" if verdict.wins else "is the challenger"
    text = f"Version {version} of `{name}` {now}: {verdict.why}"
    own = run.tags
    page = f"#/experiments/{run.experiment_id}/runs/{run.id}/artifacts/{CARD}?{TRAINING}"
    about = [
        f"**{text}.**",
        *([verdict.notes] if verdict.notes else []),
        f"Model card: artifact `{CARD}` of run `{run.id}` ([open it]({page})).",
        *([own[NOTE]] if NOTE in own else []),  # its metrics, as a table
    ]
    shown = {name: own[name] for name in SHOWN_TAGS if name in own} | _test(run.metrics)
    shown |= {**verdict.tags, "verdict": verdict.why}
    appoint(name, version, holder, wins=verdict.wins, tags=shown, description="\n\n".join(about))
    return text


def _test(metrics: Mapping[str, float]) -> dict[str, str]:
    """The test metrics by which models are known, as tags."""
    found = {key: parse(key.removeprefix("test/")) for key in metrics if key.startswith("test/")}
    return {
        key: f"{metrics[key]:.6f}"
        for key, each in found.items()
        if each and each[0].name in HEADLINE
    }


def _holds(client: mlflow.MlflowClient, name: str, alias: str, version: str) -> bool:
    aliases = ask(client.get_registered_model, name).aliases
    return str(aliases.get(alias)) == version


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Make MLflow's refusals errors for people."""
    try:
        yield
    except MlflowException as error:
        raise UserError(f"Registered model {name}: {shown_uri()} says: {error}") from None
