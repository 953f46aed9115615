"""Reports split into their sections by their headings."""

from __future__ import annotations

import re
from typing import NamedTuple


class Sections(NamedTuple):
    """What stands under the headings of a report; empty where there is none. Pretraining reads the last two."""

    indication: str
    comparison: str
    technique: str
    findings: str
    impression: str


# Headings in use, by section, in the languages that reports are read in.
HEADINGS = {
    "indication": "indication|indications|clinical indication|reason for exam|reason for examination|history"
    "|clinical history|clinical information|indikation|klinische angaben|fragestellung|indicación|información clínica"
    "|renseignements cliniques|indicatie|klinische gegevens",
    "comparison": "comparison|comparisons|vergleich|voruntersuchung|voruntersuchungen|comparación|comparaison"
    "|vergelijking",
    "technique": "technique|procedure|examination|exam|views|technik|técnica|techniek",
    "findings": "findings|finding|findings and impression|description|report|befund|befunde|hallazgos|résultats"
    "|résultat|bevindingen|verslag",
    "impression": "impression|impressions|conclusion|conclusions|opinion|summary|addendum|beurteilung|impresión"
    "|conclusión|conclusie",
}
SECTIONS = {name: section for section, names in HEADINGS.items() for name in names.split("|")}
# A known heading may follow a sentence on its line; any other ends a section only in capitals at the start of a line
# ("Note: ..." within the findings is no heading).
HEADING = re.compile(
    r"(?:^|(?<=[.;]\s))[ \t]*((?i:" + "|".join(SECTIONS) + r"))[ \t]*:|^[ \t]*([A-Z][A-Z /]{2,40}?)[ \t]*:", re.M
)
BLANK_LINE = re.compile(r"\n[ \t]*\n")
# What follows the sections of a report and belongs to none.
CLOSING = re.compile(r"^\s*(?:electronically signed|findings were discussed|dictated by|signed by)\b", re.I | re.M)


def split_sections(text: str) -> Sections:
    """The sections of a report.

    Where it has neither findings nor impression, what stands under none of the headings is the findings: before the
    first one, after the blank line that ends a section, and under a heading of the site's own. An indication never is.
    """
    found = list(HEADING.finditer(text))
    parts: dict[str, list[str]] = {name: [] for name in Sections._fields}
    loose = [text[: found[0].start()] if found else text]
    ends = [match.start() for match in found[1:]] + [len(text)]
    for match, end in zip(found, ends, strict=False):
        section = SECTIONS.get((match[1] or match[2]).strip().lower())
        if section:
            body = CLOSING.split(text[match.end() : end], maxsplit=1)[0].strip()
            parts[section].append(body)
            loose += BLANK_LINE.split(body, maxsplit=1)[1:]
        else:
            loose.append(text[match.start() : end])
    sections = Sections(*(" ".join(part for part in parts[name] if part) for name in Sections._fields))
    if sections.findings or sections.impression:
        return sections
    return sections._replace(findings="\n".join(part.strip() for part in loose).strip())
