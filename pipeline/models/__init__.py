"""Recommenders by the name that experiments give them; a family's module loads when asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from pipeline.errors import UserError
from pipeline.own import find, is_own

if TYPE_CHECKING:  # a network's module is to load with torch alone
    from pipeline.models.base import Recommender

FAMILIES = {
    "most_popular": "pipeline.models.popularity:MostPopular",
    "most_popular_unmasked": "pipeline.models.popularity:MostPopularUnmasked",
    "random": "pipeline.models.random:Random",
    "item_knn": "pipeline.models.knn:ItemKNN",
    "user_knn": "pipeline.models.knn:UserKNN",
    "svd": "pipeline.models.factors:SVD",
    "als": "pipeline.models.factors:ALS",
    "ease": "pipeline.models.regression:EASE",
    "slim": "pipeline.models.regression:SLIM",
    "sequential_ridge": "pipeline.models.sequential:SequentialRidge",
    "two_tower": "pipeline.models.two_tower:TwoTower",
    "ncf": "pipeline.models.ncf:NCF",
}


def family(name: str) -> type[Recommender]:
    """The class of the model called ``name``, or of one's own by its import path.

    Raises:
        UserError: there is no such model.
    """
    if is_own(name):
        from pipeline.models.base import Recommender

        def fits(each: object) -> bool:
            return (
                isinstance(each, type)
                and issubclass(each, Recommender)
                and each.__module__.partition(".")[0] != __name__.partition(".")[0]
            )

        own: type[Recommender] = find(name, "model", fits)
        return own
    if name not in FAMILIES:
        from pipeline.settings import unknown_field

        raise UserError(unknown_field(name, list(FAMILIES)).replace("field", "model", 1))
    module, attribute = FAMILIES[name].split(":")
    found: type[Recommender] = getattr(import_module(module), attribute)
    return found
