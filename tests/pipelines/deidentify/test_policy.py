"""Policies are checked, and their digest follows what they do."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipelines.contract import BadInput
from pipelines.deidentify import policy as module
from pipelines.deidentify.policy import FOLDER, Policy, load_policy, mistakes, presets

TEXT = (FOLDER / "policies" / "longitudinal-research.toml").read_text()
TWICE = '{creator = "A", group = 25, element = 1}'


def test_presets_differ_and_their_digest_follows_the_settings(tmp_path: Path) -> None:
    assert presets() == ["basic", "longitudinal-research"]
    digests = {load_policy(name).digest for name in presets()}
    assert len(digests) == 2
    mine = tmp_path / "mine.toml"
    mine.write_text(TEXT.replace("longitudinal-research", "renamed"))
    assert load_policy(str(mine)).digest in digests  # a name does nothing
    for change in (
        ("device = false", "device = true"),
        ('graphics = "remove"', 'graphics = "clean"'),
        ("standard = false", "standard = true"),
        ('uids = "replace"', 'uids = "keep"'),
    ):
        assert change[0] in TEXT
        mine.write_text(TEXT.replace(*change))
        digests.add(load_policy(str(mine)).digest)
    assert len(digests) == 6


def test_the_digest_follows_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_policy("basic").digest
    (tmp_path / "data").mkdir()
    for path in module.DATA.iterdir():
        (tmp_path / "data" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "reports" / "data").mkdir(parents=True)
    for path in (FOLDER / "reports" / "data").iterdir():
        (tmp_path / "reports" / "data" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "data" / "dictionary_rules.csv").write_text("tag,keyword,rule\n")
    policy = load_policy("basic")
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    monkeypatch.setattr(module, "DATA", tmp_path / "data")
    assert module._digest.__wrapped__(policy) != before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("device = false", "devices = false"), "options.devices.*choose from .*device"),
        (('dates = "shift"', 'dates = "remove"'), "surrogates"),
        (('dates = "shift"', 'dates = ["keep", "shift"]'), "full and modified dates exclude each other"),
        (('visual_features = "flag"', 'visual_features = "clean"'), "takes faces out"),
        (('mode = "clean"', 'mode = "off"'), "pixels were not looked at"),
        (("keep = []", 'keep = [{creator = "A", group = 16, element = 1}]'), "a private group is odd"),
        (("keep = []", 'keep = [{creator = "A", group = 9, element = 1, colour = 2}]'), "private.keep.0.colour"),
        (("keep = []", f"keep = [{TWICE}, {TWICE}]"), "named twice"),
        (('edition = "2024e"', 'edition = "1999a"'), "edition"),
        (("[options]", "[options"), "not valid TOML"),
    ],
)
def test_a_wrong_policy_is_one_sentence(tmp_path: Path, change: tuple[str, str], told: str) -> None:
    assert change[0] in TEXT
    (tmp_path / "mine.toml").write_text(TEXT.replace(*change))
    with pytest.raises(BadInput, match=told):
        load_policy(str(tmp_path / "mine.toml"))
    with pytest.raises(BadInput, match="choose basic or"):
        load_policy("no-such")


HOUSE = """numbers = ['QX-\\d{4}[A-Z]']
hospitals = ["Vellbrook"]
"""


def test_what_lies_beside_a_policy_is_read_and_its_digest_follows_it(tmp_path: Path) -> None:
    mine, model = tmp_path / "mine.toml", tmp_path / "ours"
    mine.write_text(TEXT + 'house = "house.toml"\nmodel = "ours"\n')
    with pytest.raises(BadInput, match=r"house file house\.toml"):
        load_policy(str(mine))
    (tmp_path / "house.toml").write_text(HOUSE)
    with pytest.raises(BadInput, match=r"the model ours; give the folder"):
        load_policy(str(mine))
    model.mkdir()
    (model / "config.json").write_text("{}")
    first = load_policy(str(mine))
    assert first.reports.house.hospitals == ("Vellbrook",) and first.reports.model == str(model)
    (tmp_path / "house.toml").write_text(HOUSE.replace("Vellbrook", "Vellbrock"))
    second = load_policy(str(mine))
    (model / "config.json").write_text("{ }")
    third = load_policy(str(mine))
    assert len({p.digest for p in (first, second, third, load_policy("longitudinal-research"))}) == 4
    model.rename(tmp_path / "moved")
    mine.write_text(mine.read_text().replace('"ours"', '"moved"'))
    assert load_policy(str(mine)).digest == third.digest  # what is in it counts
    mine.write_text(mine.read_text() + "general = true\n")
    with pytest.raises(BadInput, match="choose one of the two"):
        load_policy(str(mine))
    (tmp_path / "house.toml").write_text("numbers = ['[']\nwards = []\n")
    told = " ".join(mistakes(module.read_policy(str(mine))))
    assert "'reports.house.wards': there is no such setting; choose from numbers" in told
    assert "'[' is no regular expression" in told


def test_every_mistake_is_told_in_one_go() -> None:
    values: dict[str, Any] = tomllib.loads(TEXT)
    values["options"] |= {"dates": "remove", "device": "perhaps", "visual_features": "clean", "hats": 1}
    told = mistakes(values | {"name": "Not A Name"})
    assert len(told) == 5
    for part in ("reports.style", "options.device", "options.visual_features", "options.hats", "'name'"):
        assert sum(part in sentence for sentence in told) == 1, part


def test_a_conflict_is_refused_however_the_policy_is_made() -> None:
    with pytest.raises(ValueError, match="surrogates need"):
        Policy.model_validate({"name": "x", "options": {"dates": "keep"}})


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["name", "options", "private", "pixels", "reports", "edition", "keep", "dates", "style", "house", "x"]
)


@settings(deadline=None)
@given(st.dictionaries(KEYS, JUNK | st.dictionaries(KEYS, JUNK, max_size=4), max_size=6))
@example({"name": "x", "options": {"dates": "shift"}})
def test_any_settings_are_a_policy_or_a_list_of_mistakes(values: dict[str, Any]) -> None:
    told = mistakes(values)
    try:
        Policy.model_validate(values)
    except ValidationError:
        assert told
    else:
        assert told == []
