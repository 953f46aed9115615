"""The rule-based labeller: what a sentence says, what it only seems to say, and the site's own phrases."""

from pathlib import Path

import pytest

from pipelines.contract import BadInput
from pipelines.label.phrases import load_phrases, token_pattern
from pipelines.label.rules import RuleLabeller


@pytest.fixture(scope="module")
def labeller() -> RuleLabeller:
    return RuleLabeller(load_phrases())


def said(labeller: RuleLabeller, text: str) -> dict[str, int]:
    (labels,) = labeller.label([text])
    return {label.name: label.value for label in labels}


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("There is a small left pleural effusion.", "Pleural Effusion", 1),
        ("No pneumothorax, consolidation or large pleural effusion.", "Pleural Effusion", 0),
        ("No pneumothorax, but a left pleural effusion is seen.", "Pleural Effusion", 1),
        ("Possible small pleural effusion.", "Pleural Effusion", -1),
        ("A small effusion cannot be excluded.", "Pleural Effusion", -1),
        ("The pleural effusion has resolved.", "Pleural Effusion", 0),
        ("No change in the left pleural effusion.", "Pleural Effusion", 1),
        ("Large pericardial effusion.", "Pleural Effusion", None),
        ("History of pneumonia.", "Pneumonia", None),
        ("Evaluate for pneumonia.", "Pneumonia", None),
        ("The heart is enlarged.", "Cardiomegaly", 1),
        ("The heart is not enlarged.", "Cardiomegaly", 0),
        ("Heart size is at the upper limits of normal.", "Cardiomegaly", -1),
        ("The cardiac silhouette and mediastinum are within normal limits.", "Cardiomegaly", 0),
        ("Left-sided rib fractures.", "Fracture", 1),
        ("A lead of the pacemaker is fractured.", "Fracture", None),
        ("Scarring vs. atelectasis at the left base.", "Atelectasis", -1),
        ("Left lung apex is clear.There is right basilar consolidation.", "Consolidation", 1),
    ],
)  # fmt: skip
def test_a_statement_is_read_as_it_is_meant(labeller: RuleLabeller, text: str, name: str, value: int | None) -> None:
    assert said(labeller, text).get(name) == value


def test_present_wins_over_uncertain_and_uncertain_over_absent(labeller: RuleLabeller) -> None:
    assert said(labeller, "No edema. Possible edema.")["Edema"] == -1
    assert said(labeller, "Possible edema.\nNo edema.\nMild edema.")["Edema"] == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Lungs are clear. No pneumothorax.", 1),
        ("Lungs are clear. PICC with its tip in the SVC.", 1),
        ("Lungs are clear. Calcified granuloma.", 0),
        ("Possible nodule in the left apex.", 0),
    ],
)
def test_no_finding_is_what_remains_devices_aside(labeller: RuleLabeller, text: str, value: int) -> None:
    assert said(labeller, text)["No Finding"] == value


def test_a_text_without_words_says_nothing(labeller: RuleLabeller) -> None:
    assert list(labeller.label(["", " \n . "])) == [[], []]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("Endotracheal tube tip is 4 cm above the carina.", {"ETT": (1, "normal")}),
        ("The ETT is in the right mainstem bronchus.", {"ETT": (1, "abnormal")}),
        ("Endotracheal tube is present. Its tip lies in the right mainstem bronchus.", {"ETT": (1, "abnormal")}),
        ("Enteric tube courses below the diaphragm and the right IJ line ends in the SVC.",
         {"NGT": (1, "normal"), "CVC": (1, "normal")}),
        ("Malpositioned right PICC.", {"CVC": (1, "abnormal")}),
        ("The PICC is not in a good position.", {"CVC": (1, "abnormal")}),
        ("Swan-Ganz catheter in the right pulmonary artery.", {"Swan-Ganz": (1, "normal")}),
        ("Interval removal of the left chest tube.", {"Chest tube": (0, None)}),
        ("Dual lead pacemaker.", {"Pacemaker": (1, None)}),
    ],
)  # fmt: skip
def test_lines_and_their_positions(labeller: RuleLabeller, text: str, lines: dict[str, tuple]) -> None:
    (labels,) = labeller.label([text])
    found = {x.name: (x.value, x.position) for x in labels if x.name in labeller.lines}
    assert found == lines
    devices = max(value for value, _ in lines.values())
    assert next(x.value for x in labels if x.name == "Support Devices") == devices


def test_labels_do_not_depend_on_the_company_of_a_text(labeller: RuleLabeller) -> None:
    texts = ["No pleural effusion.", "Pleural effusion.", "", "Its tip is in the SVC."] * 40
    together = list(labeller.label(texts))
    assert together[:4] == [next(iter(RuleLabeller(labeller.phrases).label([text]))) for text in texts[:4]]
    assert together == together[:4] * 40


def site_file(folder: Path, text: str) -> Path:
    (folder / "own.toml").write_text(text, encoding="utf-8")
    return folder / "own.toml"


def test_a_site_adds_phrases_findings_and_cues(tmp_path: Path) -> None:
    own = site_file(
        tmp_path,
        '[findings."Hiatus Hernia"]\npresent = ["upside down stomach"]\n'
        '[findings.Edema]\npresent = ["wet lungs"]\n[cues.negation]\nbefore = ["nary a"]\n',
    )
    phrases = load_phrases(own)
    assert phrases.digest != load_phrases().digest
    ours = RuleLabeller(phrases)
    assert said(ours, "Upside-down stomach. Wet lungs.") == {"No Finding": 0, "Edema": 1, "Hiatus Hernia": 1}
    assert said(ours, "Nary a pleural effusion.")["Pleural Effusion"] == 0
    assert load_phrases().findings.keys().isdisjoint({"Hiatus Hernia"})  # the product's own lists stay as they are


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[findings.Edema]\nsure = ['x']", "'sure'"),
        ("[lines.Stent]\npresent = ['stent']", "'Stent'"),
        ("[words]\nx = 1", "'words'"),
        ("[findings.Edema]\npresent = ['... wet']", "'... wet'"),
        ("[findings.Edema]\npresent = ['we(t']", "'we(t'"),
        ("[findings.Edema]\npresent = 'wet'", "findings.Edema.present"),
        ("[findings]\nEdema = 3", "findings.LABEL"),
        ("[findings", "not valid TOML"),
    ],
)
def test_a_wrong_phrase_file_is_told_in_one_sentence(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(BadInput, match=r"own\.toml|phrase") as error:
        load_phrases(site_file(tmp_path, text))
    assert named in str(error.value)


def test_every_phrase_of_the_product_is_one() -> None:
    phrases = load_phrases()
    every = [p for lists in (*phrases.findings.values(), *phrases.lines.values()) for k in lists.values() for p in k]
    assert len(every) > 200
    for phrase in every:
        token_pattern(phrase)
