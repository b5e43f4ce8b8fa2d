"""What is said when something is wrong: the one error that a user's input can cause, and warnings."""

from __future__ import annotations

from prismkd.progress import say


class UserError(Exception):
    """Bad input: one line that says what was expected, what was got and what to do. The CLI exits with 2."""


def warn(text: str) -> None:
    """Say on stderr what went wrong without ending the work."""
    say(f"warning: {text}")
