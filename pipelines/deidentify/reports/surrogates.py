"""What stands in an identifier's place: a tag, or a consistent invented value of the same look (hiding in plain sight).

Surrogates follow from the site's secret, so the same name has the same surrogate in every report of the site. The
names are invented and none of them is a word of the language; phone numbers are of the fictitious 555-01xx range.
"""

from __future__ import annotations

import re

from pipelines.deidentify.identities import Identities
from pipelines.deidentify.reports.folding import fold
from pipelines.deidentify.reports.names import PARTICLES, persons
from pipelines.deidentify.reports.words import word_list
from pipelines.keys import DerivationSecret

FAMILY = word_list("family_names")
GIVEN = word_list("given_names")
STREETS = ("Abbotsmere Lane", "Bramblecroft Road", "Carlinghow Street", "Dovedale Avenue", "Elderfield Drive",
           "Foxhollow Court", "Glenmorrow Way", "Hollinswood Road", "Inverlea Terrace", "Kestrelmoor Lane",
           "Larchmont Avenue", "Mossgate Street")  # fmt: skip
INSTITUTIONS = ("Ashcombe General Hospital", "Brierfield Medical Center", "Calderbrook Infirmary",
                "Dunmere Hospital", "Elmstead Medical Center", "Fernhurst Hospital",
                "Greystoke Infirmary", "Holmewood Hospital")  # fmt: skip
ORGANIZATIONS = ("Aldermoor Company", "Birchfold Partners", "Coldbrook Agency", "Deepdale Group", "Eastlow Company",
                 "Fenwater Partners")  # fmt: skip
PLACES = ("Ashmere", "Brackenby", "Colnewick", "Dunholme", "Eldersby", "Farrowdale", "Gillmoor", "Hexwold")
OLDEST = "90"


class Surrogates:
    """Writes replacements for the identifiers of one report."""

    def __init__(self, secret: DerivationSecret, style: str, who: Identities) -> None:
        self._secret, self._style = secret, style
        self._family: set[str] = set()
        self._given: set[str] = set()
        for person in (p for pn in who.names for p in persons(pn)):
            self._family |= {s for w in person.family for s in w.spellings}
            self._given |= {s for w in person.given for s in w.spellings}
        self._own = self._family | self._given

    def of(self, kind: str, value: str) -> str:
        """The replacement of `value`. Dates are not made here: they are moved."""
        if kind == "AGE":
            return OLDEST
        if kind in ("TITLE", "GROUP"):
            return f"[{kind}]"  # an invented one would say something of a person
        if self._style == "tags":
            return f"[{kind}]"
        if kind == "NAME":
            return self._name(value)
        if kind == "ADDRESS":
            return f"{self._pick('number', value, 240) + 3} {STREETS[self._pick('street', value, len(STREETS))]}"
        if kind == "HOSPITAL":
            return _like(INSTITUTIONS[self._pick("institution", value, len(INSTITUTIONS))], value)
        if kind == "PHONE":
            return self._phone(value)
        if kind == "EMAIL":
            return f"person{self._pick('email', value, 9000) + 1000}@example.org"
        if kind == "PLACE":
            return _like(PLACES[self._pick("place", value, len(PLACES))], value)
        if kind == "ORGANIZATION":
            return _like(ORGANIZATIONS[self._pick("organization", value, len(ORGANIZATIONS))], value)
        if kind == "IP":
            return f"192.0.2.{self._pick('ip', value, 254) + 1}"
        return "https://example.org/" if kind == "URL" else self._identifier(value)

    def _name(self, value: str) -> str:
        """Word by word, so that the same word has the same surrogate in whatever order it stands."""
        words = list(re.finditer(r"[^\W\d_]+(?:['’`-][^\W\d_]+)*", value))
        comma = value.find(",")
        out, at = [], 0
        for i, word in enumerate(words):
            first_is_family = len(words) == 1 or (comma >= 0 and word.start() < comma)
            family = fold(word.group()) in self._family or (
                fold(word.group()) not in self._given and (first_is_family or (comma < 0 and i == len(words) - 1))
            )
            # Particles are nobody's own: van der Meulen becomes van der Lindgate.
            kept = len(words) > 1 and word.group() in PARTICLES
            out += [value[at : word.start()], word.group() if kept else self._word(word.group(), family)]
            at = word.end()
        return "".join([*out, value[at:]])

    def _word(self, word: str, family: bool) -> str:
        names = FAMILY if family else GIVEN
        start = self._pick("family" if family else "given", fold(word), len(names))
        if len(word) == 1:
            return names[start][0]
        new = next(n for i in range(len(names)) if fold(n := names[(start + i) % len(names)]) not in self._own)
        return _like(new, word)

    def _phone(self, value: str) -> str:
        digits = re.sub(r"\D", "", value)
        new = f"{self._pick('phone', digits, 700) + 201}55501{self._pick('line', digits, 100):02d}"
        if len(digits) < 7:
            return self._digits(value)
        fill = iter(new.rjust(len(digits), "1")[-len(digits) :] if len(digits) <= 11 else new.ljust(len(digits), "0"))
        return "".join(next(fill) if c.isdigit() else c for c in value)

    def _identifier(self, value: str) -> str:
        """Digits for digits and letters for letters, keyed by the identifier without its separators."""
        key = "".join(re.findall(r"[^\W_]", fold(value)))
        for attempt in range(8):
            new = self._digits(value, f"{key}:{attempt}")
            if fold(new) != fold(value):
                return new
        return "0" * len(value)

    def _digits(self, value: str, key: str = "") -> str:
        number = self._secret.surrogate("characters", key or value)
        out = []
        for i, c in enumerate(value):
            unit = self._secret.surrogate("character", f"{number}:{i}")
            if c.isdigit():
                c = str(unit % 10)
            elif c.isalpha():
                letter = "ABCDEFGHJKLMNPQRSTUVWXYZ"[unit % 24]
                c = letter if c.isupper() else letter.lower()
            out.append(c)
        return "".join(out)

    def _pick(self, kind: str, value: str, size: int) -> int:
        return self._secret.surrogate(kind, " ".join(re.findall(r"[^\W_]+", fold(value)))) % size


def _like(new: str, old: str) -> str:
    """`new` in capitals or small letters when `old` is."""
    letters = [c for c in old if c.isalpha()]
    if len(letters) > 1 and all(c.isupper() for c in letters):
        return new.upper()
    return new.lower() if letters and all(c.islower() for c in letters) else new
