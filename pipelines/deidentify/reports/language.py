"""Which language a report is written in, by a vote of small words; enough to know which layers can be trusted."""

from __future__ import annotations

import re
from functools import cache

from pipelines.deidentify.reports.words import word_list

LANGUAGES = {"en": "English", "es": "Spanish", "de": "German", "fr": "French", "nl": "Dutch"}
FEWEST = 4


def language_of(text: str) -> str:
    """One of LANGUAGES, or an empty string for a text too short or mixed to tell (radiology English has few small
    words, so a vote for another language needs a clear lead)."""
    votes = dict.fromkeys(LANGUAGES, 0)
    for word in re.findall(r"[^\W\d_]+", text.lower()):
        for language in _small_words().get(word, ()):
            votes[language] += 1
    best, second = sorted(LANGUAGES, key=lambda k: -votes[k])[:2]
    clear = votes[best] >= FEWEST and votes[best] >= 1.5 * votes[second]
    return best if clear else ""


@cache
def _small_words() -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for language in LANGUAGES:
        for word in word_list(f"small_words_{language}"):
            found.setdefault(word, []).append(language)
    return {word: tuple(languages) for word, languages in found.items()}
