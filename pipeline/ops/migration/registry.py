"""Registered models, copied with their versions and aliases.

Versions are created in their order, which keeps their numbers where the name is new and none was
deleted. A name that the target has gets further versions. An alias that the target gives to a
version of its own stays there: who is champion among a team's models is not for a copy to say.
"""

from __future__ import annotations

import logging

from mlflow.entities.model_registry import ModelVersion, RegisteredModel

from pipeline.ops.migration.transfer import ID, MIGRATED_FROM, Transfer
from pipeline.tracking.registry import find_registered

log = logging.getLogger("pipeline")


def copy_registered_models(transfer: Transfer) -> None:
    """Copy those of the source; runs and logged models have copies already."""
    for model in transfer.source.registered_models():
        transfer.wanted["registered models"] += 1
        with transfer.trying(f"Registered model {model.name}"):
            _copy(transfer, model)


def _copy(transfer: Transfer, model: RegisteredModel) -> None:
    client, name, tags = transfer.target.client, model.name, transfer.tags(model.tags)
    versions = transfer.source.versions(name)
    aliases = {alias: str(number) for alias, number in model.aliases.items()}
    transfer.wanted["tags"] += len(tags) + sum(len(transfer.tags(v.tags)) for v in versions)
    transfer.wanted["versions"] += len(versions)
    transfer.wanted["aliases"] += len(aliases)
    there = find_registered(client, name)
    if there is None:
        there = client.create_registered_model(name, tags, model.description)
    else:
        transfer.before["registered models"] += 1
        transfer.before["tags"] += len(tags.keys() & there.tags.keys())
        transfer.before["aliases"] += len(aliases.keys() & there.aliases.keys())
        for key in tags.keys() - there.tags.keys():
            client.set_registered_model_tag(name, key, tags[key])
    transfer.now["registered models"] += 1
    transfer.now["tags"] += len(tags)
    copies = {copy.tags.get(MIGRATED_FROM): copy for copy in transfer.target.versions(name)}
    numbers, new = {}, set()
    for version in versions:
        copy = copies.get(_key(version))
        if copy is None:
            with transfer.trying(f"Version {version.version} of {name}"):
                copy = _create(transfer, version)
                new.add(str(copy.version))
        else:
            _complete(transfer, version, copy)
        if copy is not None:
            numbers[str(version.version)] = str(copy.version)
            transfer.now["versions"] += 1
            transfer.now["tags"] += len(transfer.tags(version.tags))
    for alias, number in aliases.items():
        holder = there.aliases.get(alias)
        if number in numbers:
            _point(transfer, name, alias, numbers[number], holder, set(numbers.values()), new)
            transfer.now["aliases"] += 1


def _point(
    transfer: Transfer,
    name: str,
    alias: str,
    wanted: str,
    holder: str | None,
    copies: set[str],
    new: set[str],
) -> None:
    """Let an alias point to a copy, where the target has it nowhere, or at an older copy."""
    if holder is None or (str(holder) in copies and wanted in new):
        transfer.target.client.set_registered_model_alias(name, alias, wanted)
    elif str(holder) != wanted:
        log.warning("%s@%s stays version %s, not the copied %s.", name, alias, holder, wanted)


def _create(transfer: Transfer, version: ModelVersion) -> ModelVersion:
    source, model_id = _source(transfer, str(version.source))
    made = transfer.target.client.create_model_version(
        version.name,
        source,
        transfer.copies.get(version.run_id or ""),
        {**transfer.tags(version.tags), MIGRATED_FROM: _key(version)},
        description=version.description,
        model_id=model_id,
    )
    if int(made.version) != int(version.version):
        log.info("%s: version %s is version %s there", made.name, version.version, made.version)
    return made


def _complete(transfer: Transfer, version: ModelVersion, copy: ModelVersion) -> None:
    """Set the tags that a version got since it was copied."""
    tags = transfer.tags(version.tags)
    transfer.before["versions"] += 1
    transfer.before["tags"] += len(tags.keys() & copy.tags.keys())
    for key in tags.keys() - copy.tags.keys():
        transfer.target.client.set_model_version_tag(copy.name, copy.version, key, tags[key])


def _source(transfer: Transfer, source: str) -> tuple[str, str | None]:
    """Where the target has the files of a version, and the id of its logged model.

    A source that is a path at the source becomes a URI, which leaves the place to the target.
    """
    for found in ID.finditer(source):
        copy, below = transfer.copies.get(found[0]), source[found.end() :]
        if copy is not None and copy.startswith("m-"):
            return f"models:/{copy}", copy
        if copy is not None and below.startswith("/artifacts/"):
            return f"runs:/{copy}/{below.removeprefix('/artifacts/')}", None
    return transfer.renamed(source), None


def _key(version: ModelVersion) -> str:
    """What tells a version from those that other stores have under the same name and number."""
    return f"version {version.version} of {version.creation_timestamp}"
