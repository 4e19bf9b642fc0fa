"""evaluate --register: a version of a registered model, and who is the champion.

A version becomes champion only by a comparison that is kept with it: with the present champion,
user by user, on the same test.
"""

from __future__ import annotations

import logging
from functools import partial

import numpy as np

from pipeline.compare.contenders import Contender, contenders, per_user
from pipeline.compare.evidence import gather
from pipeline.compare.paired_tests import SEED, paired_tests
from pipeline.console import waiting
from pipeline.errors import UserError
from pipeline.evaluation.metrics import bounds
from pipeline.evaluation.names import parse_accuracy
from pipeline.evaluation.significance import ALPHA, Floats, p_words
from pipeline.steps.train import Trained
from pipeline.tracking.registry import (
    COMPARED_ON,
    FINGERPRINT,
    Champion,
    Verdict,
    compared_before,
    measured,
    promote,
)
from pipeline.tracking.runs import Run
from pipeline.tracking.search import get_evaluated

log = logging.getLogger("pipeline")


def register_evaluated(trained: Trained, name: str) -> str:
    """Register the model of an evaluated run, and make it the champion if it beats that.

    Returns:
        What came of it, in a line.

    Raises:
        UserError: the run has no model, or MLflow takes no model of that name.
    """
    run, experiment = trained.run, trained.inputs.experiment
    metric = experiment.selection_metric
    validated = run.metrics.get(f"val/{metric}")
    tags = (
        {FINGERPRINT: trained.inputs.fingerprint} if validated is None
        else measured(f"val/{metric}", validated, trained.inputs.fingerprint, experiment.windows)
    )  # fmt: skip
    with waiting(f"Comparing with the champion of {name}"):
        text = promote(run, name, tags, partial(_challenge, run, metric, name))
    log.info("%s", text)
    return text


def _challenge(run: Run, metric: str, name: str, holder: Champion | None, version: str) -> Verdict:
    """Compare a run with the champion's on ``metric`` of the test, user by user."""
    if holder is None:
        return Verdict(True, "there was no champion, so it was compared with none")
    against = f"the champion, version {holder.version},"
    k = int(metric.rpartition("_")[2])
    try:
        runs = [get_evaluated([one]) for one in (run.id, holder.run_id)]
        ours, theirs = (contenders(one, k)[0] for one in runs)
        unlike = ours.protocol.unlike(theirs.protocol)
        if unlike:
            own = theirs.protocol.unlike(ours.protocol)
            return Verdict(
                False, f"not comparable, {against} was evaluated on other data or otherwise "
                f"({own}; here {unlike}); give another name",
            )  # fmt: skip
        evidence = gather([one for (one,) in runs])
        edited = [f"run {one}: {note}" for one in evidence for note in evidence[one].findings]
        if edited:
            return Verdict(False, f"not comparable with {against[:-1]}: {'; '.join(edited)}")
        readable, names, values = per_user([ours, theirs], evidence)
    except UserError as error:
        return Verdict(False, f"not comparable with {against[:-1]}: {error}")
    short = parse_accuracy(metric)[0].name
    if len(readable) < 2 or short not in names:
        return Verdict(False, f"not comparable, {against} or this one has no {metric} per user")
    earlier = compared_before(name, version, ours.protocol.fingerprint)
    return _tested(ours, holder, metric, values[:, :, names.index(short)], earlier)


def _tested(
    ours: Contender,
    holder: Champion,
    metric: str,
    values: Floats,
    earlier: int,
) -> Verdict:
    """The verdict of the paired test on ``values``, float64[users, 2]: ours, the champion's."""
    tests = paired_tests(
        values[:, :, None], np.random.default_rng(SEED), bounds=bounds([parse_accuracy(metric)[0]])
    )
    own, other = float(tests.mean[0, 0]), float(tests.mean[1, 0])
    difference, p = float(tests.difference[0, 1, 0]), float(tests.p_permutation[0, 1, 0])
    low, high = float(tests.difference_low[0, 1, 0]), float(tests.difference_high[0, 1, 0])
    differs = p < ALPHA
    wins = differs and difference > 0
    verb = (
        "it beats" if wins else "it is worse than" if differs else "it is not distinguishable from"
    )
    protocol, users = ours.protocol, len(values)
    why = (
        f"{verb} version {holder.version}, {'then' if wins else 'still'} the champion, on the test "
        f"of {protocol.dataset}: {metric} {own:.4f} against {other:.4f}, difference "
        f"{difference:+.4f} ({low:+.4f} to {high:+.4f}), {p_words(p)}, {users:,} users"
    )
    tags = {
        "comparison_metric": f"test/{metric}",
        "comparison_version": holder.version,
        "comparison_run": holder.run_id,
        "comparison_dataset": protocol.dataset,
        COMPARED_ON: protocol.fingerprint,
        "comparison_split": protocol.split,
        "comparison_mask": protocol.mask,
        "comparison_users": str(users),
        "comparison_value": str(own),
        "comparison_champion_value": str(other),
        "comparison_difference": str(difference),
        "comparison_difference_low": str(low),
        "comparison_difference_high": str(high),
        "comparison_p_value": str(p),
        "comparison_number": str(earlier + 1),
    }
    notes = (
        f"On {', '.join(protocol.words.values())}; a paired permutation test over users "
        f"({tests.permutations:,} permutations), a studentised interval of 95 %. One run a side: "
        f"the chance in training is not in it."
    )
    if earlier:
        notes += (
            f" This is challenger {earlier + 1} on this test: with each, one that is better by "
            f"chance is more likely to come."
        )
    return Verdict(wins, why, tags, notes)
