"""A run's folder is read, compared and shown without torch, which takes seconds to import."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "package",
    [
        "prismkd.records",
        "prismkd.report",
        "prismkd.data.decode",
        "prismkd.data.class_folders",
        "prismkd.delivery.predict",
    ],
)
def test_no_module_imports_torch(package: str) -> None:
    code = (
        "import pkgutil, sys, importlib\n"
        f"package = importlib.import_module({package!r})\n"
        "for module in pkgutil.iter_modules(getattr(package, '__path__', []), package.__name__ + '.'):\n"
        "    importlib.import_module(module.name)\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
