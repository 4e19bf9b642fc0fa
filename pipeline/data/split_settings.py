"""The settings of a split: who trains, who is evaluated, and what of that is in a fingerprint."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline.settings import Settings

WARM, LOW_ACTIVITY, COLD, UNUSED, REPEAT = "warm", "low_activity", "cold", "unused", "repeat"
"""Segments, the kinds of held-out rows: see ``split.split_ratings``."""

Quantile = Annotated[float, Field(gt=0, lt=1)]


class SplitSettings(Settings):
    """Who trains and who is evaluated."""

    test_cut: Quantile = 0.8
    """Share that trains: time ends it at this quantile of all timestamps (nearest one); random
    leaves each user this share."""
    min_training: int = Field(5, ge=1)
    """Users with fewer training interactions are dropped from training."""
    min_warm_training: int = Field(15, ge=1)
    """Users with at least so many training interactions can be evaluated as warm users."""
    min_held_out: int = Field(10, ge=1)
    """Users with fewer held-out interactions are not evaluated; leave_one_out needs one."""
    protocol: Literal["auto", "time", "random", "leave_one_out"] = "auto"
    """time: one moment for all; random: of each user a share; leave_one_out: of each the latest;
    auto: time where there are times, else random. The last two of these know the future. Of a split
    that is given it rules the windows."""
    repeats: Literal["drop", "keep"] = "drop"
    """keep: what a user has and takes again is part of the test, and no list is masked."""
    split_seed: int = Field(0, ge=0, lt=2**32)
    """Of what random and leave_one_out draw, and of the sample of eval_users."""

    def settled(self, is_timed: bool) -> SplitSettings:
        """The same with the protocol that auto is for rows that have times, or have none."""
        if self.protocol != "auto":
            return self
        chosen = "time" if is_timed else "random"
        return self.model_copy(update={"protocol": chosen})

    @property
    def word(self) -> str:
        """The split in a word, as in time-0.8-5-15-10."""
        parts = [self.protocol.replace("_", "-")]
        if self.protocol != "leave_one_out":
            parts.append(f"{self.test_cut:g}")
        parts += [f"{self.min_training}", f"{self.min_warm_training}"]
        if self.protocol != "leave_one_out":
            parts.append(f"{self.min_held_out}")
        if self.protocol != "time" and self.split_seed:
            parts.append(f"seed-{self.split_seed}")
        if self.repeats == "keep":
            parts.append("repeats")
        return "-".join(parts)

    @property
    def least_held_out(self) -> int:
        """Held-out interactions that a user needs to be evaluated."""
        return 1 if self.protocol == "leave_one_out" else self.min_held_out

    @property
    def least_training(self) -> int:
        """Training interactions that a user needs to be evaluated as warm."""
        return max(self.min_training, self.min_warm_training)

    def in_window(self) -> SplitSettings:
        """The same for a validation window. A drawn one has a share ``test_cut`` of what the
        whole has of each user, so there that much is enough, and the same users are evaluated."""
        if self.protocol != "random":
            return self
        held_out, training = (
            max(1, int(least * self.test_cut))
            for least in (self.min_held_out, self.min_warm_training)
        )
        return self.model_copy(update={"min_held_out": held_out, "min_warm_training": training})

    @property
    def identity(self) -> dict[str, Any]:
        """What of the settings is in a fingerprint: those of before later ones were added, and
        these where they are not at their defaults."""
        added = {"protocol": "time", "repeats": "drop", "split_seed": 0}
        dumped = self.model_dump(mode="json")
        return {name: value for name, value in dumped.items() if added.get(name) != value}
