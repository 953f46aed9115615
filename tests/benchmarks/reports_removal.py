"""Planted identifiers removed from real report texts, and the clinical words that this costs.

Three whole exports with seeds that nothing was developed on, each report paired with its DICOM header; then all Open-I
reports as they are, in which nothing is planted, so that every change is a loss.
"""

from collections import Counter

from pipelines.deidentify.identities import Identities
from pipelines.deidentify.reports.scrub import ReportScrubber, ScrubItem
from tests.benchmarks.planted import SECRET, SHIFT, Planted, from_export, open_i_texts, span_lists, tally
from tests.benchmarks.record import record

SEEDS = (9001, 9002, 9003)
REACH, MOST_CHANGED = 0.998, 0.003


def main() -> None:
    scrubber = ReportScrubber(SECRET)
    reports = [report for seed in SEEDS for report in from_export(seed)]
    results = scrubber.scrub([r.item for r in reports])
    total = tally(reports, list(span_lists(results)))
    kinds = ", ".join(f"{k} {total.removed[k]}/{n}" for k, n in sorted(total.planted.items()))
    quarantined = sum(r.residue for r in results)
    name = f"planted identifiers removed, {len(reports)} reports of exports {', '.join(map(str, SEEDS))}"
    record(name, f"{total.recall:.4%} ({kinds}; {quarantined} to quarantine)", f"aim {REACH:.1%}", total.recall / REACH)
    header = total.header_removed / total.in_header
    record(
        "of these, with a value of the paired header", f"{total.header_removed}/{total.in_header}", "aim 100%", header
    )
    rest = f"{total.loss:.3%} of {total.tokens} ({total.dates} of {total.changed} are dates of the notes themselves)"
    record("clinical tokens changed outside of these", rest, f"limit {MOST_CHANGED:.1%}", MOST_CHANGED / total.loss)
    untouched(scrubber)


def untouched(scrubber: ReportScrubber) -> None:
    plain = [Planted(ScrubItem(text, Identities(), "P", SHIFT), []) for text in open_i_texts()]
    results = scrubber.scrub([r.item for r in plain])
    total = tally(plain, list(span_lists(results)))
    kinds = ", ".join(f"{k} {n}" for k, n in Counter(s.kind for r in results for s in r.spans).most_common())
    # Where nothing was changed, the ratio is that of a single token.
    record(
        f"tokens changed in all {len(plain)} Open-I reports as they are",
        f"{total.loss:.3%} of {total.tokens} ({kinds or 'none'})",
        f"limit {MOST_CHANGED:.1%}",
        MOST_CHANGED / max(total.loss, 1 / total.tokens),
    )


if __name__ == "__main__":
    main()
