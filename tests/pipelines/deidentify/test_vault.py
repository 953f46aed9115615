"""The vault opens with its key, in its place, and not otherwise; rotation survives being killed."""

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from pipelines.contract import BadInput
from pipelines.deidentify import vault
from pipelines.deidentify.vault import (
    CROSSWALK,
    SOURCES,
    crosswalk,
    resolve_sources,
    rewrap,
    rewrap_folder,
    seal,
    sealed_files,
    unseal,
)

KEY, OTHER = b"k" * 32, b"o" * 32


def place(folder: Path, kind: str = SOURCES, name: str = "part-00000") -> Path:
    return folder / "vault" / kind / f"{name}.vault"


def test_a_sealed_value_comes_back_and_shows_nothing(tmp_path: Path) -> None:
    path, value = place(tmp_path), {"a": "Abernathy", "odd name": "caf\udce9"}
    seal(path, value, KEY)
    assert unseal(path, KEY) == value
    assert b"Abernathy" not in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.parent.parent.stat().st_mode & 0o777 == 0o700
    assert [p.name for p in tmp_path.rglob("*.part")] == []


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    path = place(tmp_path_factory.mktemp("sealed"))
    seal(path, {"name": "Abernathy", "n": [1, 2, 3]}, KEY)
    return path, path.read_bytes()


@given(st.data())
def test_any_flipped_bit_and_any_cut_is_one_sentence(sealed: tuple[Path, bytes], data: st.DataObject) -> None:
    path, whole = sealed
    position = data.draw(st.integers(0, len(whole) - 1))
    damaged = whole[:position]
    if data.draw(st.booleans()):
        bit = 1 << data.draw(st.integers(0, 7))
        damaged = whole[:position] + bytes([whole[position] ^ bit]) + whole[position + 1 :]
    path.write_bytes(damaged)
    with pytest.raises(BadInput) as told:
        unseal(path, KEY)
    assert "Abernathy" not in str(told.value)
    if position < 76 or len(damaged) <= 88:  # a re-wrap reads the wrapped key only
        with pytest.raises(BadInput):
            rewrap(path, KEY, OTHER)


@given(st.recursive(st.none() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)))
def test_every_json_value_comes_back(sealed: tuple[Path, bytes], value: object) -> None:
    path = sealed[0].with_name("any.vault")
    seal(path, value, KEY)
    assert unseal(path, KEY) == value


def test_another_key_opens_nothing(tmp_path: Path) -> None:
    seal(place(tmp_path), [1], KEY)
    with pytest.raises(BadInput, match="another vault key"):
        unseal(place(tmp_path), OTHER)


def test_a_file_renamed_or_brought_from_another_folder_does_not_open(tmp_path: Path) -> None:
    for run, value in (("one", {"s": "p"}), ("two", {"s": "q"})):
        seal(place(tmp_path / run), value, KEY)
        seal(place(tmp_path / run, SOURCES, "part-00001"), value, KEY)
        seal(place(tmp_path / run, CROSSWALK), value, KEY)
    one = tmp_path / "one"
    for source, target in [
        (place(one), place(one, SOURCES, "part-00001")),  # another partition
        (place(one), place(one, CROSSWALK)),  # another kind
        (place(tmp_path / "two"), place(one)),  # another run
    ]:
        kept = target.read_bytes()
        shutil.copy(source, target)
        with pytest.raises(BadInput, match="another place"):
            unseal(target, KEY)
        target.write_bytes(kept)
        assert unseal(target, KEY)
    shutil.copytree(one, tmp_path / "restored")  # a whole folder may move
    assert unseal(place(tmp_path / "restored"), KEY) == {"s": "p"}
    (one / "vault" / "folder.id").unlink()
    with pytest.raises(BadInput, match=r"folder\.id"):
        unseal(place(one), KEY)


