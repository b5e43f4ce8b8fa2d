"""Senses: candidates in order of authority, the teacher's choice, ties and lost classes."""

import json
from pathlib import Path

import pytest

from prismkd.classes import wordnet
from prismkd.classes.files import NO_SYNSET
from prismkd.classes.lists import ClassName
from prismkd.files import parse_document
from prismkd.prompts.senses import (
    Score,
    Sense,
    SensesRecord,
    Wording,
    candidate_wordings,
    choose_wordings,
    senses_from_record,
    senses_to_rows,
    short_gloss,
    unjudged_senses,
)
from prismkd.prompts.suggestions import SenseSuggestion

BIRD, MACHINE = "n02012849", "n03126707"


def score(value: float, error: float = 0.1, agreement: float = 0.5) -> Score:
    return Score(value, error, -9.0, agreement)


def test_a_bare_name_is_tried_in_its_wordnet_senses_and_a_language_models() -> None:
    found = candidate_wordings(ClassName("crane"), [SenseSuggestion("an origami bird", ("a folded {}",))], max_senses=4)
    assert found[0] == Wording("crane", "name")
    assert {BIRD, MACHINE} <= {w.synset for w in found}
    assert found[-1].source == "language model" and found[-1].contents == ("a folded {}",)
    assert len({w.text for w in found}) == len(found)


def test_what_the_user_says_is_meant_leaves_no_other_sense() -> None:
    found = candidate_wordings(ClassName("crane", synset=MACHINE), [SenseSuggestion("a bird", ())], max_senses=4)
    assert [w.source for w in found] == ["name", "synset"] and found[1].synset == MACHINE
    assert (
        candidate_wordings(ClassName("crane", "a machine for lifting"), max_senses=4)[1].text == "machine for lifting"
    )


def test_synonyms_bring_their_senses() -> None:
    found = candidate_wordings(ClassName("GSD", synonyms=("German shepherd",)), max_senses=4)
    assert "n02106662" in {w.synset for w in found}


def test_the_teachers_best_wording_is_chosen() -> None:
    senses = choose_wordings(
        unjudged_senses([ClassName("crane")], {}, 4), lambda label, text: score(-0.1 if "bird" in text else -3)
    )
    assert senses[0].wording.synset == BIRD and senses[0].synset == BIRD
    assert senses[0].margin == pytest.approx(2.9) and not senses[0].tie and not senses[0].lost


@pytest.mark.parametrize(("lead", "chosen"), [(0.2, "name"), (0.27, "name"), (0.3, "definition")])
def test_the_name_alone_stays_unless_another_wording_wins_by_two_standard_errors(lead: float, chosen: str) -> None:
    senses = unjudged_senses([ClassName("bell", "a church bell")], {}, 4)
    (found,) = choose_wordings(senses, lambda label, text: score(-1 + lead if "church" in text else -1, error=0.1))
    assert found.wording.source == chosen


def test_within_one_standard_error_it_is_a_tie() -> None:
    rivals = (Wording("a", "name", score=score(-1.0, 0.3)), Wording("b", "wordnet", score=score(-1.4, 0.3)))
    assert Sense("x", rivals, 0).tie
    assert not Sense("x", (rivals[0], Wording("b", "wordnet", score=score(-1.5, 0.3))), 0).tie
    sure = tuple(Wording(text, "name", score=score(-0.2, 0.3)) for text in "ab")
    assert not Sense("x", sure).tie  # both are fine


def test_a_class_that_the_teacher_never_sees_is_lost() -> None:
    wordings = tuple(Wording(text, "wordnet", score=score(-5, agreement=0.0)) for text in "ab")
    assert Sense("x", wordings).lost
    assert not Sense("x", (wordings[0], Wording("c", "name", score=score(-5, agreement=0.1)))).lost


