"""The pages of docs as what a person would type: their blocks of one language, and a shell to run them in."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

BIN = Path(sys.executable).parent


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.MULTILINE | re.DOTALL)


def environment(home: Path, **more: str) -> dict[str, str]:
    """A person's shell with keys of its own; the environment is already set up."""
    own = {"PATH": f"{BIN}:{os.environ['PATH']}", "XDG_CONFIG_HOME": str(home / "config"), "PYTHONPATH": str(ROOT)}
    return os.environ | own | more


def bash(script: str, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=cwd, env=env, capture_output=True, text=True)
