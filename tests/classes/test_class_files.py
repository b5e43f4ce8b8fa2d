"""Class list files: formats, and files that are broken."""

import json
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
    path = write("classes.txt", "\ufeff10\n2\n\n tabby cat \n# is a name\n")
    assert [item.name for item in load_classes(path)] == ["10", "2", "tabby cat", "# is a name"]


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
        ("a.csv", "cat\ndog\n", "got 'cat'; name only these"),
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
