"""Policies are checked, and their digest follows what they do."""

from pathlib import Path

import pytest

from pipelines.contract import BadInput
from pipelines.deidentify.policy import load_policy, presets


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
