"""Files that a site writes to go beside the product's own lists: how they are read, and what names their content."""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any

from pipelines.contract import BadInput


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The tables of a TOML file in UTF-8, with or without a byte order mark. BadInput calls the file `what`."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError:
        raise BadInput(f"The {what} {path.name} cannot be read; check the path.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"The {what} {path.name} is not valid TOML ({error}).") from None


def digest_of(values: dict[str, Any]) -> str:
    """Names the content of lists or settings, whatever their order: 12 hexadecimal digits of a SHA-256."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]