def test_files_of_the_first_version_open_and_rewrap(tmp_path: Path) -> None:
    import zlib

    path = place(tmp_path)
    path.parent.mkdir(parents=True)
    data_key, nonce = b"d" * 32, b"n" * 12
    prefix = b"IMVAULT1" + vault._key_name(KEY)
    wrapped = nonce + AESGCM(KEY).encrypt(nonce, data_key, prefix)
    body = AESGCM(data_key).encrypt(nonce, zlib.compress(b'{"a":1}'), b"IMVAULT1")
    path.write_bytes(prefix + wrapped + nonce + body)
    assert unseal(path, KEY) == {"a": 1}
    assert rewrap(path, KEY, OTHER)
    assert unseal(path, OTHER) == {"a": 1}


def test_rewrap_changes_the_key_not_the_content(tmp_path: Path) -> None:
    path = place(tmp_path)
    seal(path, {"a": 1}, KEY)
    body = path.read_bytes()[88:]
    assert [rewrap(path, KEY, OTHER), rewrap(path, KEY, OTHER)] == [True, False]
    assert unseal(path, OTHER) == {"a": 1}
    assert path.read_bytes()[88:] == body
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(BadInput):
        unseal(path, KEY)


def test_a_rotation_killed_at_any_file_goes_on(tmp_path: Path) -> None:
    """Killed by SIGKILL while it works, again and again, until it is through; no file is ever lost to both keys."""
    for n in range(40):
        seal(place(tmp_path, ("sources", "crosswalk", "review")[n % 3], f"part-{n:05d}"), n, KEY)
    code = (
        "import sys, time; from pathlib import Path; from pipelines.deidentify.vault import rewrap_folder\n"
        "print('ready', flush=True)\n"
        "for _ in rewrap_folder(Path(sys.argv[1]), b'k' * 32, b'o' * 32): time.sleep(0.004)"
    )
    kills = 0
    while True:
        child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, env=os.environ)
        child.stdout.readline()
        time.sleep(0.05 + 0.08 * kills)
        if child.poll() is not None:
            break
        child.kill()
        kills += child.wait() != 0
        for path in sealed_files(tmp_path):
            assert isinstance(_either(path), int)
    assert child.returncode == 0
    assert kills >= 1
    assert sorted(unseal(p, OTHER) for p in sealed_files(tmp_path)) == list(range(40))
    for path in sealed_files(tmp_path):
        with pytest.raises(BadInput):
            unseal(path, KEY)
    assert list((tmp_path / "vault").rglob("*.part")) == []
    assert list(rewrap_folder(tmp_path, KEY, OTHER)) == [False] * 40


def _either(path: Path) -> object:
    try:
        return unseal(path, KEY)
    except BadInput:
        return unseal(path, OTHER)


def test_processes_that_begin_a_vault_at_once_agree_on_its_id(tmp_path: Path) -> None:
    threads = [threading.Thread(target=seal, args=(place(tmp_path, SOURCES, f"part-{n}"), n, KEY)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(unseal(p, KEY) for p in sealed_files(tmp_path)) == list(range(8))


def test_sources_and_crosswalk_are_merged_over_partitions(tmp_path: Path) -> None:
    for number, (name, uid) in enumerate([("A^B", "1.2"), ("A^B^C", "1.3")]):
        seal(place(tmp_path, SOURCES, f"part-0000{number}"), {f"s{number}": f"p/{number}"}, KEY)
        patient = {"id": "7", "issuer": "", "names": [name], "shift_days": -7}
        part = {"patients": {"P1": patient}, "accessions": {"A1": "ACC1"}, "uids": {f"2.25.{number}": uid}}
        seal(place(tmp_path, CROSSWALK, f"part-0000{number}"), part, KEY)
    assert resolve_sources(tmp_path, KEY) == {"s0": "p/0", "s1": "p/1"}
    merged = crosswalk(tmp_path, KEY)
    assert merged.patients["P1"]["names"] == ["A^B", "A^B^C"]
    assert merged.uids == {"2.25.0": "1.2", "2.25.1": "1.3"}
    assert len(sealed_files(tmp_path)) == 4
    with pytest.raises(BadInput):
        crosswalk(tmp_path / "elsewhere", KEY)
