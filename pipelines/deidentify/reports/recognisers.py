"""Layer two: presidio's analyzer with recognisers of our own for what the header does not name.

For reports only these are registered: presidio's own are made for letters and forms and cost most of the time; they
join in for general text (general.py). Models stand behind `engines.Engine`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence

from pipelines.deidentify.reports.cues import PERSON, by_credential, by_cue, common_word, name_end
from pipelines.deidentify.reports.engines import KIND_OF_LABEL, Engine, Entity, without
from pipelines.deidentify.reports.forms import find_forms
from pipelines.deidentify.reports.house import House, find_house
from pipelines.deidentify.reports.spans import GENERAL_KINDS, Span

with without("torch", "transformers", "tensorflow", "mxnet"):
    from presidio_analyzer import (
        AnalyzerEngine,
        ContextAwareEnhancer,
        EntityRecognizer,
        RecognizerRegistry,
        RecognizerResult,
    )
    from presidio_analyzer.nlp_engine import NlpArtifacts, NlpEngine

LANGUAGE = "en"
"""What presidio is told: the layers know no language, and which model may speak is decided before."""
_REMOVED_YEAR = re.compile(r"\W*(?:(?:1[89]|20)\d\d)?\W*$")


class Layer(EntityRecognizer):
    """A recogniser of ours in presidio's terms. `find` gives spans of a text."""

    kinds: tuple[str, ...] = GENERAL_KINDS

    def __init__(self, name: str) -> None:
        super().__init__(supported_entities=list(self.kinds), name=name, supported_language=LANGUAGE)

    def load(self) -> None:
        """Nothing to load."""

    def find(self, text: str, entities: Sequence[Entity]) -> Iterable[Span]:
        raise NotImplementedError

    def analyze(
        self, text: str, entities: list[str], nlp_artifacts: NlpArtifacts | None = None
    ) -> list[RecognizerResult]:
        found = self.find(text, nlp_artifacts.entities if nlp_artifacts else ())
        return [
            RecognizerResult(s.kind, s.start, s.end, s.score, recognition_metadata={"layer": s.recogniser})
            for s in found
        ]


class FormLayer(Layer):
    """Identifiers by their form, see forms.py."""

    def find(self, text: str, entities: Sequence[Entity]) -> Iterable[Span]:
        return find_forms(text)


class CueLayer(Layer):
    """Persons by the words before or behind them, see cues.py."""

    def find(self, text: str, entities: Sequence[Entity]) -> Iterable[Span]:
        yield from by_cue(text)
        yield from by_credential(text)


class HouseLayer(Layer):
    """The site's own numbers and names, see house.py."""

    def __init__(self, name: str, house: House) -> None:
        super().__init__(name)
        self._house = house

    def find(self, text: str, entities: Sequence[Entity]) -> Iterable[Span]:
        return find_house(text, self._house)


class ModelLayer(Layer):
    """What a model proposes: all of it from a site's de-identifier; from spaCy's only persons of two words or more,
    none of which is a word of the language."""

    def __init__(self, name: str, trusted: bool) -> None:
        super().__init__(name)
        self._trusted = trusted

    def find(self, text: str, entities: Sequence[Entity]) -> Iterable[Span]:
        return self._believed(text, entities) if self._trusted else self._strange(text, entities)

    def _believed(self, text: str, entities: Sequence[Entity]) -> Iterator[Span]:
        for entity in entities:
            kind, value = KIND_OF_LABEL.get(entity.label.upper(), ""), text[entity.start : entity.end]
            young = kind == "AGE" and not re.search(r"(?<!\d)(?:9\d|1[0-2]\d)(?!\d)", value)
            undated = kind == "DATE" and (not re.search(r"\d", value) or _REMOVED_YEAR.match(value))
            if kind and not young and not undated:
                yield Span(kind, entity.start, entity.end, "transformers", entity.score)

    def _strange(self, text: str, entities: Sequence[Entity]) -> Iterator[Span]:
        for entity in entities:
            match = PERSON.match(text, entity.start) if entity.label == "PERSON" else None
            if match is None:
                continue
            start, end = match.start(), name_end(text, match, "")
            words = re.findall(r"[^\W\d_]{2,}", text[start:end])
            if len(words) >= 2 and not text[start:end].isupper() and not any(map(common_word, words)):
                yield Span("NAME", start, end, "spacy", 0.6)


class _NoNlp(NlpEngine):
    """Presidio asks for an engine of its own; ours has read the texts before, in batches."""

    def load(self) -> None:
        """Nothing to load."""

    def is_loaded(self) -> bool:
        return True

    def process_text(self, text: str, language: str) -> NlpArtifacts:
        return artifacts(self, ())

    def process_batch(self, texts: Iterable[str], language: str, **_: object) -> Iterator[tuple[str, NlpArtifacts]]:
        return ((text, artifacts(self, ())) for text in texts)

    def is_stopword(self, word: str, language: str) -> bool:
        return False

    def is_punct(self, word: str, language: str) -> bool:
        return False

    def get_supported_entities(self) -> list[str]:
        return list(GENERAL_KINDS)

    def get_supported_languages(self) -> list[str]:
        return [LANGUAGE]


class _NoContext(ContextAwareEnhancer):
    """Our layers judge the words around a find themselves."""

    def __init__(self) -> None:
        super().__init__(0, 0, 0, 0)

    def enhance_using_context(
        self, text: str, raw_results: list[RecognizerResult], *_: object, **__: object
    ) -> list[RecognizerResult]:
        return raw_results


def artifacts(engine: NlpEngine, entities: Sequence[Entity]) -> NlpArtifacts:
    """Entities as presidio carries them to recognisers. Without tokens: context words are our own layers' affair."""
    return NlpArtifacts(list(entities), [], [], [], engine, LANGUAGE)


class Recognition:
    """The recognisers of a site, and texts through them."""

    def __init__(self, engine: Engine, house: House) -> None:
        logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)
        layers = [FormLayer("forms"), CueLayer("cues"), ModelLayer(engine.name, engine.trusted)]
        if house != House():
            layers.append(HouseLayer("house", house))
        self.engine, self._nlp = engine, _NoNlp()
        registry = RecognizerRegistry(recognizers=layers, supported_languages=[LANGUAGE])
        self._analyzer = AnalyzerEngine(
            registry=registry, nlp_engine=self._nlp, supported_languages=[LANGUAGE], context_aware_enhancer=_NoContext()
        )

    def spans(
        self, texts: Sequence[str], settled: Sequence[Sequence[tuple[int, int]]], modelled: Sequence[bool]
    ) -> Iterator[list[Span]]:
        """Spans of each text; `settled` are places that an earlier layer has decided, `modelled` whether the model
        knows the text's language."""
        asked = [i for i, wanted in enumerate(modelled) if wanted]
        answers = self.engine.entities([texts[i] for i in asked], [settled[i] for i in asked])
        entities = dict(zip(asked, answers, strict=True))
        for i, text in enumerate(texts):
            results = self._analyzer.analyze(text, LANGUAGE, nlp_artifacts=artifacts(self._nlp, entities.get(i, ())))
            yield [Span(r.entity_type, r.start, r.end, r.recognition_metadata["layer"], r.score) for r in results]
