"""Study files, flags on top of them, and what is refused before a study begins."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Experiment, change
from pipeline.data.split_settings import SplitSettings
from pipeline.errors import UserError
from pipeline.models import FAMILIES, family
from pipeline.models.factors import SVD
from pipeline.space import Choice, Range
from pipeline.tuning.plan import ROLLING_WINDOWS, StudySettings
from pipeline.tuning.study_files import read_plan
from pipeline.tuning.suite import is_suite
from tests.tuning.conftest import MakePlan

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
TUNED = [name for name in FAMILIES if family(name).space]


def message(make_plan: MakePlan, *args: Any, **fields: Any) -> str:
    with pytest.raises(UserError) as caught:
        make_plan(*args, **fields)
    return str(caught.value)


def test_a_study_file_is_flat(make_plan: MakePlan) -> None:
    plan = make_plan(
        "ncf",
        n_trials=7,
        coverage_floor=0.1,
        embedding_dim=4,
        min_held_out=3,
        k=[5, 10],
        space={"loss": ["bpr", "bce"], "epochs": {"low": 2, "high": 9}},
    )
    assert (plan.settings.n_trials, plan.settings.coverage_floor) == (7, 0.1)
    assert plan.experiment.name == plan.experiment.model == "ncf"
    assert plan.experiment.flat()["embedding_dim"] == 4
    assert plan.experiment.split.min_held_out == 3
    assert plan.space == {"loss": Choice(choices=("bpr", "bce")), "epochs": Range(low=2, high=9)}
    assert plan.objectives == ["ndcg_at_5"]


@pytest.mark.parametrize("model", TUNED)
def test_a_model_brings_a_space(model: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"model: {model}\n")
    plan = read_plan(None, tmp_path / "mine.yaml", {})
    assert plan.space == family(model).space
    assert plan.settings == StudySettings()


@pytest.mark.parametrize("model", TUNED)
def test_every_corner_of_a_models_space_is_taken(make_plan: MakePlan, model: str) -> None:
    """A configuration is checked as a whole only when it is tried."""
    plan = make_plan(model)
    ends = [[values[0], values[-1]] for values in (plan.values(name, 2) for name in plan.space)]
    for values in list(product(*ends))[:64]:
        change(plan.experiment, dict(zip(plan.space, values, strict=True)), model)


STUDIES = [path for path in sorted(EXPERIMENTS.glob("studies/*.yaml")) if not is_suite(path)]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_of_the_project_reads(path: Path) -> None:
    assert read_plan(path, None, {}).space


@pytest.mark.parametrize("model", FAMILIES)
def test_settings_of_studies_have_names_of_their_own(model: str) -> None:
    groups = (Experiment, SplitSettings, family(model).settings_class)
    fields = {name for group in groups for name in group.model_fields}
    assert not fields & (StudySettings.model_fields.keys() | {"config", "space"})


def test_windows_roll_unless_others_are_given(make_plan: MakePlan) -> None:
    assert make_plan().experiment.windows == ROLLING_WINDOWS
    assert make_plan(windows=[0.5, 0.7]).experiment.windows == (0.5, 0.7)
    assert make_plan(flags={"windows": "0.6"}, windows=[0.5]).experiment.windows == (0.6,)
    assert "windows is empty: a study needs windows" in message(make_plan, windows=[])


def test_flags_stand_above_the_file(make_plan: MakePlan) -> None:
    flags = {"n_trials": "3", "seed": "7", "sampler": "random"}
    plan = make_plan(flags=flags, n_trials=9, seed=1)
    assert (plan.settings.n_trials, plan.settings.sampler) == (3, "random")
    assert plan.experiment.seed == 7


def test_a_flag_leaves_the_space(make_plan: MakePlan) -> None:
    space = {"components": {"low": 2, "high": 9}, "iterations": [3, 4]}
    plan = make_plan(flags={"components": "6"}, space=space)
    assert list(plan.space) == ["iterations"]
    assert plan.experiment.flat()["components"] == 6


def test_a_field_of_the_file_leaves_the_models_own_space(make_plan: MakePlan) -> None:
    plan = make_plan(components=6)
    assert plan.space.keys() == family("svd").space.keys() - {"components"}
    assert plan.experiment.flat()["components"] == 6


def test_a_penalty_given_in_one_unit_leaves_the_space_in_the_other(make_plan: MakePlan) -> None:
    plan = make_plan("ease", flags={"regularization": "500"})
    assert list(plan.space) == ["values"]
    assert plan.experiment.flat()["regularization"] == 500
    assert list(make_plan("ease", regularization=500).space) == ["values"]
    space = {"penalty": {"low": 1, "high": 9}, "divide": ["rows", "columns"]}
    assert make_plan("ease", regularization=500, space=space).space.keys() == space.keys()
    plan = make_plan("ease", flags={"penalty": "7"}, regularization=500)
    assert plan.experiment.flat()["regularization"] is None


def test_nothing_to_search(make_plan: MakePlan) -> None:
    assert "there is nothing to search: most_popular has no" in message(make_plan, "most_popular")
    assert "there is nothing to search" in message(make_plan, space={})
    space = {"components": [1, 2]}
    found = message(make_plan, flags={"components": "5"}, space=space)
    assert "there is nothing to search" in found


def test_no_pruner_is_called_none(make_plan: MakePlan) -> None:
    assert make_plan(pruner="none").settings.pruner is None
    assert make_plan(flags={"pruner": "none"}).settings.pruner is None


def test_neither_or_both_files(tmp_path: Path) -> None:
    for study, config in ((None, None), (tmp_path / "a.yaml", tmp_path / "b.yaml")):
        with pytest.raises(UserError, match="Give either --study FILE"):
            read_plan(study, config, {})


def test_a_model_without_a_file() -> None:
    plan = read_plan(None, None, {"model": "svd", "n_trials": "4", "iterations": "7"})
    assert (plan.name, plan.experiment.name, plan.settings.n_trials) == ("svd", "svd", 4)
    assert plan.space == SVD.space
    assert plan.experiment.params.model_dump()["iterations"] == 7
    with pytest.raises(UserError, match="unknown model 'nfc'"):
        read_plan(None, None, {"model": "nfc"})


def test_a_study_file_without_an_experiment(tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text("n_trials: 3\n")
    with pytest.raises(UserError, match=r"odd\.yaml: the field 'config'.*is missing"):
        read_plan(path, None, {})


@pytest.mark.parametrize(
    ("fields", "content"),
    [
        ({"n_trails": 3}, "unknown field 'n_trails'"),
        ({"n_trials": 0}, "n_trials=0: Input should be greater than or equal to 1"),
        ({"coverage_floor": 1}, "coverage_floor=1"),
        ({"sampler": "nsga"}, "sampler='nsga'"),
        ({"objective": "pareto", "sampler": "cmaes"}, "sampler=cmaes knows one objective only"),
        ({"components": 0}, "components=0"),
        ({"components": 0}, "study.yaml: "),
        ({"model": "svdd"}, "unknown model 'svdd'"),
        ({"grid_points": 10**9}, "grid_points=1000000000"),
        ({"sampler_seed": 2**32}, "sampler_seed=4294967296"),
        ({"space": ["components"]}, "space: ['components']: expected the fields that vary"),
        ({"space": {"component": [1, 2]}}, "did you mean 'components'?"),
        ({"space": {0: [1, 2]}}, "unknown field '0'"),
        ({"space": {"components": 3}}, "components: 3 is one value"),
        ({"space": {"components": {"low": 0, "high": 3}}}, "components=0"),
        ({"space": {"components": [3, "many"]}}, "components='many'"),
        ({"space": {"components": {"low": 1.5, "high": 3.5}}}, "1.5 is no whole number"),
        ({"space": {"components": {"low": 1, "high": 3, "step": 0.5}}}, "0.5 is no whole number"),
        ({"space": {"values": {"low": 1, "high": 3}}}, "values=1"),
        ({"space": {"model": ["svd", "als"]}}, "unknown field 'model'"),
        ({"space": {"windows": ["0.5", "0.6"]}}, "unknown field 'windows'"),
        ({"space": {"k": [10, 20]}}, "unknown field 'k'"),
        ({"space": {"n_trials": [10, 20]}}, "unknown field 'n_trials'"),
    ],
)
def test_what_is_refused(make_plan: MakePlan, fields: dict[str, Any], content: str) -> None:
    assert content in message(make_plan, **fields)


def test_a_truth_value_has_no_range(make_plan: MakePlan) -> None:
    assert "bias=0.5" in message(make_plan, "ncf", space={"bias": {"low": 0, "high": 1}})


def test_whole_numbers(make_plan: MakePlan) -> None:
    plan = make_plan("ncf", space={"loss": ["bce", "bpr"]})
    whole = ("epochs", "patience", "seed", "embedding_dim", "batch_size", "min_held_out")
    assert [name for name in whole if not plan.is_whole(name)] == []
    others = ("learning_rate", "dropout", "loss", "bias", "test_cut")
    assert [name for name in others if plan.is_whole(name)] == []


@pytest.mark.parametrize(
    ("first", "told"),
    [
        ({"component": 3}, "did you mean 'components'?"),
        ({"components": "many"}, "components='many'"),
        ({"components": 9}, "first_trials: components=9 lies outside its space, 2 to 8"),
        ({"values": "binary"}, "values=binary lies outside its space, ratings"),
    ],
)
def test_first_trials_lie_in_the_space(
    make_plan: MakePlan, first: dict[str, Any], told: str
) -> None:
    space = {"components": {"low": 2, "high": 8}, "values": ["ratings"]}
    assert told in message(make_plan, space=space, first_trials=[first])
