"""Reports split into findings and impression by their headings."""

from __future__ import annotations

import re

SECTIONS = {
    "findings": "findings",
    "finding": "findings",
    "findings and impression": "findings",
    "description": "findings",
    "impression": "impression",
    "impressions": "impression",
    "conclusion": "impression",
    "conclusions": "impression",
    "opinion": "impression",
}
# A known heading may follow a sentence on its line; any other ends a section only in capitals at the start of a line
# ("Note: ..." within the findings is no heading).
HEADING = re.compile(
    r"(?:^|(?<=[.;]\s))[ \t]*((?i:" + "|".join(SECTIONS) + r"))[ \t]*:|^[ \t]*([A-Z][A-Z /]{2,40}?)[ \t]*:", re.M
)
# What follows the sections of a report and belongs to none.
CLOSING = re.compile(r"^\s*(?:electronically signed|findings were discussed|dictated by|signed by)\b", re.I | re.M)


def split_sections(text: str) -> tuple[str, str]:
    """Findings and impression of a report; the whole text is the findings when neither heading stands in it."""
    found = list(HEADING.finditer(text))
    parts: dict[str, list[str]] = {"findings": [], "impression": []}
    ends = [match.start() for match in found[1:]] + [len(text)]
    for match, end in zip(found, ends, strict=False):
        section = SECTIONS.get((match[1] or match[2]).strip().lower())
        if section:
            body = text[match.end() : end]
            parts[section].append(CLOSING.split(body, maxsplit=1)[0].strip())
    findings, impression = (" ".join(part for part in parts[name] if part) for name in ("findings", "impression"))
    return (findings, impression) if findings or impression else (text.strip(), "")
