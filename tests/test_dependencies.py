"""What the library imports is what it declares."""

import ast
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODULES = {"pillow": "PIL"}  # distributions whose module has another name; else the name with underscores


def imported() -> set[str]:
    """The third-party modules that any file of the library imports, at its top or inside of a function."""
    names = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(str(node.module).split(".")[0])
    return names - sys.stdlib_module_names - {"prismkd"}


def declared(requirements: list[str]) -> set[str]:
    distributions = (re.split(r"[\[<>=~! ]", requirement)[0] for requirement in requirements)
    return {MODULES.get(name, name.replace("-", "_")) for name in distributions}


def test_every_third_party_import_is_a_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    run_time = [name for extra in ("llm", "onnx", "ray", "s3") for name in extras[extra]]
    assert imported() - declared(project["dependencies"] + run_time) == set()
