"""Policies: which profile and options of PS3.15 Annex E apply, as a TOML file with a digest."""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipelines.contract import BadInput, sha256_file

FOLDER = Path(__file__).parent
TABLE = FOLDER / "data" / "ps3_15_e1_1.csv"
EDITION = "2024e"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Options(_Part):
    """Options of PS3.15 E.3. Retain UIDs and Retain Full Dates are not offered: a release holds pseudonyms only."""

    patient_characteristics: bool = False
    """E.3.7: age (over 89 as 90), sex, size, weight and the like."""
    dates: Literal["remove", "shift"] = "remove"
    """E.3.6, modified dates: `shift` moves every date of a patient by the same whole weeks."""
    descriptors: Literal["remove", "clean"] = "remove"
    """E.3.5: `clean` keeps the clinical words of short descriptions."""
    device: bool = False
    """E.3.8 Retain Device Identity."""
    institution: bool = False
    """E.3.9 Retain Institution Identity."""


class PrivateElement(_Part):
    """A private data element known to be safe, by its creator (E.3.10)."""

    creator: str = Field(min_length=1)
    group: int = Field(ge=9, le=0xFFFF)
    element: int = Field(ge=0, le=0xFF)


class Private(_Part):
    keep: tuple[PrivateElement, ...] = ()


class Pixels(_Part):
    mode: Literal["clean"] = "clean"


class Reports(_Part):
    style: Literal["surrogates", "tags"] = "surrogates"


class Policy(_Part):
    """A de-identification policy, as written in TOML."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")
    summary: str = ""
    edition: Literal["2024e"] = "2024e"
    options: Options = Options()
    private: Private = Private()
    pixels: Pixels = Pixels()
    reports: Reports = Reports()

    @model_validator(mode="after")
    def _dates_agree(self) -> Policy:
        if self.reports.style == "surrogates" and self.options.dates != "shift":
            raise ValueError("reports with surrogates need options.dates = 'shift', so that text and header agree")
        return self

    @property
    def digest(self) -> str:
        """SHA-256 over what the policy does: its settings, all of them, and the table they select from."""
        settings: dict[str, Any] = self.model_dump(mode="json", exclude={"name", "summary"})
        settings["table"] = sha256_file(TABLE)
        canonical = json.dumps(settings, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def presets() -> list[str]:
    """Names of the policies that come with the product."""
    return sorted(p.stem for p in (FOLDER / "policies").glob("*.toml"))


def load_policy(name: str) -> Policy:
    """A preset by name or a TOML file by path; BadInput names every wrong key."""
    path = FOLDER / "policies" / f"{name}.toml" if name in presets() else Path(name)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        return Policy.model_validate(values)
    except OSError:
        raise BadInput(f"There is no policy '{path.name}'; choose {' or '.join(presets())} or a TOML file.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise BadInput(f"The policy {path.name} is not valid TOML; correct it.") from None
    except ValidationError as error:
        wrong = "; ".join(f"'{'.'.join(map(str, e['loc']))}': {e['msg'].lower()}" for e in error.errors())
        raise BadInput(f"The policy {path.name} is not valid: {wrong}.") from None
