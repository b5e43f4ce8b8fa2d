"""Opens each source that it is told on the first line of stdin, with the network cut; the rest of stdin says "y"."""

import json
import os
import socket
import sys

connections: list[str] = []


def refuse(*arguments: object, **_: object) -> None:
    connections.append(repr(arguments[-1]))
    raise OSError("the network is cut")


# Before any import that could keep the functions themselves
socket.socket.connect = refuse  # type: ignore[method-assign]
socket.getaddrinfo = refuse  # type: ignore[assignment]
os.environ.pop("HF_HUB_OFFLINE", None)

from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from prismkd.classes import load_classes  # noqa: E402
from prismkd.classes.wordnet import find_synset  # noqa: E402
from prismkd.classifiers import load_judge, load_teacher  # noqa: E402
from prismkd.config import GeneratorConfig  # noqa: E402
from prismkd.distillation.student import initial_weights  # noqa: E402
from prismkd.errors import UserError  # noqa: E402
from prismkd.generators import load_generator  # noqa: E402

NAMES = ["bell", "cat", "ship"]


def open_source(name: str, source: str) -> Any:
    """As a command does it."""
    if not name.startswith("generator"):
        return load_teacher(source, NAMES)
    return load_generator(GeneratorConfig(source=source, num_inference_steps=2, device="cpu"))


def main() -> None:
    loaded, refused = json.loads(sys.stdin.readline())
    problems: dict[str, str] = {}
    lines: dict[str, str] = {}
    for name, source in loaded.items():
        try:
            open_source(name, source)
        except BaseException as error:
            problems[name] = f"{type(error).__name__}: {error}"
    unread = sys.stdin.read().count("y")
    sys.stdin.close()
    for name, source in refused.items():
        try:
            open_source(name, source)
            problems[name] = "opened"
        except UserError as error:
            lines[name] = str(error)
        except BaseException as error:
            problems[name] = f"{type(error).__name__}: {error}"
    load_judge(loaded["timm"], NAMES)
    load_judge("pictograms", [item.name for item in load_classes("pictograms")])
    initial_weights(str(Path(loaded["own"], "model.safetensors")))
    find_synset("n02084071")
    print(json.dumps({"problems": problems, "lines": lines, "connections": connections, "unread": unread}))


main()
