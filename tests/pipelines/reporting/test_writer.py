"""The writer learns, goes on where it was stopped, and takes any causal language model of a folder."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pipelines.contract import BadInput, RunFolder, Stopped
from pipelines.encoders.tokens import END, START, train_tokenizer
from pipelines.reporting.language import embedded, given
from pipelines.reporting.pieces import OwnPieces
from pipelines.reporting.spec import Reporting
from pipelines.reporting.studies import Study, prompt
from pipelines.reporting.training import Patches, Training
from pipelines.reporting.writer import Writer

CPU = torch.device("cpu")
REPORTS = [
    "The heart is enlarged.",
    "The lungs are clear. No effusion.",
    "There is a left pleural effusion.",
    "Endotracheal tube in place.",
    "Right upper lobe opacity.",
    "No acute abnormality.",
    "Mild pulmonary edema. The heart is enlarged.",
    "Stable chest.",
]
STUDIES = [Study(i, i, f"P{i}", text, "cough" * (i % 2), "") for i, text in enumerate(REPORTS)]
SETTINGS = Reporting(grid=2, steps=60, patience=50, batch=8, tokens=24, indication=True)


def patches(settings=SETTINGS):
    stored = np.random.default_rng(1).normal(0, 3, (8, 4, 4, 6)).astype(np.float16)
    return Patches(stored, range(8), settings.grid, CPU)


def writer(seed=0):
    said = [text for s in STUDIES for text in (s.findings, prompt(s, SETTINGS))]
    return Writer(embedded(said, seed, 128, 2), 6, 2, seed)


def train(folder, settings=SETTINGS, made=None, rate=3e-3):
    made = made or writer()
    run = RunFolder(folder)
    course = Training(made, patches(settings), STUDIES, STUDIES[:3], settings, 0).run(
        rate, run, folder / "checkpoints" / "x.pt", "writer"
    )
    return made, course


def write(made, studies=STUDIES, settings=SETTINGS):
    return made.write(
        patches(settings)(studies), [prompt(s, settings) for s in studies], settings.tokens, lambda: False
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train(tmp_path_factory.mktemp("whole"))


def test_it_writes_the_reports_it_was_shown(trained):
    assert write(trained[0]) == REPORTS


def test_a_report_does_not_depend_on_who_is_written_beside(trained):
    assert [write(trained[0], [s])[0] for s in STUDIES] == write(trained[0])


class StoppedAt(RunFolder):
    """Told to stop at a step, as by SIGTERM."""

    at = 17

    def progress(self, done, total, what):
        self.stopping = done == self.at


def test_a_stopped_training_ends_as_an_unstopped_one(tmp_path, trained):
    first = Training(writer(), patches(), STUDIES, STUDIES[:3], SETTINGS, 0)
    with pytest.raises(Stopped):
        first.run(3e-3, StoppedAt(tmp_path), tmp_path / "checkpoints" / "x.pt", "writer")
    second, course = train(tmp_path)
    assert course == trained[1] and course.losses[0][0] == 10
    state = trained[0].state_dict()
    assert all(torch.equal(v, state[k]) for k, v in second.state_dict().items())


def test_training_ends_when_validation_no_longer_improves_and_keeps_the_best(tmp_path):
    settings = replace_settings(steps=400, patience=2)
    made, run = writer(), RunFolder(tmp_path)
    other = [replace(s, findings="Pneumothorax with rib fracture and nodule.") for s in STUDIES[:3]]
    course = Training(made, patches(), STUDIES[3:], other, settings, 0).run(3e-3, run, tmp_path / "x.pt", "writer")
    assert course.step < 400 and course.best_step == course.step - 2 * 10
    again = Training(made, patches(), STUDIES[3:], other, settings, 0)
    again._validate()
    assert again.course.best == pytest.approx(course.best, rel=1e-5)


def replace_settings(**changed):
    return SETTINGS.model_copy(update=changed)


def test_patches_are_averaged_to_the_grid_or_all_shown():
    whole = patches(replace_settings(grid=0))(STUDIES[:2])
    assert whole.shape == (2, 16, 6) and patches()(STUDIES[:2]).shape == (2, 4, 6)
    corner = whole.reshape(2, 4, 4, 6)[:, :2, :2].mean((1, 2))
    assert torch.allclose(patches()(STUDIES[:2])[:, 0], corner, atol=1e-5)


def test_own_pieces_give_the_text_back():
    pieces = OwnPieces(REPORTS)
    for text in REPORTS:
        assert pieces.decode([*pieces.encode(text), pieces.end, 5, 6]) == text


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny Llama as save_pretrained leaves it."""
    at = tmp_path_factory.mktemp("llama")
    backend = train_tokenizer([*REPORTS, prompt(STUDIES[1], SETTINGS)], 600)
    from tokenizers import decoders

    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=START, eos_token=END)
    tokenizer.save_pretrained(at)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(at)
    return at


@pytest.mark.parametrize(("adapt", "learns"), [("projector", 0), ("lora", "lora_"), ("all", "embed_tokens")])
def test_a_language_model_of_a_folder_learns_what_it_is_told_to(folder, tmp_path, adapt, learns):
    language = given(folder, adapt, 0, CPU)
    made = Writer(language, 6, 2, 0)
    names = [name for name in made.learning() if name.startswith("language.")]
    assert any(learns in name for name in names) if learns else not names
    before = {name: p.clone() for name, p in made.state_dict().items()}
    settings = replace_settings(steps=20)
    made, course = train(tmp_path, settings, made, rate=3e-3)
    assert course.losses[-1][1] < course.losses[0][1]
    moved = {name for name, p in made.state_dict().items() if not torch.equal(p, before[name])}
    assert moved and moved <= set(made.learning()) | {"language.lm_head.weight", "language.model.embed_tokens.weight"}
    assert all(isinstance(text, str) for text in write(made, settings=settings))


def test_a_folder_without_a_language_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BadInput, match="no causal language model"):
        given(tmp_path, "projector", 0, CPU)
