"""What a password of a person has to be: long, and none of those that are tried first."""

from __future__ import annotations

LENGTH = 12  # as MLflow asks for
LONGEST = 1000
DIFFERENT = 5  # characters in it
# A password of these, digits and signs alone is in every list of passwords.
WORDS = frozenset(
    (
        *("admin", "change", "default", "hello", "letmein", "login", "me", "mlflow", "my", "new"),
        *("pass", "passwd", "passw0rd", "password", "qwerty", "root", "secret", "server", "test"),
        *("this", "user", "welcome", "word"),
    )
)


def weakness(password: str, username: str) -> str | None:
    """What is wrong with a password, to follow its name in a sentence; None where nothing is."""
    if len(password) < LENGTH:
        return f"has less than {LENGTH} characters"
    if len(password) > LONGEST:
        return f"has more than {LONGEST} characters"
    if len(set(password)) < DIFFERENT:
        return f"has less than {DIFFERENT} different characters"
    if _is_guessed(password.lower(), WORDS | {username.lower()}):
        return "is of names and common words, which are tried first"
    return None


def _is_guessed(password: str, words: frozenset[str]) -> bool:
    """Whether nothing but ``words``, digits and signs is in it."""
    ends = {0}  # to where it is made of them
    for place, character in enumerate(password):
        if place in ends:
            ends |= {place + len(word) for word in words if password.startswith(word, place)}
            if not character.isalpha():
                ends.add(place + 1)
    return len(password) in ends
