from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config import Experiment, change, read_experiment, read_suite
from pipeline.data.split_settings import SplitSettings
from pipeline.errors import UserError
from pipeline.models import FAMILIES, family
from pipeline.models.regression import EASESettings

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def write(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def message(folder: Path, text: str, **overrides: Any) -> str:
    path = write(folder, text)
    with pytest.raises(UserError) as caught:
        read_experiment(path, overrides)
    found = str(caught.value)
    assert found.startswith(str(path))
    return found


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_experiment_of_the_project_reads(path: Path) -> None:
    experiment = read_experiment(path, {})
    assert experiment.name == path.stem
    assert isinstance(experiment.params, family(experiment.model).settings_class)


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("suites/*.yaml")), ids=lambda p: p.stem)
def test_every_suite_of_the_project_reads(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXPERIMENTS.parent)
    names = [experiment.name for experiment in read_suite(path.stem, {})]
    assert len(set(names)) == len(names) > 0


def test_a_penalty_given_in_one_unit_replaces_it_in_the_other(tmp_path: Path) -> None:
    """Whatever the file and the flag are in, what was said last counts."""
    absolute = write(tmp_path, "model: ease\nregularization: 500\n")
    assert read_experiment(absolute, {}).flat()["regularization"] == 500
    found = read_experiment(absolute, {"penalty": "7"}).flat()
    assert (found["regularization"], found["penalty"]) == (None, 7)
    again = change(read_experiment(absolute, {}), {"penalty": 7}, "test").flat()
    assert (again["regularization"], again["penalty"]) == (None, 7)

    relative = write(tmp_path, "model: ease\npenalty: 7\n", "relative.yaml")
    found = read_experiment(relative, {"regularization": "500"}).flat()
    assert (found["regularization"], found["penalty"]) == (500, EASESettings().penalty)
    found = read_experiment(absolute, {"values": "ratings"}).flat()
    assert found["regularization"] == 500


NOTEBOOK = {
    "epochs": 20,
    "patience": None,
    "batch_size": 2048,
    "learning_rate": 1e-4,
    "weight_decay": 1e-4,
    "l2": 0.0,
    "negatives": 1,
    "negative_power": 0.0,
    "verified_negatives": False,
    "rating_confidence": 0.0,
    "embedding_dim": 8,
    "layers": [16, 8],
    "dropout": 0.4,
    "bias": False,
    "start": None,
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ncf_bpr", NOTEBOOK | {"loss": "bpr_sigmoid"}),
        ("ncf_bce", NOTEBOOK | {"loss": "bce"}),
        (
            "ncf_bce_100",
            NOTEBOOK | {"loss": "bce", "epochs": 100, "layers": [32, 16], "weight_decay": 0.0},
        ),
    ],
)
def test_the_notebooks_networks(name: str, expected: dict[str, Any]) -> None:
    experiment = read_experiment(EXPERIMENTS / f"{name}.yaml", {})
    assert experiment.model == "ncf"
    assert experiment.split == SplitSettings(
        test_cut=0.8, min_training=5, min_warm_training=15, min_held_out=10
    )
    flat = experiment.flat()
    assert {field: flat[field] for field in expected} == expected


@pytest.mark.parametrize("model", FAMILIES)
def test_flat_names_are_unique(model: str) -> None:
    groups = [Experiment, SplitSettings, family(model).settings_class]
    for one, other in combinations(groups, 2):
        assert not set(one.model_fields) & set(other.model_fields)


@pytest.mark.parametrize("model", FAMILIES)
def test_an_experiment_can_be_written_and_read_again(model: str, tmp_path: Path) -> None:
    first = read_experiment(write(tmp_path, f"model: {model}\n"), {})
    values = {name: value for name, value in first.flat().items() if name != "name"}
    assert read_experiment(write(tmp_path, yaml.safe_dump(values)), {}) == first


@pytest.mark.parametrize("model", FAMILIES)
def test_every_field_can_be_given_as_text(model: str, tmp_path: Path) -> None:
    config = write(tmp_path, f"model: {model}\nseed: 1\ntest_cut: 0.5\n")
    plain = read_experiment(write(tmp_path, f"model: {model}\n"), {})
    flags = {name: str(value) for name, value in plain.flat().items() if name != "name"}
    assert read_experiment(config, flags) == plain


def test_a_title_tells_what_differs(tmp_path: Path) -> None:
    config = write(tmp_path, "model: ncf\n")
    flags = {"model": "ncf", "embedding_dim": "08", "layers": "8,4", "learning_rate": "1e-7"}
    told = "embedding_dim=8 layers=8,4 learning_rate=1e-7"
    experiment = read_experiment(config, flags)
    assert experiment.title(flags) == f"{config.stem} {told}"
    assert experiment.title([]) == config.stem
    assert experiment.title([*flags, "components"]) == f"{config.stem} {told}"  # it has none
    many = [*flags, "seed", "epochs"]
    assert experiment.title(many) == f"{config.stem} {told} seed=42 ..."


