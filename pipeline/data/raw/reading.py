"""How a file of ratings is read: what a person may have to say of it."""

from __future__ import annotations

from typing import Literal

from pipeline.settings import Settings


class Reading(Settings):
    """Nothing of it has to be said of a file that is as it should be."""

    columns: str | None = None
    """Which columns are meant, as user=userID,item=artistID,rating=weight,timestamp=none: names,
    or numbers from 1."""
    table: str | None = None
    """The file with the ratings among several in a folder or zip; its ending may be left out."""
    items: str | None = None
    """A table with titles and genres of items, which go over those beside the ratings."""
    on_bad_rows: Literal["error", "drop"] = "error"
    """error refuses a file with rows that cannot be used; drop leaves them out and counts them."""
    accept_split: bool = False
    """Takes a split that came with the data though half of it or more is contaminated."""


AS_IT_IS = Reading()
