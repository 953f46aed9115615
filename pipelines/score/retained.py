"""What a policy keeps on purpose (PS3.15 E.3 Retain options): planted values that are then no leak."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.contract import read_json
from pipelines.score.key import Key, Planted

_DEVICE = frozenset({"StationName", "DeviceSerialNumber", "DetectorID", "GantryID", "PlateID", "CassetteID"})
_BIRTH = "BirthDate"


@dataclass(frozen=True)
class Retained:
    """The retain options of a de-identified folder, as its result.json tells them."""

    dates: bool = False
    uids: bool = False
    device: bool = False
    institution: bool = False

    @staticmethod
    def of(folder: Path) -> Retained:
        """Of a folder; one whose result does not tell keeps nothing."""
        told = read_json(folder / "result.json").get("policy_options", {})
        kept = {"dates": told.get("dates") == "keep", "uids": told.get("uids") == "keep"}
        return Retained(**kept, device=bool(told.get("device")), institution=bool(told.get("institution")))

    def is_kept(self, value: Planted) -> bool:
        """Whether a planted header value stays by an option. Birth dates never do, nor does anything in a report."""
        if value.where == "report":
            return False
        if value.kind == "DATE":
            return self.dates and _BIRTH not in value.where
        if value.kind == "UID":
            return self.uids
        attribute = value.where.rsplit(".", 1)[-1]
        return (self.device and attribute in _DEVICE) or (self.institution and attribute.startswith("Institution"))

    def without(self, key: Key) -> Key:
        """The key without the values that are kept."""
        instances = [replace(i, planted=tuple(p for p in i.planted if not self.is_kept(p))) for i in key.instances]
        return replace(key, instances=instances)
