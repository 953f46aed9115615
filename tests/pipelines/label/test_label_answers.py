"""What a language model's answer must be, and what a site may say in a prompt of its own."""

import json
from pathlib import Path

import pytest

from pipelines import tables
from pipelines.contract import BadInput
from pipelines.label.answers import Answers, Refused
from pipelines.label.phrases import OTHER, load_phrases
from pipelines.label.prompt import load_prompt
from pipelines.label.values import NO_FINDING, Label

GOOD = {"values": {"No Finding": "absent", "Edema": "uncertain", "CVC": "present"}, "positions": {"CVC": "normal"}}


@pytest.fixture(scope="module")
def answers() -> Answers:
    return load_prompt().answers


def answer(**changes: object) -> str:
    return json.dumps(GOOD | changes)


@pytest.mark.parametrize(
    "text", [answer(), f"```json\n{answer()}\n```", f"<think>Edema? {{maybe}}</think>\n{answer()} I hope this helps."]
)
def test_an_answer_becomes_labels_in_the_prompts_order(answers: Answers, text: str) -> None:
    wanted = [Label("No Finding", 0), Label("Edema", -1), Label("Support Devices", 1), Label("CVC", 1, "normal")]
    assert answers.read(text) == wanted


@pytest.mark.parametrize(
    ("text", "reason", "said"),
    [
        ("", "answer_not_json", "no JSON object"),
        ('{"values": {"No Finding": "absent"', "answer_not_json", "not valid JSON"),
        ('{"values": {"Edema": "present", "Edema": "absent", "No Finding": "absent"}}', "answer_not_json", "twice"),
        (f"{answer()} or rather {answer()}", "answer_not_json", "more than one"),
        ("[1]", "answer_not_json", "no JSON object"),
        ("{}", "answer_not_valid", "values: Field required"),
        (answer(values={}), "answer_not_valid", "must say whether"),
        (answer(values={"No Finding": "uncertain"}), "answer_not_valid", "must say whether"),
        (answer(values={"No Finding": "absent", "Cardiomegalie": "present"}), "answer_not_valid", "Cardiomegalie"),
        (answer(values={"No Finding": "absent", "Edema": 1}), "answer_not_valid", "'uncertain'"),
        (answer(values={"No Finding": "present", "Edema": "uncertain"}), "answer_not_valid", "beside"),
        (answer(positions={"CVC": "fine"}), "answer_not_valid", "'borderline'"),
        (answer(positions={"Edema": "normal"}), "answer_not_valid", "'CVC'"),
        (answer(positions={"ETT": "normal"}), "answer_not_valid", "not present"),
        (answer(confidence=0.9), "answer_not_valid", "confidence"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused_with_what_is_wrong(
    answers: Answers, text: str, reason: str, said: str
) -> None:
    with pytest.raises(Refused, match=said) as refused:
        answers.read(text)
    assert refused.value.reason == reason


def test_the_prompt_asks_for_what_the_rules_label() -> None:
    content = load_prompt().content
    assert set(content.findings) == {*load_phrases().findings, NO_FINDING} - {OTHER}
    assert set(content.lines) == set(tables.LINES)


def test_a_conversation_holds_task_examples_report_and_what_was_refused() -> None:
    prompt = load_prompt()
    said = prompt.messages(" No edema. ", ("{}", "values: Field required."))
    assert [m["role"] for m in said] == ["user", "assistant"] * 3 + ["user"]
    assert '- "Swan-Ganz": pulmonary artery catheter' in said[0]["content"]
    assert said[4]["content"] == "Report:\nNo edema."
    assert said[5]["content"] == "{}" and "values: Field required." in said[6]["content"]


def own(folder: Path, text: str) -> Path:
    (folder / "own.toml").write_text(text, encoding="utf-8")
    return folder / "own.toml"


def test_a_site_adds_a_finding_and_the_digest_says_so(tmp_path: Path) -> None:
    prompt = load_prompt(own(tmp_path, '[findings]\n"Arterial Calcification" = "calcified aorta"'))
    assert prompt.digest != load_prompt().digest
    assert '- "Arterial Calcification": calcified aorta' in prompt.messages("x")[0]["content"]
    given = answer(values={"No Finding": "absent", "Arterial Calcification": "present"}, positions={})
    assert prompt.answers.read(given)[-1] == Label("Arterial Calcification", 1)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("task = 3", "'task'"),
        ('task = "Label {findings}."', "{lines}"),
        ('ask = "Go."', "{report}"),
        ('[lines]\n"Stent" = "a stent"', "'Stent'"),
        ("temperature = 1", "'temperature'"),
        ('[[examples]]\nreport = "x"\nanswer = "{}"', "example 1"),
        ("task = ", "not valid TOML"),
    ],
)
def test_a_wrong_prompt_is_told_in_one_sentence(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(BadInput, match=r"own\.toml") as error:
        load_prompt(own(tmp_path, text))
    assert named in str(error.value)


def test_a_prompt_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        load_prompt(tmp_path / "none.toml")
