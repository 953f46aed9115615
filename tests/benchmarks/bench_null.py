"""How often does an evaluation find a difference where there is none? Two models of equal true AUROC, 14 labels.

Scores are a patient's part, an image's part and a step for positives; labels are independent, prevalence 0.2 to 0.4.
A false alarm is any label whose Holm-adjusted p is below 0.05. The peer is the same without Holm. About four minutes.
"""

import numpy as np

from pipelines.evaluate import stats
from tests.benchmarks.record import record

SETS, DRAWS, LABELS, PATIENTS, IMAGES = 1000, 2000, 14, 200, 2
STEP = 1.2  # AUROC 0.80
LIMIT = 7.0  # per cent


def differences(rng: np.random.Generator, weights: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """AUROC differences [labels, draws] of one data set, and the patients of each label's smaller class."""
    patient = np.repeat(np.arange(PATIENTS), rng.integers(1, IMAGES + 1, PATIENTS))
    draws, smaller = [], []
    for prevalence in np.linspace(0.2, 0.4, LABELS):
        positive = (rng.random(PATIENTS) < prevalence).astype(int)
        shared = rng.normal(size=PATIENTS)
        areas = []
        for _ in range(2):
            own = rng.normal(size=PATIENTS)[patient] + rng.normal(size=len(patient))
            score = 0.4**0.5 * shared[patient] + 0.3**0.5 * own + STEP * positive[patient]
            areas.append(stats.Ranking.of(positive[patient], score, patient).auroc(weights))
        draws.append(areas[0] - areas[1])
        smaller.append(int(positive.sum()))
    return np.stack(draws), smaller


def main() -> None:
    rng = np.random.default_rng(0)
    weights = np.concatenate([counts for counts, _ in stats.draw_patients(PATIENTS, 1, DRAWS)], 1)
    alarms, unadjusted, macro = 0, 0, 0
    for _ in range(SETS):
        draws, smaller = differences(rng, weights)
        p = np.array([stats.two_sided_p(d, n) for d, n in zip(draws, smaller, strict=True)])
        alarms += bool((stats.holm(p) < 0.05).any())
        unadjusted += bool((p < 0.05).any())
        macro += stats.two_sided_p(draws.mean(0), PATIENTS) < 0.05
    said = [f"{100 * n / SETS:.1f}" for n in (alarms, macro, unadjusted)]
    record(
        f"false alarms where two models are equal, % of {SETS:,} simulated evaluations ({LABELS} labels, {PATIENTS} "
        f"patients with 1 to {IMAGES} images, {DRAWS:,} draws)",
        f"{said[0]} on any label, {said[1]} on the macro",
        f"without Holm {said[2]} on any label; limit {LIMIT:.0f}",
        LIMIT / max(100 * alarms / SETS, 0.1),
    )


if __name__ == "__main__":
    main()
