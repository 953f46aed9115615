"""The derivation secret of a site and everything that follows from it (DESIGN, "Keys").

Stateless: the same secret gives the same pseudonyms on every machine, in any order, so nothing has to be looked up
and nothing can be lost. Uses are separated by HKDF (RFC 5869) so that no value of one use says anything of another.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import secrets
import stat
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pipelines.contract import BadInput

SPLITS = ("train", "validation", "test")
# Splits are for ever: these thresholds on the keyed hash of a patient are never a setting.
TRAIN_BELOW, VALIDATION_BELOW = 0.70, 0.80
SHIFT_WEEKS = 520


@dataclass(frozen=True)
class DerivationSecret:
    """A site's secret in one epoch. Values of two epochs, or two sites, share nothing."""

    site: str
    epoch: int
    secret: bytes

    @staticmethod
    def create(path: Path, site: str = "site", epoch: int = 1) -> DerivationSecret:
        """Make a new secret file with mode 0600; refuses to overwrite."""
        record = {"site": site, "epoch": epoch, "secret": base64.b64encode(secrets.token_bytes(32)).decode()}
        _write_private(path, json.dumps(record))
        return DerivationSecret.load(path)

    @staticmethod
    def load(path: Path) -> DerivationSecret:
        """Read a secret file; BadInput when it is missing, malformed or readable by others."""
        record = json.loads(_read_private(path, "derivation secret"))
        return DerivationSecret(record["site"], record["epoch"], base64.b64decode(record["secret"]))

    @cached_property
    def fingerprint(self) -> str:
        """Names site and epoch in results without saying anything of the secret."""
        return self._hash("fingerprint", "").hex()[:16]

    def uid(self, uid: str) -> str:
        """Replacement UID under 2.25 (PS3.5 B.2), at most 44 characters; joined references stay joined."""
        return "2.25." + str(int.from_bytes(self._hash("uid", uid.strip("\0 "))[:16], "big"))

    def patient(self, issuer: str, patient_id: str) -> str:
        """Pseudonym of (issuer, ID): `P` and 16 base-32 characters."""
        return "P" + self._code("patient", _fields(issuer.strip().upper(), patient_id.strip()))

    def accession(self, accession: str) -> str:
        """Pseudonym of an accession number: `A` and 15 base-32 characters (SH allows 16)."""
        return "A" + self._code("accession", accession.strip())[:15]

    def visit(self, patient: str, day: date) -> str:
        """Keyed hash of a patient (by pseudonym) and a day, to join a report to the study of that day."""
        return self._hash("visit", _fields(patient, day.isoformat())).hex()[:32]

    def shift_days(self, patient: str) -> int:
        """Date shift of a patient (by pseudonym): whole weeks back, 1 to 520, never zero."""
        return -7 * (1 + int(self._unit("shift", patient) * SHIFT_WEEKS))

    def source_id(self, relative_path: str) -> str:
        """Keyed hash of an input path; the path itself lives only in the vault."""
        return self._hash("path", relative_path).hex()[:32]

    def split(self, patient: str) -> str:
        """`train`, `validation` or `test` of a patient pseudonym, for ever."""
        unit = self._unit("split", patient)
        return SPLITS[0] if unit < TRAIN_BELOW else SPLITS[1] if unit < VALIDATION_BELOW else SPLITS[2]

    def order(self, patient: str) -> float:
        """Position in [0, 1) of a patient in the one keyed order whose prefixes are the nested subsets."""
        return self._unit("order", patient)

    def surrogate(self, kind: str, value: str) -> int:
        """A keyed integer to choose a surrogate by (report text), or any other keyed choice."""
        return int.from_bytes(self._hash("surrogate", _fields(kind, value))[:8], "big")

    def _unit(self, use: str, value: str) -> float:
        return (int.from_bytes(self._hash(use, value)[:8], "big") >> 11) / (1 << 53)

    def _code(self, use: str, value: str) -> str:
        return base64.b32encode(self._hash(use, value)[:10]).decode()

    def _hash(self, use: str, value: str) -> bytes:
        return hmac.digest(self._keys(use), value.encode("utf-8", "surrogateescape"), "sha256")

    def _keys(self, use: str) -> bytes:
        cache: dict[str, bytes] = self.__dict__.setdefault("_cache", {})
        if use not in cache:
            info = _fields("intramural", self.site, str(self.epoch), use).encode()
            cache[use] = HKDF(SHA256(), 32, salt=None, info=info).derive(self.secret)
        return cache[use]


def load_vault_key(path: Path) -> bytes:
    """The 32-byte vault key, kept apart from the derivation secret and from the data."""
    return base64.b64decode(_read_private(path, "vault key"))


def create_vault_key(path: Path) -> bytes:
    """Make a new vault key file with mode 0600; refuses to overwrite."""
    _write_private(path, base64.b64encode(secrets.token_bytes(32)).decode())
    return load_vault_key(path)


def _fields(*values: str) -> str:
    """Join without ambiguity: ("a", "bc") and ("ab", "c") differ."""
    return "".join(f"{len(v)}:{v}" for v in values)


def _write_private(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise BadInput(f"The key file {path.name} exists already; keys are never overwritten.") from None
    with os.fdopen(handle, "w") as f:
        f.write(text + "\n")
        f.flush()
        os.fsync(f.fileno())


def _read_private(path: Path, what: str) -> str:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        text = path.read_text()
    except OSError:
        raise BadInput(f"The {what} file {path.name} cannot be read; check the path and who may read it.") from None
    if mode & 0o077:
        raise BadInput(f"The {what} file {path.name} is open to other users; run chmod 600 on it.")
    return text
