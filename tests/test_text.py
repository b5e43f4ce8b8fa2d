"""Text for messages: nothing commands the terminal, and nothing fills it."""

from __future__ import annotations

from prismkd.text import printable, shortened


def test_control_characters_become_visible_and_long_texts_keep_both_ends() -> None:
    assert printable("a\x1b[31mb\u202ec\nd  e") == "a\\x1b[31mb\\u202ec d e"
    line = printable("begin " + "x" * 10_000_000 + " end")
    assert line.startswith("begin") and line.endswith("end") and len(line) < 2100
    assert printable("Schäfer, 猫") == "Schäfer, 猫"


def test_a_value_is_cut_before_it_is_written() -> None:
    assert len(shortened("x" * 10_000_000)) < 80
    assert shortened("\u202e") == "'\\u202e'" and shortened(10**5000) == "a value too long to write"
