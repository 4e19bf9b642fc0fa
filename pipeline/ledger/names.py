"""What the names in the notebook's ledger tell: the model, its experiment, its settings."""

from __future__ import annotations

import re
from dataclasses import dataclass

_WEIGHTED = r"(?:_(?P<weighting>tfidf|bmp?25|cosine))?"
_MODELS = {
    "most_popular_unmasked": r"most_?popular",
    "item_knn": r"item_?knn" + _WEIGHTED,
    "user_knn": r"user_?knn" + _WEIGHTED,
    "svd": r"(?:truncated_?)?svd",
    "als": r"als",
    "ease": r"ease",
    "slim": r"slim",
    "ncf": r"ncf(?:_(?P<loss>bpr|bce))?",
    "two_tower": r"two_?tower(?:_?hybrid)?",
    "unknown": r"[^_]*",
}
_EXPERIMENTS = {
    "Most_Popular": "most_popular_unmasked",
    "itemKNN_tfidf_k=312": "item_knn",
    "userKNN_bmp25_k=991": "user_knn",
    "truncated_svd_n_comp=5_n_iter=42": "svd",
    "als_factors=5_iter=21_alpha=0.6_reg=0.02": "als",
    "ease_lambda=108727": "ease",
    "slim_alpha_0.47_l1_ratio_0.14": "slim",
    "NCF_BPR": "ncf_bpr",
    "NCF_BCE": "ncf_bce",
    "NCF_BCE_100": "ncf_bce_100",
    "TwoTowerHybrid": "two_tower",
}
_SETTING = re.compile(
    r"_([a-z]\w*?)(?:=([^_=]+)|_([+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?))(?=_|$)", re.IGNORECASE
)


@dataclass(frozen=True)
class RowName:
    """What the name of a row says.

    ``model`` is a family of this project, or "unknown". ``experiment`` is the experiment of this
    project with the same settings, None for a row with others. ``params`` are in the ledger's
    spelling. ``masked`` is whether the notebook kept items out that a user has in training: it
    did for every model but the popularity list.
    """

    model: str
    experiment: str | None
    params: dict[str, str]

    @property
    def masked(self) -> bool:
        return self.model != "most_popular_unmasked"


def read_name(name: str) -> RowName:
    """What ``name``, as in ``als_factors=5_iter=21`` or ``slim_alpha_0.47``, says."""
    matches = (
        (model, re.match(rf"(?:{pattern})(?=_|$)", name, re.IGNORECASE))
        for model, pattern in _MODELS.items()
    )
    model, found = next((model, found) for model, found in matches if found)
    words = {word: text.lower() for word, text in found.groupdict().items() if text}
    settings = {match[1]: match[2] or match[3] for match in _SETTING.finditer(name[found.end() :])}
    return RowName(model, _EXPERIMENTS.get(name), words | settings)