def test_a_bare_name_means_its_best_sense() -> None:
    wordings = (
        Wording("crane", "name", score=score(-0.1)),
        Wording("crane, machine", "wordnet", MACHINE, score=score(-4)),
        Wording("crane, bird", "wordnet", BIRD, score=score(-0.2)),
    )
    assert Sense("crane", wordings).synset == BIRD
    assert Sense("crane", tuple(Wording(w.text, w.source, w.synset) for w in wordings)).synset == ""  # who knows
    assert unjudged_senses([ClassName("tench")], {}, 4)[0].synset == "n01440764"  # there is but one


def test_without_a_judge_the_users_word_counts() -> None:
    classes = [ClassName("a"), ClassName("b", "a bee"), ClassName("crane", "a bird", synset=BIRD)]
    assert [s.wording.source for s in unjudged_senses(classes, {}, 4)] == ["name", "definition", "definition"]


def test_a_language_models_only_sense_lends_its_contents_to_the_users_definition() -> None:
    one = [SenseSuggestion("a bell", ("a cracked {}",))]
    assert unjudged_senses([ClassName("bell", "a church bell")], {"bell": one}, 4)[0].contents == ("a cracked {}",)
    assert unjudged_senses([ClassName("bell", "the church has it")], {"bell": one * 2}, 4)[0].contents == ()


def test_of_a_language_models_senses_the_one_that_shares_words_with_the_definition_lends_its_contents() -> None:
    both = [SenseSuggestion("a tall machine for lifting loads", ("a yellow {}",)),
            SenseSuggestion("a large bird with long legs", ("a {} in reeds",))]  # fmt: skip
    assert unjudged_senses([ClassName("crane", synset=BIRD)], {"crane": both}, 4)[0].contents == ("a {} in reeds",)
    assert unjudged_senses([ClassName("crane", "it lifts loads")], {"crane": both}, 4)[0].contents == ("a yellow {}",)


def test_a_bare_name_means_no_sense_that_the_teacher_refuses() -> None:
    wordings = (Wording("crane", "name", score=score(-0.1)),
                Wording("crane, bird", "wordnet", BIRD, score=score(-4, agreement=0.1)))  # fmt: skip
    assert Sense("crane", wordings).synset == ""


def test_senses_survive_json() -> None:
    senses = choose_wordings(
        unjudged_senses([ClassName("crane"), ClassName("tench")], {}, 4), lambda label, text: score(-len(text))
    )
    record = parse_document(json.dumps({"senses": senses_to_rows(senses)}), SensesRecord, "senses.json")
    assert senses_from_record(record, 2, Path()) == senses


def test_glosses_are_cut_to_their_first_clause() -> None:
    assert short_gloss("a large (long-necked) wading bird; of marshes") == "large wading bird"
    assert short_gloss(
        "any of various burrowing crabs of American coastal regions having one claw much enlarged in"
    ) == ("burrowing crabs of American coastal regions having one claw much enlarged")
    assert short_gloss("bird of the high mountain lakes of Asia that flies in winter when it is cold") == (
        "bird of the high mountain lakes of Asia that flies in winter"
    )
    assert len(short_gloss("word " * 40).split()) == 12


def test_a_class_of_none_of_wordnets_senses_has_no_such_candidates() -> None:
    found = candidate_wordings(ClassName("beard", synset=NO_SYNSET), max_senses=4)
    assert [w.source for w in found] == ["name"]
    assert Sense("beard", tuple(found)).synset == "" and Sense("beard", tuple(found)).unlisted


def test_slang_for_people_comes_last() -> None:
    sources = [wordnet.kind(w.synset) for w in candidate_wordings(ClassName("beard"), max_senses=4) if w.synset]
    assert "person" in sources and sources == sorted(sources, key="person".__eq__)


def test_a_gloss_takes_the_place_of_other_explanations_of_a_name() -> None:
    """What matters stands first and once: neither Latin nor a hint in parentheses before the definition."""
    for name in ("crane, Grus grus", "crane (large wading bird)", "crane"):
        texts = [wording.text for wording in candidate_wordings(ClassName(name, synset="n02012849"), max_senses=4)]
        assert texts[-1] == "crane, large long-necked wading bird of marshes and plains"
