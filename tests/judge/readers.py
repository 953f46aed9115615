"""Other DICOM software as readers of outputs: dcmtk, gdcm, and dicom3tools' check against the standard's IODs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

TOOLS = ("dcmdump", "dcmftest", "dciodvfy", "gdcminfo", "gdcmconv")
MISSING = [tool for tool in TOOLS if shutil.which(tool) is None]
_NUMBERS = re.compile(r"0x[0-9a-f]+|\d[\d.]*")


def refusals(path: Path) -> list[str]:
    """Readers that do not open a file. dcmdump parses all of it, dcmftest its meta, gdcminfo the image."""
    commands = {"dcmdump": ["-q"], "dcmftest": [], "gdcminfo": []}
    return [tool for tool, options in commands.items() if _run(tool, *options, str(path)).returncode != 0]


def decodes(path: Path, scratch: Path) -> bool:
    """Whether gdcm, whose codecs are its own, decodes all frames."""
    return _run("gdcmconv", "--raw", str(path), str(scratch / "decoded.dcm")).returncode == 0


def errors(path: Path) -> set[str]:
    """What dciodvfy calls errors, numbers and quoted values left out, so that source and output compare.

    A run that dciodvfy itself does not survive counts as one error of its own.
    """
    done = _run("dciodvfy", str(path))
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error") or " Error " in line]
    found = {_NUMBERS.sub("#", re.sub(r"<[^<>]*>(?= for value)|= <[^<>]*>", "<>", line)).strip() for line in lines}
    return found | ({"dciodvfy was killed"} if done.returncode < 0 else set())


def _run(tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([tool, *arguments], capture_output=True, text=True, errors="replace", timeout=120)
