"""What the layers without a language find in German, Spanish, French and Dutch, where no model is at hand."""

from datetime import date
from pathlib import Path

import pytest

from pipelines.deidentify.identities import Identities
from pipelines.deidentify.reports.dates import find_dates
from pipelines.deidentify.reports.scrub import ReportScrubber, Scrubbed, ScrubItem
from pipelines.keys import DerivationSecret

GERMAN = (
    "Herr Müller, geb. 12. Mai 1947, stellt sich vor. Die Lunge ist frei, das Herz ist nicht vergrößert. Vergleich "
    "mit dem 5. Jänner 2018. Tel. 030 / 1234567. Untersucht von Dr. med. Annegret Feldkamp. Gez. Oberarzt Prof. Dr. "
    "Lindhorst."
)
SPANISH = (
    "Paciente: Hans Müller. Los pulmones están limpios y el corazón no está aumentado. Se compara con el 3 de enero de "
    "2018. Solicitado por la Dra. Carmen Ibáñez Roldán. Sra. Lucía Montalbán, teléfono 612 345 678."
)
FRENCH = (
    "Patient : M. Hans MÜLLER, né le 12 mai 1947. Les poumons sont clairs et le coeur n'est pas augmenté. Comparaison "
    "avec le 1er février 2018. Mme Dupont-Verdier, tél. 01 42 34 56 78. Signé : Pr Thibault Arnoult."
)
DUTCH = (
    "De heer Müller, geboren 12-05-1947. De longen zijn helder en het hart is niet vergroot. Vergeleken met 4 januari "
    "2018. Aanvrager: dr. P. van der Meulen. Mevrouw Jansen-de Vries, tel. 06-12345678. Getekend: drs. "
    "Willemijn Hoekstra."
)
WHO = Identities(names=frozenset({"Müller^Hans"}), dates=frozenset({date(1947, 5, 12)}))


@pytest.fixture(scope="module")
def scrubber(tmp_path_factory: pytest.TempPathFactory) -> ReportScrubber:
    return ReportScrubber(DerivationSecret.create(Path(tmp_path_factory.mktemp("k") / "secret.json")))


def scrub(scrubber: ReportScrubber, text: str) -> Scrubbed:
    (result,) = scrubber.scrub([ScrubItem(text, WHO, "P1", -70)])
    return result


@pytest.mark.parametrize(
    ("language", "text", "gone", "kept"),
    [
        ("de", GERMAN, ["Müller", "Mai", "Jänner", "030", "1234567", "Feldkamp", "Annegret", "Lindhorst"],
         ["Die Lunge ist frei, das Herz ist nicht vergrößert.", "Untersucht von Dr. med.", "Oberarzt Prof. Dr.",
          "3. März 1947", "27. Oktober 2017"]),
        ("es", SPANISH, ["Müller", "enero", "Carmen", "Ibáñez", "Roldán", "Montalbán", "612"],
         ["Los pulmones están limpios y el corazón no está aumentado.", "por la Dra. ", "25 de octubre de 2017"]),
        ("fr", FRENCH, ["MÜLLER", "mai", "1er février", "Dupont", "Verdier", "01 42", "Thibault", "Arnoult"],
         ["Les poumons sont clairs et le coeur n'est pas augmenté.", "3 mars 1947", "23 novembre 2017", "Signé : Pr "]),
        ("nl", DUTCH, ["Müller", "12-05-1947", "januari", "Meulen", "Jansen", "12345678", "Willemijn", "Hoekstra"],
         ["De longen zijn helder en het hart is niet vergroot.", "van der", "26 oktober 2017", "03-03-1947"]),
    ],
)  # fmt: skip
def test_persons_dates_and_numbers_go_and_the_clinic_stays(scrubber, language, text, gone, kept) -> None:
    result = scrub(scrubber, text)
    assert (result.language, result.unmodelled, result.residue) == (language, True, False)
    assert [g for g in gone if g in result.text] == []
    assert [k for k in kept if k not in result.text] == []


@pytest.mark.parametrize(
    ("text", "moved"),
    [
        (
            "Comparaison avec le film du 1er mars 2019 et la radio",
            "Comparaison avec le film du 22 février 2019 et la radio",
        ),
        ("Comparaison avec le film du 8 mai 2019 et la radio", "Comparaison avec le film du 1 mai 2019 et la radio"),
        ("Vergelijking met het onderzoek van 7 april 2019 en", "Vergelijking met het onderzoek van 31 maart 2019 en"),
        ("the film of May 7, 2019 and the other is", "the film of April 30, 2019 and the other is"),
    ],
)
def test_months_go_on_in_the_language_of_the_text(text: str, moved: str) -> None:
    (found,) = find_dates(text)
    assert text.replace(found.text, found.shifted(-7)) == moved


def test_a_title_is_no_name_and_particles_stay(scrubber: ReportScrubber) -> None:
    result = scrub(scrubber, "Seen by Prof. Dr. Quellmann; Dr. van der Zanden agrees.")
    assert result.text.startswith("Seen by Prof. Dr. ") and "Dr. van der " in result.text
    assert "Quellmann" not in result.text and "Zanden" not in result.text
