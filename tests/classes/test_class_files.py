"""Class list files: formats, and files that are broken."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from prismkd.classes import ClassName, load_classes
from prismkd.errors import UserError

CLASSES = [
    ClassName("crane", "a large wading bird, long-necked", True, "n02012849", ("crane bird", "wader"), ("photo",)),
    ClassName('3" nail', "a nail"),
    ClassName("#1 | größte; Zahl"),
]


Write = Callable[[str, str], str]


def test_text_has_one_name_per_line(write: Write) -> None:
    path = write("classes.txt", "\ufeff10\n2\n\n tabby cat \n#1 fan\n")
    assert [item.name for item in load_classes(path)] == ["10", "2", "tabby cat", "#1 fan"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# my classes\ncat\ndog\n", "got a comment ('# my classes'); take it away, since every line is a class"),
        ("cat # a pet\ndog\n", "got a comment"),
        ("- cat\n- dog\n", "got a hyphen before every one ('- cat')"),
        ('"cat",\n"dog"\n', "got quotes around every one"),
        ("cat,\ndog,\n", "got a comma behind every one"),
        ("cat 0\ndog 1\n", "got numbers behind them ('cat 0', 'dog 1'); take them away"),
        ("cat=0\ndog=1\n", "got numbers behind them"),
        ("cat, dog, bird\n", "got only 'cat, dog, bird'; write one name per line"),
    ],
)
def test_what_is_no_part_of_a_name_is_said_and_not_drawn(write: Write, text: str, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        load_classes(write("classes.txt", text))


def test_numbers_and_joiners_that_are_a_part_of_names_stay(write: Write) -> None:
    names = ["stage 0", "stage 1", "\U0001f469\u200d\U0001f680", "\u0645\u06cc\u200c\u0631"]
    assert [item.name for item in load_classes(write("classes.txt", "\n".join(names)))] == names
    assert [item.name for item in load_classes(write("classes.txt", "stage 0\nstage 1"))] == names[:2]


@pytest.mark.parametrize(
    "text", ['{"names": ["cat", "dog"]}', '{"label2id": {"dog": 1, "cat": 0}}',
             '{"idx2label": {"1": "dog", "0": "cat"}}', '[["n02121808", "cat"], ["n02084071", "dog"]]'],
)  # fmt: skip
def test_json_of_other_programs_has_names_in_order(write: Write, text: str) -> None:
    assert [item.name for item in load_classes(write("classes.json", text))] == ["cat", "dog"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"1": "cat", "2": "dog"}', "expected the numbers 0 to 1 of the classes in .*, got 1 to 2; number"),
        ('{"cat": 0, "dog": 2}', "expected the numbers 0 to 1 of the classes in .*, got 0 to 2; number"),
        ('{"crane": 0, "cat": 2, "crane": 1}', "expected every key once in .*, got 'crane' twice"),
    ],
)
def test_json_whose_numbers_are_no_labels_is_refused(write: Write, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_classes(write("classes.json", text))


def test_a_column_of_numbers_is_not_taken_for_names(write: Write) -> None:
    with pytest.raises(UserError, match="got 'label'; take it away: the order of the rows numbers the classes"):
        load_classes(write("classes.csv", "label,name\n1,dog\n0,cat\n"))


def test_classes_of_one_synset_need_definitions(write: Write) -> None:
    rows = "crane,n02012849,{}\nbird,n02012849,{}\n"
    with pytest.raises(UserError, match="got n02012849 for 'crane' and 'bird'; give one another synset, or each a def"):
        load_classes(write("classes.csv", "name,synset,definition\n" + rows.format("", "")))
    path = write("classes.csv", "name,synset,definition\n" + rows.format("a young one", "an old one"))
    assert len(load_classes(path)) == 2


def test_json_has_names_or_rows(write: Write) -> None:
    path = write("classes.json", '["crane", {"name": "mouse", "definition": "a computer mouse"}]')
    assert load_classes(path) == [ClassName("crane"), ClassName("mouse", "a computer mouse")]


CSV = """\ufeffName,definition,polysemous,synset,synonyms,styles

crane,"a large wading bird,
 long-necked",true,n02012849, crane bird | wader,photo
