"""The notebook's names of models tell what they are."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pipeline.ledger.names import read_name


@pytest.mark.parametrize(
    ("name", "model", "experiment", "params"),
    [
        ("Most_Popular", "most_popular_unmasked", "most_popular_unmasked", {}),
        ("itemKNN_tfidf_k=312", "item_knn", "item_knn", {"weighting": "tfidf", "k": "312"}),
        ("userKNN_bmp25_k=991", "user_knn", "user_knn", {"weighting": "bmp25", "k": "991"}),
        ("truncated_svd_n_comp=5_n_iter=42", "svd", "svd", {"n_comp": "5", "n_iter": "42"}),
        ("truncated_svd_n_comp=6_n_iter=42", "svd", None, {"n_comp": "6", "n_iter": "42"}),
        (
            "als_factors=5_iter=21_alpha=0.6_reg=0.02",
            "als",
            "als",
            {"factors": "5", "iter": "21", "alpha": "0.6", "reg": "0.02"},
        ),
        ("ease_lambda=108727", "ease", "ease", {"lambda": "108727"}),
        ("EASE_lambda=1e5", "ease", None, {"lambda": "1e5"}),
        (
            "slim_alpha_0.47_l1_ratio_0.14",
            "slim",
            "slim",
            {"alpha": "0.47", "l1_ratio": "0.14"},
        ),
        ("slim_alpha_1_l1_ratio_0", "slim", None, {"alpha": "1", "l1_ratio": "0"}),
        ("NCF_BPR", "ncf", "ncf_bpr", {"loss": "bpr"}),
        ("NCF_BCE", "ncf", "ncf_bce", {"loss": "bce"}),
        ("NCF_BCE_100", "ncf", "ncf_bce_100", {"loss": "bce"}),
        ("TwoTowerHybrid", "two_tower", "two_tower", {}),
        ("easel_n=3", "unknown", None, {"n": "3"}),
        ("lightgcn_layers=3_loss=bpr", "unknown", None, {"layers": "3", "loss": "bpr"}),
    ],
)
def test_names_tell_model_experiment_and_params(
    name: str, model: str, experiment: str | None, params: Mapping[str, str]
) -> None:
    told = read_name(name)
    assert (told.model, told.experiment, told.params) == (model, experiment, params)
    assert told.masked == (name != "Most_Popular")
