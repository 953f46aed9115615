"""The vault: the only place with real paths, identifiers and dates, sealed with a key that lies elsewhere.

A sealed file is AES-256-GCM (NIST SP 800-38D) over zlib-compressed JSON under a data key of its own; the vault key
wraps the data key only, so that a new vault key means re-wrapping 60 bytes a file and no re-encryption.

    magic 8 | key name 8 | wrap nonce 12 | wrapped data key 48 | nonce 12 | ciphertext

Folder `vault/`: `sources/part-*.vault` (source_id -> relative path), `crosswalk/part-*.vault` (identifiers of the
patients, studies and instances in that partition and what they became).
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pipelines.contract import BadInput, atomic

MAGIC = b"IMVAULT1"
_WRAPPED = slice(16, 76)
_HEADER = 88
SOURCES, CROSSWALK = "sources", "crosswalk"


@dataclass
class Crosswalk:
    """Pseudonym -> original, for authorised re-identification. Values are PHI: never logged."""

    patients: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Patient pseudonym -> {"id", "issuer", "names", "shift_days"}."""
    accessions: dict[str, str] = field(default_factory=dict)
    uids: dict[str, str] = field(default_factory=dict)


def seal(path: Path, value: Any, vault_key: bytes) -> None:
    """Write `value` (JSON) encrypted, atomically, readable by the owner only."""
    data_key, wrap_nonce, nonce = secrets.token_bytes(32), secrets.token_bytes(12), secrets.token_bytes(12)
    prefix = MAGIC + _key_name(vault_key)
    wrapped = wrap_nonce + AESGCM(vault_key).encrypt(wrap_nonce, data_key, prefix)
    # ASCII JSON keeps file names that are not valid UTF-8 (lone surrogates) intact.
    body = zlib.compress(json.dumps(value).encode("ascii"), 1)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with atomic(path) as temporary:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as f:
            f.write(prefix + wrapped + nonce + AESGCM(data_key).encrypt(nonce, body, MAGIC))


def unseal(path: Path, vault_key: bytes) -> Any:
    """The value of a sealed file; BadInput when the key is another one or the file was altered."""
    try:
        data = path.read_bytes()
    except OSError:
        raise BadInput(f"The vault file {path.name} cannot be read; check the folder and who may read it.") from None
    data_key = _data_key(path, data, vault_key)
    try:
        body = AESGCM(data_key).decrypt(data[_WRAPPED.stop : _HEADER], data[_HEADER:], MAGIC)
    except InvalidTag:
        raise BadInput(f"The vault file {path.name} was altered or cut off; restore it from a backup.") from None
    return json.loads(zlib.decompress(body))


def rewrap(path: Path, old_key: bytes, new_key: bytes) -> None:
    """Put a sealed file under another vault key without touching its content; already done counts as done."""
    data = path.read_bytes()
    if data[8:16] == _key_name(new_key):
        return
    data_key = _data_key(path, data, old_key)
    prefix, nonce = MAGIC + _key_name(new_key), secrets.token_bytes(12)
    with atomic(path) as temporary:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as f:
            f.write(prefix + nonce + AESGCM(new_key).encrypt(nonce, data_key, prefix) + data[_WRAPPED.stop :])


def sealed_files(folder: Path) -> list[Path]:
    """Every sealed file of a run folder, for re-wrapping and backup."""
    return sorted((folder / "vault").rglob("*.vault"))


def resolve_sources(folder: Path, vault_key: bytes) -> dict[str, str]:
    """source_id -> relative path in the export, of a whole run folder."""
    paths: dict[str, str] = {}
    for file in _parts(folder, SOURCES):
        paths.update(unseal(file, vault_key))
    return paths


def crosswalk(folder: Path, vault_key: bytes) -> Crosswalk:
    """Who is who in a de-identified folder: patients, accession numbers and UIDs."""
    merged = Crosswalk()
    for file in _parts(folder, CROSSWALK):
        part = unseal(file, vault_key)
        for pseudonym, patient in part["patients"].items():
            known = merged.patients.setdefault(pseudonym, patient)
            known["names"] = sorted({*known["names"], *patient["names"]})
        merged.accessions.update(part["accessions"])
        merged.uids.update(part["uids"])
    return merged


def _parts(folder: Path, kind: str) -> list[Path]:
    files = sorted((folder / "vault" / kind).glob("part-*.vault"))
    if not files:
        raise BadInput(f"{folder.name} holds no vault; give the folder of a finished de-identification.")
    return files


def _data_key(path: Path, data: bytes, vault_key: bytes) -> bytes:
    if data[:8] != MAGIC:
        raise BadInput(f"{path.name} is not a vault file of this version.")
    wrapped = data[_WRAPPED]
    try:
        return AESGCM(vault_key).decrypt(wrapped[:12], wrapped[12:], data[:16])
    except InvalidTag:
        raise BadInput("The vault was sealed with another vault key; give the key of this site.") from None


def _key_name(vault_key: bytes) -> bytes:
    return hashlib.sha256(b"intramural vault key name" + vault_key).digest()[:8]