"3"" nail",a nail,,,,
#1 | größte; Zahl
"""
TSV = """\
definition\tname\tstyles\tsynset\tsynonyms\tpolysemous
a large wading bird, long-necked\tcrane\tphoto\tn02012849\tcrane bird;wader\tyes
a nail\t"3"" nail"\t\t\t\tno
\t#1 | größte; Zahl
"""
TOML = """
[[classes]]
name = "crane"
definition = '''a large wading bird,
long-necked'''
polysemous = true
synset = "n02012849"
synonyms = ["crane bird", "wader"]
styles = ["photo"]
[[classes]]
name = '3" nail'
definition = "a nail"
[[classes]]
name = "#1 | größte; Zahl"
"""
ROWS = [
    {"name": "crane", "definition": "a large wading bird, long-necked", "polysemous": True, "synset": "n02012849",
     "synonyms": "crane bird; wader", "styles": ["photo"]},
    {"name": '3" nail', "definition": "a nail", "synset": None},
    "#1 | größte; Zahl",
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.csv", CSV),
        ("classes.tsv", TSV),
        ("classes.toml", TOML),
        ("classes.json", json.dumps(ROWS)),
    ],
)
def test_the_same_list_in_every_format(write: Write, name: str, text: str) -> None:
    assert load_classes(write(name, text)) == CLASSES


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "name,synsets\ncat,\n", "got 'synsets'; perhaps synset"),
        ("a.csv", "cat\ndog\n", "expected a first line that names the columns, such as name,definition, in"),
        ("a.txt", "cat\ta pet\ndog\ta pet\n", "got a table with tabs; save it as .tsv"),
        ("a.txt", "0 cat\n1 dog\n", "got numbers before them ('0 cat', '1 dog'); take them away"),
        ("a.txt", "1: cat\n2: dog\n", "got numbers before them ('1: cat', '2: dog'); take them away"),
        ("a.csv", "definition\nmeows\n", "expected a column name"),
        ("a.csv", "name,name\ncat,dog\n", "and none twice"),
        ("a.csv", "name,definition\ncat,a pet, small\n", "expected 2 columns in class 1"),
        ("a.csv", 'name\n"cat\n', "got in line 2"),
        ("a.csv", "name,definition\n,meows\ndog,\n", "expected a name in class 1"),
        ("a.csv", "name,polysemous\ncat,maybe\n", "expected true or false as polysemous in class 1"),
        ("a.toml", "[[classes]\n", "expected TOML"),
        ("a.toml", 'names = ["a"]\n', "expected only [[classes]] tables"),
        ("a.toml", "[[classes]]\nname = 1\n", "expected text as name in class 1"),
        ("a.toml", '[[classes]]\nname = "a"\nsynonyms = 1\n', "expected a list of texts as synonyms"),
        ("a.json", "{", "expected JSON"),
        ("a.json", "[" * 100_000, "expected JSON"),
        ("a.json", '{"name": "a"}', "expected a JSON list"),
        ("a.json", '"a"', "expected a JSON list"),
        ("a.json", '[{"label": "a"}]', "expected a name in class 1"),
        ("a.json", '[{"name": "a", "defintion": "b"}]', "perhaps definition"),
        ("a.yaml", "- cat\n", "expected a class list that ends in .txt, .csv"),
    ],
)
def test_bad_files_are_refused(write: Write, name: str, text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        load_classes(write(name, text))
    assert message in str(error.value)


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("größe\n".encode("latin-1"))
    with pytest.raises(UserError, match="expected a readable class list"):
        load_classes(str(tmp_path / "a.txt"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", '{"0": "cat", "1": "dog"}'),
        ("a.json", '{"1": "dog", "0": "cat"}'),
        ("a.json", '{"dog": 1, "cat": 0}'),
        ("a.json", '{"class_to_idx": {"cat": 0, "dog": 1}}'),
        ("a.json", '{"classes": ["cat", "dog"]}'),
        ("a.csv", "name;definition\ncat;\ndog;\n"),
        ("a.txt", "\ufeffcat\r\n\r\ndog\r\n"),
        ("a.txt", "cat\rdog"),
    ],
)
def test_forms_in_which_people_keep_their_classes(write: Write, name: str, text: str) -> None:
    assert load_classes(write(name, text)) == [ClassName("cat"), ClassName("dog")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("map.txt", "n02119789 kit fox, Vulpes macrotis\nn02100735 English setter\n"),
        ("map.txt", "n02119789\tkit fox, Vulpes macrotis\nn02100735\tEnglish setter\n"),
    ],
)
def test_imagenets_list_of_synsets_and_names(write: Write, name: str, text: str) -> None:
    assert load_classes(write(name, text)) == [
        ClassName("kit fox", synset="n02119789", synonyms=("Vulpes macrotis",)),
        ClassName("English setter", synset="n02100735"),
    ]


def test_keras_index_of_classes(write: Write) -> None:
    classes = load_classes(write("index.json", '{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}'))
    assert classes == [ClassName("tench", synset="n01440764"), ClassName("goldfish", synset="n01443537")]


def test_numbers_that_are_a_part_of_names_stay(write: Write) -> None:
    for names in (["1 euro", "2 euro"], ["0", "1", "2"], ["8-ball", "18-wheeler"]):
        assert [item.name for item in load_classes(write("a.txt", "\n".join(names)))] == names


def test_a_name_has_one_spelling(write: Write) -> None:
    """A Mac writes an accent as a character of its own, and pages have blanks that don't break."""
    assert [item.name for item in load_classes(write("a.txt", "cafe\u0301\ntraffic\u00a0light\n"))] == [
        "caf\u00e9",
        "traffic light",
    ]


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_another_encoding_is_said_so(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("caf\u00e9\nbus\n".encode(encoding))
    with pytest.raises(UserError, match=r"expected a readable class list in UTF-8, got .* save it as UTF-8"):
        load_classes(str(tmp_path / "a.txt"))
