"""What optuna-dashboard shows of a study beside its numbers: notes, with links to the runs.

It keeps a note in system attributes of the study, cut in pieces, with a number that grows with
every change. A note is written once: from then on it belongs to whoever reads it there.
"""

from __future__ import annotations

from optuna.study import Study
from optuna.trial import Trial

PIECE = 2045  # letters of an attribute, which is as many as MySQL takes


def note_study(study: Study, text: str) -> None:
    """Give a study its note, in Markdown, if it has none."""
    _note(study, "dashboard", text)


def note_trial(study: Study, trial: Trial, text: str) -> None:
    """The same for a trial."""
    _note(study, f"dashboard:{trial._trial_id}", text)


def _note(study: Study, of: str, text: str) -> None:
    storage, study_id = study._storage, study._study_id  # as the dashboard itself does
    if f"{of}:note_ver" in storage.get_study_system_attrs(study_id):
        return
    for number, start in enumerate(range(0, len(text), PIECE)):
        piece = text[start : start + PIECE]
        storage.set_study_system_attr(study_id, f"{of}:note_str:{number}", piece)
    storage.set_study_system_attr(study_id, f"{of}:note_ver", 1)
