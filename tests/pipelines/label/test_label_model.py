"""Labels by a language model from a folder: answered, mended, refused, stopped and gone on with."""

from __future__ import annotations

import json
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines import tables
from pipelines.contract import Outcome, read_json, run_stage
from pipelines.label.causal import CausalModel
from pipelines.label.prompt import load_prompt
from tests.pipelines.build.folders import SECRET, Deid, public_key
from tests.pipelines.label import language_models as lm

STUDIES = {"s1": lm.EFFUSION, "s2": lm.PICC, "s3": lm.EDEMA, "s4": lm.FRACTURE, "s5": "", "s6": "No edema. " * 3000}


@pytest.fixture(scope="module")
def prompt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prompt") / "own.toml"
    path.write_text(lm.PROMPT)
    return path


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory, prompt: Path) -> Path:
    return lm.taught(tmp_path_factory.mktemp("models") / "taught", load_prompt(prompt))


@pytest.fixture(autouse=True)
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.label.model.NEW_TOKENS", lm.LONGEST)


@pytest.fixture
def deid(tmp_path: Path) -> Path:
    deid = Deid(tmp_path / "deid")
    for n, (study, text) in enumerate(STUDIES.items()):
        deid.report(f"p{n}", study, f"INDICATION: Pneumonia?\nFINDINGS: {text}")
    deid.folder.mkdir()
    return deid.write()


