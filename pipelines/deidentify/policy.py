"""Policies: which profile and options of PS3.15 Annex E apply, as a TOML file with a digest."""

from __future__ import annotations

import hashlib
import json
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipelines.contract import BadInput, sha256_file
from pipelines.deidentify.reports.house import House

FOLDER = Path(__file__).parent
DATA = FOLDER / "data"
TABLE = DATA / "ps3_15_e1_1.csv"
EDITION = "2024e"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Options(_Part):
    """Options of PS3.15 E.3. Clean Pixel Data (E.3.1) is `Pixels`, Retain Safe Private (E.3.10) is `Private`."""

    patient_characteristics: bool = False
    """E.3.7: age (over 89 as 90), sex, size, weight and the like."""
    dates: Literal["remove", "shift", "keep"] = "remove"
    """E.3.6: `shift` is Modified Dates, every date of a patient moved by the same whole weeks; `keep` is Full Dates."""
    uids: Literal["replace", "keep"] = "replace"
    """E.3.9 Retain UIDs. Unless dates are kept as well, a UID in which a date stands is replaced all the same."""
    descriptors: Literal["remove", "clean"] = "remove"
    """E.3.5: `clean` keeps the clinical words of short descriptions."""
    graphics: Literal["remove", "clean"] = "remove"
    """E.3.3: `clean` keeps overlays without text in them, and the shapes and clinical words of presentation states."""
    structured_content: Literal["remove", "clean"] = "remove"
    """E.3.4: `clean` keeps codes, numbers and references of content items, and the clinical words of their texts."""
    visual_features: Literal["flag", "quarantine"] = "flag"
    """E.3.2: a head that could be drawn from the object is said to be one, or quarantined. Nothing is defaced."""
    device: bool = False
    """E.3.8 Retain Device Identity."""
    institution: bool = False
    """E.3.11 Retain Institution Identity."""


class PrivateElement(_Part):
    """A private data element known to be safe, by its creator (E.3.10)."""

    creator: str = Field(min_length=1, max_length=64, pattern=r"^[^\\^]+$")
    group: int = Field(ge=9, le=0xFFFF)
    element: int = Field(ge=0, le=0xFF)
    vr: str = Field("", pattern=r"^([A-Z]{2})?$")
    """VR to read it by where the source does not say (implicit VR, UN)."""


class Private(_Part):
    standard: bool = False
    """Keep what Table E.3.10-1 lists as safe (data/safe_private.csv)."""
    keep: tuple[PrivateElement, ...] = ()
    """And what the site knows to be safe."""


class Pixels(_Part):
    """E.3.1: `clean` blanks burned-in text, `quarantine` writes no object that has any."""

    mode: Literal["clean", "quarantine"] = "clean"


class Reports(_Part):
    style: Literal["surrogates", "tags"] = "surrogates"
    house: House = House()
    """What the site knows of itself; in a file also the name of a TOML file beside the policy."""
    model: str = ""
    """Folder of the site's own de-identifier, beside the policy or by its whole path; empty takes spaCy's model."""
    model_sha256: str = Field("", pattern=r"^([0-9a-f]{64})?$")
    """Of the files in that folder: read_policy writes it down, so that the digest follows the model."""
    general: bool = False
    """The texts are letters and notes of any kind: places and organisations go as well, with some clinical words."""


