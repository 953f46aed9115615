"""Two wordings side by side: which words of one do not stand in the other, in order."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import NamedTuple

WORD = re.compile(r"\w+(?:[-'.]\w+)*|[^\w\s]")


class Run(NamedTuple):
    """A run of text, and whether it stands in one wording only."""

    text: str
    marked: bool


def compared(text: str, other: str) -> list[Run]:
    """`text` in runs that together are the text; marked is what `other` does not say at that place, case aside."""
    words = list(WORD.finditer(text))
    same = [m[0].lower() for m in words], [m[0].lower() for m in WORD.finditer(other)]
    out: list[Run] = []
    end = 0
    for kind, first, last, _, _ in SequenceMatcher(None, *same, autojunk=False).get_opcodes():
        if first < last:
            stop = words[last].start() if last < len(words) else len(text)
            out.append(Run(text[end:stop], kind != "equal"))
            end = stop
    return out or [Run(text, False)]
