"""The vault opens with its key only and re-wraps; policies are checked, and their digest follows what they do."""

from pathlib import Path

import pytest

from pipelines.contract import BadInput
from pipelines.deidentify.policy import load_policy, presets
from pipelines.deidentify.vault import (
    CROSSWALK,
    SOURCES,
    crosswalk,
    resolve_sources,
    rewrap,
    seal,
    sealed_files,
    unseal,
)

KEY, OTHER = b"k" * 32, b"o" * 32


def test_a_sealed_value_comes_back_and_shows_nothing(tmp_path: Path) -> None:
    path, value = tmp_path / "x.vault", {"a": "Abernathy", "odd name": "caf\udce9"}
    seal(path, value, KEY)
    assert unseal(path, KEY) == value
    assert b"Abernathy" not in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600


def test_another_key_and_altered_bytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.vault"
    seal(path, [1, 2, 3], KEY)
    with pytest.raises(BadInput, match="another vault key"):
        unseal(path, OTHER)
    data = path.read_bytes()
    for position in (3, 20, 80, len(data) - 1):
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        with pytest.raises(BadInput):
            unseal(path, KEY)


def test_rewrap_changes_the_key_not_the_content(tmp_path: Path) -> None:
    path = tmp_path / "x.vault"
    seal(path, {"a": 1}, KEY)
    body = path.read_bytes()[88:]
    rewrap(path, KEY, OTHER)
    rewrap(path, KEY, OTHER)  # a rotation that was cut off is run again
    assert unseal(path, OTHER) == {"a": 1}
    assert path.read_bytes()[88:] == body
    with pytest.raises(BadInput):
        unseal(path, KEY)


def test_sources_and_crosswalk_are_merged_over_partitions(tmp_path: Path) -> None:
    for number, (name, uid) in enumerate([("A^B", "1.2"), ("A^B^C", "1.3")]):
        seal(tmp_path / "vault" / SOURCES / f"part-0000{number}.vault", {f"s{number}": f"p/{number}"}, KEY)
        patient = {"id": "7", "issuer": "", "names": [name], "shift_days": -7}
        part = {"patients": {"P1": patient}, "accessions": {"A1": "ACC1"}, "uids": {f"2.25.{number}": uid}}
        seal(tmp_path / "vault" / CROSSWALK / f"part-0000{number}.vault", part, KEY)
    assert resolve_sources(tmp_path, KEY) == {"s0": "p/0", "s1": "p/1"}
    merged = crosswalk(tmp_path, KEY)
    assert merged.patients["P1"]["names"] == ["A^B", "A^B^C"]
    assert merged.uids == {"2.25.0": "1.2", "2.25.1": "1.3"}
    assert len(sealed_files(tmp_path)) == 4
    with pytest.raises(BadInput):
        crosswalk(tmp_path / "elsewhere", KEY)


def test_presets_differ_and_their_digest_follows_the_settings(tmp_path: Path) -> None:
    assert presets() == ["basic", "longitudinal-research"]
    digests = {load_policy(name).digest for name in presets()}
    assert len(digests) == 2
    text = (Path(load_policy.__globals__["FOLDER"]) / "policies" / "longitudinal-research.toml").read_text()
    mine = tmp_path / "mine.toml"
    mine.write_text(text.replace("longitudinal-research", "renamed"))
    assert load_policy(str(mine)).digest in digests  # a name does nothing
    mine.write_text(text.replace("device = false", "device = true"))
    assert load_policy(str(mine)).digest not in digests


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("device = false", "devices = false"), "options.devices"),
        (('dates = "shift"', 'dates = "remove"'), "surrogates"),
        (('edition = "2024e"', 'edition = "1999a"'), "edition"),
        (("[options]", "[options"), "not valid TOML"),
    ],
)
def test_a_wrong_policy_is_one_sentence(tmp_path: Path, change: tuple[str, str], told: str) -> None:
    text = (Path(load_policy.__globals__["FOLDER"]) / "policies" / "longitudinal-research.toml").read_text()
    (tmp_path / "mine.toml").write_text(text.replace(*change))
    with pytest.raises(BadInput, match=told):
        load_policy(str(tmp_path / "mine.toml"))
    with pytest.raises(BadInput, match="choose basic or"):
        load_policy("no-such")
