"""The vault: the only place with real paths, identifiers, dates and before-images, sealed with a key kept elsewhere.

A sealed file is AES-256-GCM (NIST SP 800-38D) over zlib-compressed JSON under a data key of its own; the vault key
wraps the data key only, so that a new vault key means re-wrapping 60 bytes a file and no re-encryption.

    magic 8 | key name 8 | wrap nonce 12 | wrapped data key 48 | nonce 12 | ciphertext

The ciphertext is bound to its place, the random `vault/folder.id` and the path below `vault/`, as additional
authenticated data: a file that is renamed or brought from another folder does not open. Files of the first version
(IMVAULT1) were not bound to a place; they still open.

Folder `vault/`: `sources/part-*.vault` (source_id -> relative path), `crosswalk/part-*.vault` (identifiers of the
patients, studies and instances in that partition and what they became), `review/*.vault` (before-images and -values).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pipelines.contract import BadInput, atomic

MAGIC, MAGIC_UNBOUND = b"IMVAULT2", b"IMVAULT1"
_WRAPPED = slice(16, 76)
_HEADER = 88
SOURCES, CROSSWALK, REVIEW = "sources", "crosswalk", "review"
_ID, _ID_BYTES = "folder.id", 16


def sealed_item(root: Path, number: int) -> Path:
    """Where what an item of the review was before lies sealed."""
    return root / "vault" / REVIEW / f"{number:04d}.vault"


@dataclass
class Crosswalk:
    """Pseudonym -> original, for authorised re-identification. Values are PHI: never logged."""

    patients: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Patient pseudonym -> {"id", "issuer", "names", "shift_days"}."""
    accessions: dict[str, str] = field(default_factory=dict)
    uids: dict[str, str] = field(default_factory=dict)


def seal(path: Path, value: Any, vault_key: bytes) -> None:
    """Write `value` (JSON) encrypted, atomically, readable by the owner only, bound to its place."""
    data_key, wrap_nonce, nonce = secrets.token_bytes(32), secrets.token_bytes(12), secrets.token_bytes(12)
    prefix = MAGIC + _key_name(vault_key)
    wrapped = wrap_nonce + AESGCM(vault_key).encrypt(wrap_nonce, data_key, prefix)
    # ASCII JSON keeps file names that are not valid UTF-8 (lone surrogates) intact.
    body = zlib.compress(json.dumps(value).encode("ascii"), 1)
    _private_folders(path)
    place = _place(path, _make_folder_id(_root(path)))
    _write(path, prefix + wrapped + nonce + AESGCM(data_key).encrypt(nonce, body, place))


def unseal(path: Path, vault_key: bytes) -> Any:
    """The value of a sealed file; BadInput when the key is another one or the file was altered, cut off or moved."""
    data = _read(path)
    data_key = _data_key(path, data, vault_key)
    place = MAGIC_UNBOUND if data[:8] == MAGIC_UNBOUND else _place(path, _folder_id(_root(path)))
    try:
        body = AESGCM(data_key).decrypt(data[_WRAPPED.stop : _HEADER], data[_HEADER:], place)
    except InvalidTag:
        raise BadInput(
            f"The vault file {path.name} was altered, cut off or brought from another place; restore it from a backup."
        ) from None
    return json.loads(zlib.decompress(body))


def rewrap(path: Path, old_key: bytes, new_key: bytes) -> bool:
    """Put a sealed file under another vault key without touching its content; False when it is under it already."""
    data = _read(path)
    if data[8:16] == _key_name(new_key):
        _data_key(path, data, new_key)  # the name alone proves nothing
        return False
    data_key = _data_key(path, data, old_key)
    prefix, nonce = data[:8] + _key_name(new_key), secrets.token_bytes(12)
    _write(path, prefix + nonce + AESGCM(new_key).encrypt(nonce, data_key, prefix) + data[_WRAPPED.stop :])
    return True