@pytest.mark.parametrize("mode", ["python", "json"])
@pytest.mark.parametrize("model", FAMILIES)
def test_an_experiment_is_restored_from_its_dump(model: str, mode: Any, tmp_path: Path) -> None:
    first = read_experiment(write(tmp_path, f"model: {model}\nk: [5, 10]\n"), {"windows": "none"})
    assert Experiment.restore(first.model_dump(mode=mode), "run 1") == first


def test_a_dump_of_before_there_were_optimizers_is_of_adam(tmp_path: Path) -> None:
    values = read_experiment(write(tmp_path, "model: ncf\n"), {}).model_dump()
    assert values["params"].pop("optimizer") == "auto"
    assert Experiment.restore(values, "run 1").params.model_dump()["optimizer"] == "adam"


def test_a_dump_with_a_field_that_is_gone(tmp_path: Path) -> None:
    values = read_experiment(write(tmp_path, "model: ncf\n"), {}).model_dump()
    with pytest.raises(UserError, match="run 1: unknown field 'momentum'"):
        Experiment.restore(values | {"params": values["params"] | {"momentum": 0.9}}, "run 1")


def test_fields_find_their_places(tmp_path: Path) -> None:
    config = write(tmp_path, "model: ncf\nk: [5, 20]\nmin_held_out: 3\nembedding_dim: 16\n")
    experiment = read_experiment(config, {"embedding_dim": "4", "windows": "0.5,0.7", "seed": "7"})
    assert (experiment.name, experiment.model, experiment.seed) == ("mine", "ncf", 7)
    assert experiment.k == (5, 20)
    assert experiment.selection_metric == "ndcg_at_5"
    assert experiment.windows == (0.5, 0.7)
    assert experiment.split.min_held_out == 3
    assert experiment.flat()["embedding_dim"] == 4


def test_a_flag_may_change_the_model(tmp_path: Path) -> None:
    config = write(tmp_path, "model: ncf\n")
    assert read_experiment(config, {"model": "most_popular"}).model == "most_popular"


def test_the_recommender_of_an_experiment(tmp_path: Path) -> None:
    experiment = read_experiment(write(tmp_path, "model: ncf\nseed: 7\nepochs: 9\n"), {})
    recommender = experiment.recommender(epochs=2)
    assert type(recommender) is family("ncf")
    assert recommender.seed == 7
    assert recommender.settings.model_dump()["epochs"] == 2
    assert experiment.recommender().settings == experiment.params


def test_an_unknown_field_is_told_with_the_nearest_of_any_group(tmp_path: Path) -> None:
    assert "unknown field 'embeding_dim' (did you mean 'embedding_dim'?)" in message(
        tmp_path, "model: ncf\nembeding_dim: 8\n"
    )
    assert "did you mean 'min_held_out'?" in message(tmp_path, "model: ncf\nmin_heldout: 8\n")
    assert "did you mean 'windows'?" in message(tmp_path, "model: ncf\n", window="0.8")


def test_a_field_of_another_model_is_unknown(tmp_path: Path) -> None:
    found = message(tmp_path, "model: most_popular\n", embedding_dim="8")
    assert "mine.yaml with --embedding_dim=8: unknown field 'embedding_dim'" in found
    assert "min_held_out" in found


def test_all_unknown_fields_are_told_at_once(tmp_path: Path) -> None:
    found = message(tmp_path, "model: ncf\nepoch: 8\nseeds: 1\n")
    assert "did you mean 'epochs'?" in found
    assert "did you mean 'seed'?" in found


@pytest.mark.parametrize("name", ["name", "split", "params"])
def test_a_file_cannot_set_what_holds_the_rest(name: str, tmp_path: Path) -> None:
    assert f"unknown field '{name}'" in message(tmp_path, f"model: ncf\n{name}: 1\n")


@pytest.mark.parametrize("name", ["name", "split", "params", "parms"])
def test_what_a_file_cannot_set_is_not_offered(name: str, tmp_path: Path) -> None:
    found = message(tmp_path, f"model: ncf\n{name}: 1\n")
    assert "did you mean 'name'" not in found
    assert "did you mean 'split'" not in found
    assert "did you mean 'params'" not in found


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("seed: -1", "seed=-1: Input should be greater than or equal to 0"),
        ("k: []", "k=[]: Tuple should have at least 1 item"),
        ("windows: [0.5, 1.5]", "windows.1=1.5: Input should be less than 1"),
        ("test_cut: 1", "test_cut=1: Input should be less than 1"),
        ("epochs: 0", "epochs=0: Input should be greater than or equal to 1"),
        ("layers: 15,8", "expected an even input width and at least one further width"),
        ("layers: [16]", "expected an even input width and at least one further width"),
        ("loss: hinge", "loss='hinge': expected bpr, bpr_sigmoid, bce, softmax, or one's own"),
    ],
)
def test_a_wrong_value_in_any_group(text: str, content: str, tmp_path: Path) -> None:
    assert content in message(tmp_path, f"model: ncf\n{text}\n")


