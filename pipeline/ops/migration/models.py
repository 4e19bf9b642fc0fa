"""Logged models, copied with their files, and linked to the points of the runs' metrics."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from mlflow.entities import LoggedModel, LoggedModelStatus, Metric

from pipeline.ops.migration.artifacts import Files, list_files
from pipeline.ops.migration.transfer import (
    MIGRATED,
    MIGRATED_FROM,
    OUR_TAGS,
    UNFINISHED,
    Counts,
    Transfer,
    count_files,
    digest,
    to_carry,
)

Link = tuple[str, str, int, int]
"""A point of an original run: its run, key, milliseconds since 1970 and step."""

ENDS = (LoggedModelStatus.READY, LoggedModelStatus.FAILED)  # the others are not set but become


def copy_logged_models(
    transfer: Transfer, experiments: Mapping[str, str]
) -> tuple[list[LoggedModel], dict[str, list[Metric]]]:
    """Copy logged models, whose runs have copies already.

    Returns the originals and, by the id of an original run, points to be linked to copies.
    """
    originals = list(transfer.source.logged_models(list(experiments)))
    linked: dict[str, list[Metric]] = defaultdict(list)
    for original in originals:
        is_new = original.model_id not in transfer.copies
        if is_new:
            made = transfer.target.client.create_logged_model(
                experiments[original.experiment_id],
                name=original.name,
                source_run_id=transfer.copies.get(original.source_run_id or ""),
                tags={MIGRATED_FROM: original.model_id},
                params=dict(original.params or {}),
                model_type=original.model_type,
            )
            transfer.add(original.model_id, made.model_id)
        _copy(transfer, original, is_new=is_new)
        links, there = _links(transfer, original), _links_there(transfer, original)
        transfer.wanted["model metrics"] += len(links)
        transfer.before["model metrics"] += len(links.keys() & there)
        for link in links.keys() - there:
            linked[link[0]].append(links[link])
    return originals, linked


def count_links(transfer: Transfer, originals: Sequence[LoggedModel]) -> None:
    """Count the points that copies of models are linked to, now that runs have theirs."""
    for original in originals:
        links = _links(transfer, original).keys() & _links_there(transfer, original)
        transfer.now["model metrics"] += len(links)


def _copy(transfer: Transfer, original: LoggedModel, *, is_new: bool) -> None:
    what = f"Model {original.model_id} ({original.name})"
    listed = transfer.files(original.artifact_location, what)
    if listed == {} and original.status == LoggedModelStatus.READY:
        transfer.problems.append(f"{what}: there are no files at {original.artifact_location}")
    files = listed or {}
    copy, there = _read_copy(transfer, original)
    transfer.wanted += _shared(original, files, original, files)
    transfer.before += Counter() if is_new else _shared(original, files, copy, there)
    with transfer.trying(what):
        if _write(transfer, original, files, copy, there, whole=bool(listed)):
            copy, there = _read_copy(transfer, original)
    transfer.now += _shared(original, files, copy, there)


def _write(
    transfer: Transfer,
    original: LoggedModel,
    files: Files,
    copy: LoggedModel,
    there: Files,
    *,
    whole: bool,
) -> bool:
    """Whether anything was written; files come last, then that the model is ready."""
    client, known, mark = transfer.target.client, _digest(original, files), copy.tags.get(MIGRATED)
    paths = to_carry(files, there, mark, known)
    complete = _shared(original, files, copy, there) == _shared(original, files, original, files)
    if mark == known and complete:
        return False
    tags = transfer.tags(original.tags)
    if mark == known:
        tags = {key: text for key, text in tags.items() if key not in copy.tags}
    client.set_logged_model_tags(copy.model_id, {**tags, MIGRATED: UNFINISHED + known})
    params = {key: text for key, text in original.params.items() if key not in copy.params}
    if params:
        client.log_model_params(copy.model_id, params)
    transfer.carry(original.artifact_location, copy.artifact_location, paths)
    if original.status in ENDS and copy.status != original.status:
        client.finalize_logged_model(copy.model_id, LoggedModelStatus(original.status).value)
    if whole:
        client.set_logged_model_tags(copy.model_id, {MIGRATED: known})
    return True


def _read_copy(transfer: Transfer, original: LoggedModel) -> tuple[LoggedModel, Files]:
    copy = transfer.target.client.get_logged_model(transfer.copies[original.model_id])
    return copy, list_files(transfer.target.artifacts(copy.artifact_location))


def _digest(model: LoggedModel, files: Files) -> str:
    tags = {key: text for key, text in model.tags.items() if key not in OUR_TAGS}
    return digest([model.name, str(model.status), dict(model.params), tags, files])


def _shared(original: LoggedModel, files: Files, copy: LoggedModel, there: Files) -> Counts:
    return count_files(files, there) + Counter(
        {
            "logged models": int(original.status == copy.status),
            "params": len(original.params.keys() & copy.params.keys()),
            "tags": len((original.tags.keys() - OUR_TAGS) & copy.tags.keys()),
        }
    )


def _links(transfer: Transfer, original: LoggedModel) -> dict[Link, Metric]:
    """The points of copied runs that an original is linked to, as its copy is to be."""
    return {
        (str(each.run_id), each.key, each.timestamp, each.step): Metric(
            each.key, each.value, each.timestamp, each.step, transfer.copies[original.model_id],
            each.dataset_name, each.dataset_digest,
        )
        for each in original.metrics or []
        if each.run_id in transfer.copies
    }  # fmt: skip


def _links_there(transfer: Transfer, original: LoggedModel) -> set[Link]:
    """The points that its copy is linked to."""
    copy = transfer.target.client.get_logged_model(transfer.copies[original.model_id])
    return {
        (transfer.originals.get(str(each.run_id), ""), each.key, each.timestamp, each.step)
        for each in copy.metrics or []
    }
