"""The one error that a user's input can cause."""

from __future__ import annotations


class UserError(Exception):
    """Bad input: one line that says what was expected, what was got and what to do. The CLI exits with 2."""