def rewrap_folder(folder: Path, old_key: bytes, new_key: bytes) -> Iterator[bool]:
    """Re-wrap every sealed file of a run folder, yielding for each whether it was changed.

    Each file is replaced whole. A rotation that was killed is started again with the same two keys and goes on.
    """
    for left in (folder / "vault").rglob(".*.vault.*.part"):
        left.unlink(missing_ok=True)
    for path in sealed_files(folder):
        yield rewrap(path, old_key, new_key)


def sealed_files(folder: Path) -> list[Path]:
    """Every sealed file of a run folder, for re-wrapping and backup (with `vault/folder.id`)."""
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
    for part in crosswalk_parts(folder, vault_key):
        for pseudonym, patient in part.patients.items():
            known = merged.patients.setdefault(pseudonym, patient)
            known["names"] = sorted({*known["names"], *patient["names"]})
        merged.accessions.update(part.accessions)
        merged.uids.update(part.uids)
    return merged


def crosswalk_parts(folder: Path, vault_key: bytes) -> Iterator[Crosswalk]:
    """The crosswalk partition by partition, so that a large one need not be held whole."""
    for file in _parts(folder, CROSSWALK):
        part = unseal(file, vault_key)
        yield Crosswalk(part["patients"], part["accessions"], part["uids"])


def _parts(folder: Path, kind: str) -> list[Path]:
    files = sorted((folder / "vault" / kind).glob("part-*.vault"))
    if not files:
        raise BadInput(f"{folder.name} holds no vault; give the folder of a finished de-identification.")
    return files


def _data_key(path: Path, data: bytes, vault_key: bytes) -> bytes:
    if data[:8] not in (MAGIC, MAGIC_UNBOUND):
        raise BadInput(f"{path.name} is not a vault file of this version.")
    if len(data) <= _HEADER:
        raise BadInput(f"The vault file {path.name} was cut off; restore it from a backup.")
    wrapped = data[_WRAPPED]
    try:
        return AESGCM(vault_key).decrypt(wrapped[:12], wrapped[12:], data[:16])
    except InvalidTag:
        raise BadInput("The vault was sealed with another vault key; give the key of this site.") from None


def _key_name(vault_key: bytes) -> bytes:
    return hashlib.sha256(b"intramural vault key name" + vault_key).digest()[:8]


# ---- place -----------------------------------------------------------------------------------------------------


def _root(path: Path) -> Path:
    """The `vault` folder that a sealed file lies in."""
    return next((p for p in path.parents if p.name == "vault"), path.parent)


def _place(path: Path, folder_id: bytes) -> bytes:
    return MAGIC + folder_id + path.relative_to(_root(path)).as_posix().encode()


def _folder_id(root: Path) -> bytes:
    try:
        value = (root / _ID).read_bytes()
    except OSError:
        value = b""
    if len(value) != _ID_BYTES:
        raise BadInput(f"{_ID} of the vault is missing or damaged; restore the whole folder vault from a backup.")
    return value


def _make_folder_id(root: Path) -> bytes:
    """The id of a vault, made with its first file; of processes that start at once, one makes it."""
    if not (root / _ID).exists():
        temporary = root / f".{_ID}.{secrets.token_hex(8)}.part"
        _write(temporary, secrets.token_bytes(_ID_BYTES))
        with contextlib.suppress(FileExistsError):
            os.link(temporary, root / _ID)
        temporary.unlink()
    return _folder_id(root)


def _private_folders(path: Path) -> None:
    """Folders from the vault down to `path`, for the owner only."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    root = _root(path)
    for folder in (path.parent, root) if root.name == "vault" else ():
        if folder.stat().st_mode & 0o077:
            folder.chmod(0o700)


def _write(path: Path, data: bytes) -> None:
    with atomic(path) as temporary:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as f:
            f.write(data)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise BadInput(f"The vault file {path.name} cannot be read; check the folder and who may read it.") from None
