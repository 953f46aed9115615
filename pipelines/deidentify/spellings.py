"""The spellings under which one value may come back: accents on and off, transliterated, in other character sets."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

# Letters that Unicode does not decompose, and the digraphs that German and Nordic names are written with (ICAO 9303).
_PLAIN = str.maketrans({"ß": "ss", "æ": "ae", "ø": "o", "œ": "oe", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i"})
_DIGRAPHS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa", "æ": "ae", "ß": "ss", "ñ": "ny"})
# ISO 9 and ISO 843 without diacritics, as passports write them.
_CYRILLIC = "a,b,v,g,d,e,zh,z,i,y,k,l,m,n,o,p,r,s,t,u,f,kh,ts,ch,sh,shch,ie,y,,e,iu,ia"
_GREEK = "a,v,g,d,e,z,i,th,i,k,l,m,n,x,o,p,r,s,s,t,y,f,ch,ps,o"
_LETTERS = [(first, names.split(",")) for first, names in (("а", _CYRILLIC), ("α", _GREEK))]
_SCRIPTS = {ord(first) + i: name for first, names in _LETTERS for i, name in enumerate(names)}
_SCRIPTS |= {ord("ё"): "e", ord("і"): "i", ord("ї"): "i"}
# Character sets of PS3.3 C.12.1.1.2, the Windows sets that are written in their place, and UTF-16.
CHARSETS = (
    "utf-8", "latin-1", "cp1252", "utf-16-le", "utf-16-be", "iso8859_2", "iso8859_3", "iso8859_4", "iso8859_5",
    "iso8859_6", "iso8859_7", "iso8859_8", "iso8859_9", "iso8859_15", "cp1250", "cp1251", "koi8_r", "shift_jis",
    "euc_jp", "iso2022_jp", "iso2022_jp_1", "tis_620", "euc_kr", "iso2022_kr", "gb18030", "gb2312", "big5", "cp437",
)  # fmt: skip
_SEPARATORS = re.compile(r"[\s,^._\-=/\\|:;()]+")
_GROUPS = re.compile(r"\d+(?:[ .\-/()]{1,2}\d+)+")
_DECIMAL = re.compile(r"\d+\.\d+")


def fold(text: str) -> str:
    """Composed and without case, and, behind it, the same without accents and in Latin letters."""
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFC", text).casefold()
    return f"{folded}\n{latin(folded)}\n{latin(folded.translate(_DIGRAPHS))}"


def latin(text: str) -> str:
    """In plain Latin letters as far as they have an agreed transliteration; `text` is folded."""
    decomposed = unicodedata.normalize("NFKD", text.translate(_PLAIN).translate(_SCRIPTS))
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def collapse(text: str) -> str:
    """With every run of separators as one space, so that `Doe^Jane`, `Doe, Jane` and `doe_jane` agree."""
    return _SEPARATORS.sub(" ", text)


def joined_digits(text: str) -> str:
    """With the separators inside numbers taken out: 415-555-0143 is 4155550143, but 0.25 is no 025."""
    return _GROUPS.sub(lambda m: m[0] if _DECIMAL.fullmatch(m[0]) else re.sub(r"\D", "", m[0]), text)


@lru_cache(maxsize=1 << 14)
def variants(text: str) -> frozenset[str]:
    """A folded text, without accents, transliterated, and with digraphs."""
    folded = unicodedata.normalize("NFC", text).casefold()
    if folded.isascii():
        return frozenset({folded})
    return frozenset({folded, latin(folded), latin(folded.translate(_DIGRAPHS))})


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
