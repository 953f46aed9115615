"""`intramural policy`: what a policy does is shown as it is done, mistakes are told together, differences are found."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.contract import BadInput
from pipelines.deidentify.policy import FOLDER
from server.cli import command_line

TEXT = (FOLDER / "policies" / "longitudinal-research.toml").read_text()


def say(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(command_line(), ["policy", *map(str, arguments)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def test_show_tells_action_and_rule_of_each_attribute() -> None:
    code, out, _ = say("show")
    lines = {line.split()[0]: line for line in out.splitlines() if line.startswith("(")}
    assert code == 0 and len(lines) > 800
    for tag, action, rule in (
        ("(0008,0020)", "shift", "Modified Dates C"),
        ("(0010,0010)", "empty", "Basic Profile Z"),
        ("(0010,1010)", "keep", "Retain Patient Characteristics K"),
        ("(0008,1030)", "clean", "Clean Descriptors C"),
        ("(60XX,3000)", "remove", "Basic Profile X"),
        ("(0018,0024)", "keep", "house rule: keep"),
    ):
        assert action in lines[tag] and rule in lines[tag], tag
    told = json.loads(say("show", "basic", "--find", "0020,000D", "--json")[1])
    assert [(a["tag"], a["action"]) for a in told["attributes"]] == [("(0020,000D)", "U")]
    assert told["options.dates"] == "remove"


def test_check_tells_every_mistake_and_exits_with_2(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(TEXT)
    code, out, _ = say("check", mine)
    assert code == 0 and "is valid" in out
    mine.write_text(TEXT.replace("device = false", "device = 7").replace('mode = "clean"', 'mode = "off"'))
    code, out, err = say("check", mine)
    assert (code, out) == (2, "") and len(err.splitlines()) == 2
    with pytest.raises(BadInput, match="line 9"):
        mine.write_text(TEXT.replace("uids = ", "uids == "))
        say("check", mine)


def test_diff_names_what_differs_and_nothing_else(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(TEXT.replace("institution = false", "institution = true"))
    told = json.loads(say("diff", "longitudinal-research", mine, "--json")[1])
    assert told["settings"] == {"options.institution": [False, True]}
    assert {before["name"] for before, _ in told["attributes"]} >= {"Institution Name", "Institution Address"}
    assert len(told["attributes"]) == 10
    out = say("diff", "longitudinal-research", mine)[1]
    assert "remove -> keep" in out and "1 settings and 10 attributes differ." in out
    assert "0 settings and 0 attributes differ." in say("diff", mine, mine)[1]