def label(deid: Path, out: Path, model: Path, **settings: Any) -> tuple[Outcome, list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []
    spec = {"deid": str(deid), "release_key": str(public_key(deid.parent)), "sources": ["model"], "device": "cpu"}
    listener = settings.pop("listener", events.append)
    values = spec | {"model": str(model)} | {k: str(v) if isinstance(v, Path) else v for k, v in settings.items()}
    return run_stage("label", values, out, listener=listener), events


def found(out: Path) -> dict[str, dict[str, tuple[int, str | None]]]:
    names = {SECRET.accession(study): study for study in STUDIES}
    rows = pq.read_table(out / "labels.parquet", schema=tables.LABELS).to_pylist()
    return {
        study: {r["label"]: (r["value"], r["position"]) for r in rows if names[r["accession"]] == study}
        for study in sorted({names[row["accession"]] for row in rows})
    }


def test_a_model_answers_mends_what_was_refused_and_is_never_guessed_for(
    deid: Path, tmp_path: Path, taught: Path, prompt: Path
) -> None:
    outcome, events = label(deid, tmp_path / "out", taught, prompt=prompt, batch=3)
    assert outcome is Outcome.DONE
    assert found(tmp_path / "out") == {
        "s1": {"No Finding": (0, None), "Pneumothorax": (0, None), "Pleural Effusion": (1, None)},
        "s2": {"No Finding": (1, None), "Support Devices": (1, None), "CVC": (1, "normal")},
        "s3": {"No Finding": (0, None), "Edema": (-1, None)},
    }
    result = read_json(tmp_path / "out" / "result.json")
    model = result["sources"]["model"]
    assert (model["read"], model["not_read"]) == (3, {"answer_not_json": 1, "empty": 1, "too_long": 1})
    version = result["versions"]["model"]
    assert version.startswith(f"own-1-{load_prompt(prompt).digest}-")
    assert set(pq.read_table(tmp_path / "out" / "labels.parquet")["version"].to_pylist()) == {version}
    counted = [e["done"] for e in events if e["kind"] == "progress"]
    assert counted == sorted(counted) and counted[-1] == len(STUDIES)
    assert "effusion" not in json.dumps(events) + (tmp_path / "out" / "result.json").read_text().lower().replace(
        "pleural effusion", ""
    )


def test_without_a_second_try_a_refused_answer_is_a_reason(
    deid: Path, tmp_path: Path, taught: Path, prompt: Path
) -> None:
    label(deid, tmp_path / "out", taught, prompt=prompt, retries=0)
    unread = read_json(tmp_path / "out" / "result.json")["sources"]["model"]["not_read"]
    assert (unread["answer_not_valid"], unread["answer_not_json"]) == (1, 1)


def test_the_batch_changes_no_label(deid: Path, tmp_path: Path, taught: Path, prompt: Path) -> None:
    """Reports of one batch are padded on the left to a common length."""
    for batch in (1, 4):
        label(deid, tmp_path / str(batch), taught, prompt=prompt, batch=batch)
    assert (tmp_path / "1" / "labels.parquet").read_bytes() == (tmp_path / "4" / "labels.parquet").read_bytes()


def test_a_stopped_run_goes_on_from_its_parts(
    deid: Path, tmp_path: Path, taught: Path, prompt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.label.reports.PART", 2)
    generate = CausalModel.generate

    def stopped(self: CausalModel, prompts: list[list[int]], stopping: Any) -> Any:
        if list((out / "parts").glob("*.parquet")):
            signal.raise_signal(signal.SIGTERM)
        return generate(self, prompts, stopping)

    label(deid, tmp_path / "whole", taught, prompt=prompt)
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(CausalModel, "generate", stopped)
        assert label(deid, out, taught, prompt=prompt)[0] is Outcome.STOPPED
    kept = {path: path.stat().st_mtime_ns for path in (out / "parts").iterdir()}
    assert kept and not (out / "labels.parquet").exists()
    assert label(deid, out, taught, prompt=prompt)[0] is Outcome.DONE
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert (out / "labels.parquet").read_bytes() == (tmp_path / "whole" / "labels.parquet").read_bytes()


@pytest.mark.parametrize("chat", [True, False])
def test_a_model_that_knows_nothing_is_asked_again_and_then_listed(
    deid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chat: bool
) -> None:
    """With the product's own prompt, by a chat template or, where a model has none, as plain text."""
    monkeypatch.setattr("pipelines.label.model.NEW_TOKENS", 12)
    rounds: Counter[int] = Counter()
    encode = CausalModel.encode

    def counted(self: CausalModel, messages: Any) -> list[int]:
        rounds[len(messages)] += 1
        return encode(self, messages)

    monkeypatch.setattr(CausalModel, "encode", counted)
    outcome, _ = label(deid, tmp_path / "out", lm.untaught(tmp_path / "model", chat), retries=2)
    assert outcome is Outcome.DONE
    model = read_json(tmp_path / "out" / "result.json")["sources"]["model"]
    refused = {k: n for k, n in model["not_read"].items() if k.startswith("answer_")}
    assert model["read"] == 0 and sum(refused.values()) == 4 and model["labels"] == {}
    first, again = sorted(rounds)
    # Five reports have a text. Four fit and are asked three times; what is asked after the last refusal is not sent.
    assert again == first + 2 and rounds[first] == 5 and rounds[again] == 12


def wrong_folder(kind: str, folder: Path) -> Path:
    if kind == "nowhere":
        return folder
    lm.untaught(folder)
    if kind == "no weights":
        (folder / "model.safetensors").unlink()
    elif kind == "half the weights":
        from safetensors.torch import load_file, save_file

        weights = load_file(folder / "model.safetensors")
        save_file(dict(list(weights.items())[: len(weights) // 2]), folder / "model.safetensors", {"format": "pt"})
    elif kind == "foreign code":
        config = read_json(folder / "config.json") | {"model_type": "own", "auto_map": {"AutoModelForCausalLM": "a.B"}}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "a.py").write_text("raise SystemExit('this must not run')")
    return folder


@pytest.mark.parametrize("kind", ["nowhere", "no weights", "half the weights", "foreign code"])
def test_a_folder_that_is_no_model_is_refused_in_one_sentence(deid: Path, tmp_path: Path, kind: str) -> None:
    outcome, _ = label(deid, tmp_path / "out", wrong_folder(kind, tmp_path / "model"))
    assert outcome is Outcome.BAD_INPUT
    message = read_json(tmp_path / "out" / "outcome.json")["message"]
    assert message.startswith("model ") and message.endswith(".") and message.count(". ") == 0


def test_another_model_under_the_same_name_does_not_go_on(
    deid: Path, tmp_path: Path, taught: Path, prompt: Path
) -> None:
    folder = shutil.copytree(taught, tmp_path / "model")
    label(deid, tmp_path / "out", folder, prompt=prompt)
    (tmp_path / "out" / "result.json").unlink()
    (folder / "generation_config.json").write_text("{}")
    assert label(deid, tmp_path / "out", folder, prompt=prompt)[0] is Outcome.BAD_INPUT
    assert "changed since" in read_json(tmp_path / "out" / "outcome.json")["message"]


def test_a_batch_that_memory_does_not_hold_is_halved(taught: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    model = CausalModel(taught, "cpu", 4)
    sizes: list[int] = []
    generate = CausalModel._generate

    def small(self: CausalModel, prompts: list[list[int]], stopping: Any) -> Any:
        sizes.append(len(prompts))
        if len(prompts) > 2:
            raise torch.OutOfMemoryError
        return generate(self, prompts, stopping)

    monkeypatch.setattr(CausalModel, "_generate", small)
    prompts = [model.encode([{"role": "user", "content": text}]) for text in STUDIES.values() if len(text) < 99]
    assert len(model.generate(prompts, lambda: False)) == len(prompts) == 5
    assert sizes == [5, 2, 3, 1, 2]
