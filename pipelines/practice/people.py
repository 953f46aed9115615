"""Fictitious people, hospitals and machines, marked as practice: issuer PRACTICE, 555-01xx phones."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np

ISSUER = "PRACTICE"


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Some surnames and first names are ordinary words, some of them words of radiology: scrubbing must tell them apart.
FIRST_F = _words("""
    Amara Beatriz Dolores Fatima Giulia Ingrid Katarzyna Mei Niamh Priya Rosa Thandiwe Ulrike Wanjiru Ximena Zofia
    May Grace Rose Faith Hope Summer Violet Pearl
""")
FIRST_M = _words("""
    Chidi Emre Hiroshi Jürgen Liam Olu Quentin Søren Víctor Yusuf Tomasz Ravi Anselm Kofi Will Art Mark Dean Frank
    Chase Dale Grant Miles Guy
""")
LAST = _words("""
    Abernathy Bianchi Castellanos Dlamini Eriksson Fitzgerald Gutiérrez Haddad Iwasaki Jankowski Kowalczyk Lindqvist
    Mbeki Nakamura O'Sullivan Pereira Quispe Rasmussen Šimůnek Tanaka Uchida Vasquez Weatherby Yamamoto Zielinski
    Müller-Brandt Stone Long Hill Young Brown Black White Rose Line Price Small Heart Chase Field Short Marker
""")
HOSPITALS = (
    "Practice General Hospital",
    "St Brannock Practice Hospital",
    "Harrowgate Vale Infirmary",
    "Clínica Santa Aurelia",
    "Lakemoor Medical Center",
)
STREETS = ("Orchard Lane", "Kestrel Avenue", "Rue des Tanneurs", "Millpond Road", "Cobbler Street", "Larkspur Close")
# (manufacturer, model, CR or DX)
MACHINES = (
    ("Acme Imaging", "PlateReader 5", "CR"),
    ("Acme Imaging", "Flat 43 Mobile", "DX"),
    ("Borealis Medical", "Corridor DR", "DX"),
    ("Quanta X", "QX Storage 2", "CR"),
)


@dataclass(frozen=True)
class Person:
    """A patient, physician or radiographer who never lived."""

    first: str
    last: str
    sex: str
    birth: dt.date
    mrn: str
    phone: str
    street: str

    @property
    def pn(self) -> str:
        """DICOM person name."""
        return f"{self.last}^{self.first}"


def make_person(rng: np.random.Generator, number: int, sex: str, age: int, today: dt.date) -> Person:
    """A person of about `age` years at `today`; `number` makes the record number unique."""
    born = dt.date(today.year - age, int(rng.integers(1, 13)), int(rng.integers(1, 29)))
    area = int(rng.integers(201, 990))
    return Person(
        first=str(rng.choice(FIRST_F if sex == "F" else FIRST_M)),
        last=str(rng.choice(LAST)),
        sex=sex,
        birth=born,
        # Odd multiplier: a bijection on eight digits, so numbers look random and never collide.
        mrn=f"{10_000_000 + (number * 48_271_877 + int(number > 0) * 7_654_321) % 90_000_000}",
        phone=f"{area}-555-01{int(rng.integers(0, 100)):02d}",
        street=f"{int(rng.integers(2, 2400))} {rng.choice(STREETS)}",
    )


def make_uid(rng: np.random.Generator) -> str:
    """A UID under 2.25 (PS3.5 B.2)."""
    return "2.25." + str(int.from_bytes(rng.bytes(16), "big") | 1 << 120)
