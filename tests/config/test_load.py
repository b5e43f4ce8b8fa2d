"""Configuration files: what they set, and the one-line errors."""

from pathlib import Path

import pytest

from prismkd.config import Config
from prismkd.config.load import load_config
from prismkd.errors import UserError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return path


def test_unnamed_settings_keep_their_defaults(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "[guidance]\nstrength = 1\n"))
    assert config.guidance.strength == 1.0
    assert config.generator == Config().generator


@pytest.mark.parametrize("path", sorted(Path("configs").glob("*.toml")), ids=lambda path: path.name)
def test_shipped_configurations_parse(path: Path) -> None:
    assert load_config(path) != Config()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[guidance]\nstrenght = 1", "got guidance.strenght; perhaps guidance.strength"),
        ("[guidance]\nadam = false", "expected a known configuration key, got guidance.adam"),  # of earlier versions
        ("method = ['plain']", "got method; perhaps methods"),
        ("methods = ['plan']", "got 'plan'; perhaps plain"),
        ("[guidance]\nstrength = 'high'", "expected float for guidance.strength, got 'high'"),
        ("seeds = 1", "expected a list for seeds, got 1"),
        ("guidance = 3", "expected a table [guidance], got 3"),
        ("[synthesis]\nimages_per_class = 0", "expected a positive synthesis.images_per_class, got 0"),
        ("[prompts]\nid_share = 1.5", "expected prompts.id_share from 0 to 1, got 1.5"),
        ("[prompts]\ntemplate = 'an icon'", "expected {name} in prompts.template"),
        ("[prompts]\npilot_share = 1.0", "expected prompts.pilot_share from 0 to below 1, got 1.0"),
        ("[prompts]\nnum_content_probes = -1", "expected prompts.num_content_probes from 0 to 10000"),
        ("[prompts.language_model]\nurl = 'localhost'\nmodel = 'm'", "expected prompts.language_model.url such as"),
        ("[prompts.language_model]\nurl = 'http://localhost/v1'", "and its model, got"),
        ("[prompts.language_model]\nurl = 'http://me:secret@host/v1'\nmodel = 'm'", "without user and password"),
        ("[prompts.language_model]\ntimeout = 0", "expected a positive prompts.language_model.timeout"),
        ("[teacher_preprocessing]\nresize = [1, 2, 3]", "one or two numbers for teacher_preprocessing.resize, got 3"),
        ("[teacher_preprocessing]\ncrop = [0]", "expected teacher_preprocessing.crop from 1 to"),
        ("[teacher_preprocessing]\nstd = [0.0]", "expected teacher_preprocessing.std above 0 and up to 2"),
        ("[teacher_preprocessing]\ninterpolation = 'cubic'", "perhaps bicubic"),
        ("teacher = 'a.toml'\n[teacher_preprocessing]\nresize = [8]", "for one teacher, got several in a.toml"),
        ("seeds = [", "expected TOML in"),
        ("seeds = []", "expected at least one seed"),
        ("a = " + "[" * 20000, "expected TOML in"),
        ("[synthesis]\nimages_per_class = " + "9" * 400, "expected a number of 64 bits as synthesis.images_per_class"),
        ("[prompts]\nid_share = " + "9" * 400, "expected a number of 64 bits as prompts.id_share"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        load_config(write(tmp_path, text))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a configuration file"):
        load_config(tmp_path / "none.toml")
