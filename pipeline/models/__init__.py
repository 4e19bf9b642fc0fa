"""Recommenders by the name that experiments give them; a family's module loads when asked for."""

from __future__ import annotations

from importlib import import_module

from pipeline.errors import UserError
from pipeline.models.base import Recommender
from pipeline.settings import unknown_field

FAMILIES = {
    "most_popular": "pipeline.models.popularity:MostPopular",
    "most_popular_unmasked": "pipeline.models.popularity:MostPopularUnmasked",
    "ncf": "pipeline.models.ncf:NCF",
}


def family(name: str) -> type[Recommender]:
    """The class of the model called ``name``.

    Raises:
        UserError: there is no such model.
    """
    if name not in FAMILIES:
        raise UserError(unknown_field(name, list(FAMILIES)).replace("field", "model", 1))
    module, attribute = FAMILIES[name].split(":")
    found: type[Recommender] = getattr(import_module(module), attribute)
    return found