def test_no_model(tmp_path: Path) -> None:
    assert "the field 'model' is missing" in message(tmp_path, "seed: 1\n")


def test_an_unknown_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown model 'ncff'.*did you mean 'ncf'"):
        read_experiment(write(tmp_path, "model: ncff\n"), {})


@pytest.mark.parametrize("text", ["1: 2", "1: 2\nfoo: 3", "on: true"])
def test_a_field_whose_name_is_no_text(text: str, tmp_path: Path) -> None:
    assert "unknown field" in message(tmp_path, f"model: ncf\n{text}\n")


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("", "expected fields and values, as in 'model: ncf'"),
        ("- model\n", "expected fields and values, as in 'model: ncf'"),
        ("model: [ncf\n", "cannot be read as YAML"),
    ],
)
def test_a_file_that_is_no_mapping(text: str, content: str, tmp_path: Path) -> None:
    assert content in message(tmp_path, text)


def test_a_missing_file_is_told_with_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path, "model: ncf\n", "b.yaml")
    write(tmp_path, "model: ncf\n", "a.yaml")
    with pytest.raises(UserError) as caught:
        read_experiment(tmp_path / "c.yaml", {})
    assert f"{tmp_path / 'c.yaml'}: there is no such file" in str(caught.value)
    assert "a.yaml, b.yaml" in str(caught.value)


def test_a_file_of_bytes(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xff\xfe\x00model")
    with pytest.raises(UserError, match=r"mine\.yaml: this cannot be read as YAML"):
        read_experiment(path, {})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with experiments ``one`` and ``two`` and the suites of a test."""
    write(tmp_path, "model: ncf\n", "experiments/one.yaml")
    write(tmp_path, "model: most_popular\nseed: 3\n", "experiments/two.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "experiments" / "suites"


def suite_message(suite: str, **overrides: Any) -> str:
    with pytest.raises(UserError) as caught:
        read_suite(suite, overrides)
    return str(caught.value)


def test_a_suite_lists_experiments(folder: Path) -> None:
    path = write(folder, "experiments: [two, one]\n", "both.yaml")
    found = read_suite("both", {})
    assert [(one.name, one.model, one.seed) for one in found] == [
        ("two", "most_popular", 3),
        ("one", "ncf", 42),
    ]
    assert read_suite(str(path), {}) == found


def test_flags_change_the_experiments_of_a_suite_that_have_their_field(folder: Path) -> None:
    write(folder, "experiments: [one, two]\n", "both.yaml")
    one, two = read_suite("both", {"seed": "9", "embedding_dim": "4", "min_held_out": "2"})
    assert (one.seed, two.seed) == (9, 9)
    assert one.split == two.split == SplitSettings(min_held_out=2)
    assert one.flat()["embedding_dim"] == 4
    assert "embedding_dim" not in two.flat()


def test_a_flag_that_no_experiment_of_a_suite_has(folder: Path) -> None:
    write(folder, "experiments: [two]\n", "popular.yaml")
    assert "No experiment of suite popular has it: unknown field 'epochs'" in suite_message(
        "popular", seed="9", epochs="3"
    )


@pytest.mark.parametrize(
    "text", ["experiments: []", "experiments: one", "runs: [one]", "experiments: [one]\nk: 1"]
)
def test_a_suite_that_is_none(text: str, folder: Path) -> None:
    write(folder, text, "odd.yaml")
    found = suite_message("odd")
    assert "odd.yaml: expected one field, 'experiments', with a list of names" in found


def test_a_suite_of_missing_experiments(folder: Path) -> None:
    write(folder, "experiments: [one, three, four]\n", "odd.yaml")
    found = suite_message("odd")
    assert "odd.yaml: there is no experiment file" in found
    assert "three.yaml" in found
    assert "four.yaml" in found
    assert "one.yaml" not in found


@pytest.mark.parametrize("name", ["n" * 300, "nul\\0", "{a: 1}"])
def test_a_suite_of_names_that_no_file_has(name: str, folder: Path) -> None:
    write(folder, f'experiments: ["{name}"]\n', "odd.yaml")
    assert "odd.yaml: there is no experiment file" in suite_message("odd")


def test_a_value_is_quoted_in_few_words(tmp_path: Path) -> None:
    assert len(message(tmp_path, f"model: ncf\nloss: {'x' * 9000}\n")) < 500
    assert "'" + "y" * 197 + "...'" in message(tmp_path, f"model: ncf\n{'y' * 900}: 1\n")


def test_a_missing_suite(folder: Path) -> None:
    write(folder, "experiments: [one]\n", "small.yaml")
    found = suite_message("large")
    assert "large.yaml: there is no such file" in found
    assert "small.yaml" in found
