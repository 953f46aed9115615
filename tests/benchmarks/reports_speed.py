"""Reports a second of processor time, one process: ours (header layer, recognisers, replacement, proof) against
presidio's default AnalyzerEngine in a loop, which only finds. Same texts, same model, same process; the peer reads
every tenth of them. Recall is of the planted identifiers of the texts that both read.
"""

import time

from pipelines.deidentify.identities import Identities
from pipelines.deidentify.reports.scrub import ReportScrubber, ScrubItem
from tests.benchmarks.peer_presidio import Presidio
from tests.benchmarks.planted import SECRET, composed, span_lists, tally
from tests.benchmarks.record import record

REPORTS, SEED, BATCH, EACH = 10_000, 404, 32, 10


def main() -> None:
    reports = composed(REPORTS, SEED)
    shared = reports[::EACH]
    scrubber, presidio = ReportScrubber(SECRET), Presidio()
    scrubber.scrub([ScrubItem("Dr. Who saw Anneliese Brandauer.", Identities(), "P", 7)])
    presidio("Dr. Who saw Anneliese Brandauer.")

    start, results = time.process_time(), []
    for first in range(0, REPORTS, BATCH):
        results += scrubber.scrub([r.item for r in reports[first : first + BATCH]])
    ours = REPORTS / (time.process_time() - start)

    start = time.process_time()
    theirs = [presidio(r.item.text) for r in shared]
    rate = len(shared) / (time.process_time() - start)

    found = list(span_lists(results))
    own, peer = tally(shared, found[::EACH]).recall, tally(shared, theirs).recall
    whole = tally(reports, found).recall
    record(
        f"report text with proof, reports/s/core, {REPORTS} reports (peer: every {EACH}th)",
        f"{ours:.0f} (recall {own:.3%}; of all {whole:.3%})",
        f"presidio default {rate:.0f} (recall {peer:.1%})",
        ours / rate,
    )


if __name__ == "__main__":
    main()
