"""How a file of ratings is read: what a person may have to say of it."""

from __future__ import annotations

from typing import Literal

from pipeline.settings import Settings


class Reading(Settings):
    """Nothing of it has to be said of a file that is as it should be."""

    on_bad_rows: Literal["error", "drop"] = "error"
    """error refuses a file with rows that cannot be used; drop leaves them out and counts them."""
    accept_split: bool = False
    """Takes a split that came with the data though half of it or more is contaminated."""


AS_IT_IS = Reading()
