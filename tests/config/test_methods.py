"""One table says what each method is."""

from pathlib import Path

from prismkd.config.methods import METHODS, REFERENCES, ROWS, in_order_of_work


def test_prism_is_both_halves_and_plain_is_neither() -> None:
    in_rounds = {"prism-rounds", "adapted-prism-rounds"}
    assert {name for name, method in METHODS.items() if method.in_rounds} == in_rounds
    assert {name for name, method in METHODS.items() if method.guided} == {"eda", "prism", "adapted-prism", *in_rounds}
    both = {"prism", "adapted-prism", *in_rounds}
    assert {name for name, method in METHODS.items() if method.diversified} == {"dpe", "adapted", *both}
    adapted = {"adapted", "adapted-prism", "adapted-prism-rounds"}
    assert {name for name, method in METHODS.items() if method.adapted} == adapted
    assert [name for name, method in METHODS.items() if not method.draws_images] == ["real"]


def test_what_a_budget_is_taken_from_comes_before_it() -> None:
    assert in_order_of_work(("more", "prism", "real", "plain")) == ["prism", "real", "plain", "more"]
    for method in METHODS.values():
        order = in_order_of_work((method.name, *METHODS))
        assert all(order.index(name) < order.index(method.name) for name in method.budget_of)


def test_rows_that_have_seen_real_data_are_references() -> None:
    assert REFERENCES == ("real", "teacher", "real-vs-real")
    own = ["plain", "more", "eda", "dpe", "prism", "adapted", "adapted-prism", "prism-rounds", "adapted-prism-rounds"]
    assert list(ROWS) == [*own, *REFERENCES]


def test_every_row_has_its_color_in_the_report() -> None:
    styles = "".join(
        path.read_text() for path in Path("src/prismkd/report").rglob("*") if path.suffix in (".css", ".html")
    )
    assert [name for name in ROWS if f".m-{name}" not in styles] == []
