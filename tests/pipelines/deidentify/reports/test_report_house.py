"""What a site knows of itself, and a model of its own, reach the reports through the policy."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from pipelines.contract import BadInput
from pipelines.deidentify.identities import Identities
from pipelines.deidentify.policy import FOLDER, load_policy
from pipelines.deidentify.reports.engines import TransformersEngine
from pipelines.deidentify.reports.scrub import ReportScrubber, Scrubbed, ScrubItem
from pipelines.deidentify.texts import _scrubber
from pipelines.keys import DerivationSecret

SECRET = DerivationSecret("site", 1, b"s" * 32)
PRESET = (FOLDER / "policies" / "longitudinal-research.toml").read_text()
WORDS = ["lunge", "frei", "kein", "erguss", "herz", "normal", "von", "zorblatt", "quimby", "the", "of", "is"]
NAMES = {"zorblatt", "quimby"}
GERMAN = "Das Herz ist normal und die Lunge ist frei, kein Erguss, nicht vergroessert von Zorblatt und Quimby"


def scrub(scrubber: ReportScrubber, text: str, who: Identities | None = None) -> Scrubbed:
    (result,) = scrubber.scrub([ScrubItem(text, who or Identities(), "P1", -14)])
    return result


def by_policy(folder: Path, more: str) -> ReportScrubber:
    """The scrubber that a part of the stage gets under the preset with these settings added."""
    (folder / "mine.toml").write_text(PRESET + more)
    made: ReportScrubber = _scrubber(SECRET, load_policy(str(folder / "mine.toml")).reports)
    return made


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small token classifier, trained here until it knows its two names."""
    import torch  # late: where torch is loaded, presidio and spaCy take it up
    from transformers import BertConfig, BertForTokenClassification, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("model") / "ours"
    vocabulary = {word: n for n, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        model_max_length=32,
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32, id2label={0: "O", 1: "B-PATIENT"}, label2id={"O": 0, "B-PATIENT": 1},
        hidden_dropout_prob=0, attention_probs_dropout_prob=0,
    )  # fmt: skip
    net = BertForTokenClassification(config)
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-2)
    names = torch.tensor([word in NAMES for word in vocabulary]).long()
    for _ in range(60):
        ids = torch.randint(1, len(vocabulary), (16, 24))
        loss = net(input_ids=ids, labels=names[ids]).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    net.eval().save_pretrained(folder)
    return folder


def test_a_sites_numbers_names_and_extensions_go_by_its_policy(tmp_path: Path) -> None:
    (tmp_path / "house.toml").write_text(
        "numbers = ['QX-\\d{4}[A-Z]']\nphones = ['x\\d{4}']\nhospitals = [\"Vellbrook\"]\n"
        'departments = ["Ward 7 North"]\nphysicians = ["Tanvir, Oskar"]\n'
    )
    text = "Seen on Ward 7 North of VELLBROOK by Oskar Tanvir, call x4471 about QX-1234B. Ward 8: QX-12."
    plain, ours = by_policy(tmp_path, ""), by_policy(tmp_path, 'house = "house.toml"\n')
    unaware = scrub(plain, text).text
    assert "Ward 7 North" in unaware and "VELLBROOK" in unaware and "QX-1234B" in unaware
    result = scrub(ours, text)
    kinds = {text[s.start : s.end]: (s.kind, s.recogniser) for s in result.spans}
    assert kinds == {
        "Ward 7 North": ("HOSPITAL", "house"), "VELLBROOK": ("HOSPITAL", "house"), "Oskar Tanvir": ("NAME", "known"),
        "x4471": ("PHONE", "house"), "QX-1234B": ("ID", "house"),
    }  # fmt: skip
    assert result.text.endswith("Ward 8: QX-12.")


def test_a_policy_may_ask_for_what_reports_keep(tmp_path: Path) -> None:
    text = "She moved here from Lisbon and works for Halvorsen Insurance."
    assert scrub(by_policy(tmp_path, ""), text).text == text
    out = scrub(by_policy(tmp_path, "general = true\n"), text).text
    assert "Lisbon" not in out and "Halvorsen" not in out


def test_a_sites_own_model_is_believed_in_any_language(model: Path, tmp_path: Path) -> None:
    ours = by_policy(tmp_path, f'model = "{model}"\n')
    result = scrub(ours, GERMAN)
    found = [(GERMAN[s.start : s.end], s.kind, s.recogniser) for s in result.spans]
    assert found == [("Zorblatt", "NAME", "transformers"), ("Quimby", "NAME", "transformers")]
    assert all(0.5 < s.score <= 1 for s in result.spans)
    assert (result.language, result.unmodelled) == ("de", False)
    plain = scrub(by_policy(tmp_path, ""), GERMAN)
    assert plain.text == GERMAN and plain.unmodelled


def test_a_text_longer_than_the_models_window_is_read_to_its_end(model: Path) -> None:
    text = "lunge frei " * 40 + "Zorblatt " + "kein erguss " * 40 + "Quimby"
    (found,) = TransformersEngine(model).entities([text], [()])
    assert [text[e.start : e.end] for e in found] == ["Zorblatt", "Quimby"]


def test_a_folder_that_holds_no_deidentifier_is_refused(model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="holds no token classification model"):
        TransformersEngine(tmp_path / "empty")
    from transformers import BertForTokenClassification

    net = BertForTokenClassification.from_pretrained(model)
    net.config.id2label = {0: "O", 1: "B-DISEASE"}
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "empty" / name).write_bytes((model / name).read_bytes())
    net.save_pretrained(tmp_path / "empty")
    with pytest.raises(BadInput, match="none of the labels of a de-identifier"):
        TransformersEngine(tmp_path / "empty")
