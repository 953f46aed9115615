"""The spellings under which one value may come back: accents on and off, transliterated, in other character sets."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

# Letters that Unicode does not decompose, and the digraphs that German and Nordic names are written with (ICAO 9303).
_PLAIN = str.maketrans({"ß": "ss", "æ": "ae", "ø": "o", "œ": "oe", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i"})
_DIGRAPHS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa", "æ": "ae", "ß": "ss", "ñ": "ny"})
# Ways of writing Cyrillic from а to я, and Greek from α to ω: as passports do (ICAO 9303, ELOT 743), the English
# (BGN/PCGN, classical), the scientific (ISO 9 without its accents, with the hooks of Slavic names) and the German way.
_CYRILLIC = (
    "a,b,v,g,d,e,zh,z,i,y,k,l,m,n,o,p,r,s,t,u,f,kh,ts,ch,sh,shch,ie,y,,e,iu,ia",
    "a,b,v,g,d,e,zh,z,i,y,k,l,m,n,o,p,r,s,t,u,f,kh,ts,ch,sh,shch,,y,,e,yu,ya",
    "a,b,v,g,d,e,z,z,i,j,k,l,m,n,o,p,r,s,t,u,f,h,c,c,s,sc,,y,,e,ju,ja",
    "a,b,w,g,d,e,sch,s,i,i,k,l,m,n,o,p,r,s,t,u,f,ch,z,tsch,sch,schtsch,,y,,e,ju,ja",
)
_GREEK = (
    "a,v,g,d,e,z,i,th,i,k,l,m,n,x,o,p,r,s,s,t,y,f,ch,ps,o",
    "a,b,g,d,e,z,e,th,i,k,l,m,n,x,o,p,r,s,s,t,y,ph,ch,ps,o",
    "a,v,g,d,e,z,i,th,i,k,l,m,n,ks,o,p,r,s,s,t,i,f,h,ps,o",
    "a,w,g,d,e,s,i,th,i,k,l,m,n,x,o,p,r,s,s,t,i,f,ch,ps,o",
)
_GREEK_PAIRS = (("ου", "ou"), ("γγ", "ng"), ("γκ", "gk"), ("γχ", "nch"))
_MORE_CYRILLIC = str.maketrans(
    {
        "ё": "e",
        "і": "i",
        "ї": "i",
        "є": "ie",
        "ґ": "g",
        "ў": "u",
        "ђ": "dj",
        "ј": "j",
        "љ": "lj",
        "њ": "nj",
        "ћ": "c",
        "џ": "dz",
    }
)
_SCRIPTS = [
    {
        ord(first) + i: name
        for first, names in (("а", cyrillic), ("α", greek))
        for i, name in enumerate(names.split(","))
    }
    | _MORE_CYRILLIC
    for cyrillic, greek in zip(_CYRILLIC, _GREEK, strict=True)
]
# Character sets of PS3.3 C.12.1.1.2, the Windows sets that are written in their place, and UTF-16.
CHARSETS = (
    "utf-8", "latin-1", "cp1252", "utf-16-le", "utf-16-be", "iso8859_2", "iso8859_3", "iso8859_4", "iso8859_5",
    "iso8859_6", "iso8859_7", "iso8859_8", "iso8859_9", "iso8859_15", "cp1250", "cp1251", "koi8_r", "shift_jis",
    "euc_jp", "iso2022_jp", "iso2022_jp_1", "tis_620", "euc_kr", "iso2022_kr", "gb18030", "gb2312", "big5", "cp437",
)  # fmt: skip
SEPARATORS = r"[\s,^._\-=/\\|:;()]"
_SEPARATORS = re.compile(f"{SEPARATORS}+")
_GROUPS = re.compile(r"(?<!\d)\d++(?:[ .\-/()_]{1,3}\d++)+")
_DECIMAL = re.compile(r"\d+\.\d+")


def fold(text: str) -> str:
    """Composed and without case, and, behind it, the same without accents and in Latin letters, one way a line."""
    if text.isascii():
        return text.lower()
    folded = _folded(text)
    return "\n".join(dict.fromkeys((folded, *latin(folded))))


def latin(folded: str) -> Iterator[str]:
    """A folded text in plain Latin letters, once for each agreed way of writing it so."""
    yield _plain(folded.translate(_PLAIN))
    yield _plain(folded.translate(_DIGRAPHS))
    bare = _without_accents(folded)
    if any("α" <= c <= "я" for c in bare):
        for pair, letters in _GREEK_PAIRS:
            bare = bare.replace(pair, letters)
        yield from (_plain(bare.translate(script)) for script in _SCRIPTS)


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _plain(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


def _without_accents(text: str) -> str:
    """Greek without tonos and dialytika; the breve of й and the dots of ё belong to the letter."""
    return "".join(c if c in "йё" else unicodedata.normalize("NFD", c)[0] for c in text)


def collapse(text: str) -> str:
    """With every run of separators as one space, so that `Doe^Jane`, `Doe, Jane` and `doe_jane` agree."""
    return _SEPARATORS.sub(" ", text)


def squeeze(text: str) -> str:
    """Without any separators: an identifier is the same however it is divided."""
    return _SEPARATORS.sub("", text)


def joined_digits(text: str) -> str:
    """With the separators inside numbers taken out: 415-555-0143 is 4155550143, but 0.25 is no 025."""
    return _GROUPS.sub(lambda m: m[0] if _DECIMAL.fullmatch(m[0]) else re.sub(r"\D", "", m[0]), text)


@lru_cache(maxsize=1 << 14)
def variants(text: str) -> frozenset[str]:
    """A folded text, without accents, with digraphs, and transliterated in every way."""
    folded = _folded(text)
    return frozenset({folded} if folded.isascii() else {folded, *latin(folded)})


@lru_cache(maxsize=1 << 12)
def encodings(text: str) -> frozenset[bytes]:
    """A text that is not ASCII as bytes of every charset that has its letters, composed and decomposed, in any case."""
    found = set()
    for form in ("NFC", "NFD"):
        normal = unicodedata.normalize(form, text)
        for spelling in {normal, normal.lower(), normal.upper(), normal.title()}:
            for charset in CHARSETS:
                try:
                    data = spelling.encode(charset)
                except UnicodeEncodeError:
                    continue
                found.add(data.removesuffix(b"\x1b(B").removeprefix(b"\x1b$)C"))
    return frozenset(data for data in found if len(data) >= 6)