class Policy(_Part):
    """A de-identification policy, as written in TOML."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")
    summary: str = ""
    edition: Literal["2024e"] = "2024e"
    options: Options = Options()
    private: Private = Private()
    pixels: Pixels = Pixels()
    reports: Reports = Reports()

    @model_validator(mode="after")
    def _without_conflicts(self) -> Policy:
        if found := conflicts(self.model_dump()):
            raise ValueError("; ".join(found))
        return self

    @property
    def digest(self) -> str:
        """SHA-256 over what the policy does: its settings, all of them, and the tables they select from."""
        return _digest(self)

    @property
    def keeps_private(self) -> bool:
        """Whether Retain Safe Private is chosen."""
        return self.private.standard or bool(self.private.keep)


def conflicts(values: dict[str, Any]) -> list[str]:
    """Settings that exclude each other, a sentence each. `values` may hold anything a TOML file can hold."""
    options, reports, pixels = (_table(values, key) for key in ("options", "reports", "pixels"))
    found = []
    dates = options.get("dates", "remove")
    if isinstance(dates, list):
        found.append("'options.dates': full and modified dates exclude each other (PS3.15 E.3.6); choose keep or shift")
    elif reports.get("style", "surrogates") == "surrogates" and dates != "shift":
        found.append("'reports.style': surrogates need options.dates = 'shift', so that text and header agree")
    if reports.get("general") is True and reports.get("model"):
        found.append("'reports.general': a site's own model reads general text by itself; choose one of the two")
    if options.get("visual_features") == "clean":
        found.append("'options.visual_features': nothing here takes faces out of images; choose flag or quarantine")
    if pixels.get("mode") in ("off", "keep", "none"):
        found.append("'pixels.mode': no image is written whose pixels were not looked at; choose clean or quarantine")
    kept = _table(values, "private").get("keep")
    kept = kept if isinstance(kept, list | tuple) else ()
    places = [(e.get("creator"), e.get("group"), e.get("element")) for e in kept if isinstance(e, dict)]
    if any(isinstance(group, int) and group % 2 == 0 for _, group, _ in places):
        found.append(
            "'private.keep': a private group is odd (PS3.5 section 7.8); the even ones follow the standard's table"
        )
    if len({str(p) for p in places}) < len(places):
        found.append("'private.keep': an element is named twice; name it once")
    return found


def presets() -> list[str]:
    """Names of the policies that come with the product."""
    return sorted(p.stem for p in (FOLDER / "policies").glob("*.toml"))


def load_policy(name: str) -> Policy:
    """A preset by name or a TOML file by path; BadInput names every mistake at once."""
    values = read_policy(name)
    if wrong := mistakes(values):
        raise BadInput(f"The policy {Path(name).name} is not valid: {'; '.join(wrong)}.")
    return Policy.model_validate(values)


def read_policy(name: str) -> dict[str, Any]:
    """The settings of a preset or a TOML file as they stand; BadInput when there is no such file or it is no TOML."""
    path = FOLDER / "policies" / f"{name}.toml" if name in presets() else Path(name)
    try:
        values = _toml(path)
    except OSError:
        raise BadInput(f"There is no policy '{path.name}'; choose {' or '.join(presets())} or a TOML file.") from None
    return _with_what_lies_beside(values, path.parent)


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise BadInput(f"The policy {path.name} is not valid TOML: it is not UTF-8; save it as UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"The policy {path.name} is not valid TOML: {str(error).lower()}; correct it.") from None


def _with_what_lies_beside(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The settings with the file of `reports.house` read and the folder of `reports.model` found and summed."""
    reports = _table(values, "reports")
    house, model = reports.get("house"), reports.get("model")
    if isinstance(house, str):
        try:
            reports = reports | {"house": _toml(folder / house)}
        except OSError:
            raise BadInput(
                f"The policy names the house file {house}, which cannot be read; put it beside it."
            ) from None
    if isinstance(model, str) and model:
        place = (folder / model).resolve()
        if not (place / "config.json").is_file():
            raise BadInput(f"The policy names the model {place.name}; give the folder that save_pretrained wrote.")
        reports = reports | {"model": str(place), "model_sha256": _folder_sha256(place)}
    return values | {"reports": reports} if reports else values


def _folder_sha256(folder: Path) -> str:
    lines = [f"{p.name} {sha256_file(p)}" for p in sorted(folder.iterdir()) if p.is_file()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def mistakes(values: dict[str, Any]) -> list[str]:
    """Everything that is wrong with the settings of a policy file, a sentence each; empty when it is valid."""
    told = conflicts(values)
    named = {sentence.split("'")[1] for sentence in told}
    try:
        Policy.model_validate(values)
    except ValidationError as error:
        for e in error.errors():
            place = ".".join(map(str, e["loc"]))
            if place and place not in named:
                told.append(f"'{place}': {_sentence(e)}")
    return told


def _sentence(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        part: Any = Policy
        for key in error["loc"][:-1]:
            annotation = part.model_fields[key].annotation if isinstance(key, str) else part
            part = PrivateElement if key == "keep" else annotation
        return f"there is no such setting; choose from {', '.join(part.model_fields)}"
    message: str = error["msg"]
    return message[0].lower() + message[1:]


def _table(values: dict[str, Any], key: str) -> dict[str, Any]:
    found = values.get(key)
    return found if isinstance(found, dict) else {}


@cache
def _digest(policy: Policy) -> str:
    # Of the model what is in it counts, not where it lies.
    left_out: Any = {"name": True, "summary": True, "reports": {"model"}}
    settings: dict[str, Any] = policy.model_dump(mode="json", exclude=left_out)
    files = sorted(p for folder in (DATA, FOLDER / "reports" / "data") for p in folder.iterdir() if p.is_file())
    settings["tables"] = {p.relative_to(FOLDER).as_posix(): sha256_file(p) for p in files}
    canonical = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
