"""Do the 95 % intervals of an evaluation hold the truth 95 times in 100? Simulated patients, so that it is known.

A score is a patient's part plus an image's part, all normal, plus a step for positives, so AUROC, AUPRC, sensitivity
and Brier score of the population follow from the step. Two models share half of the patient's part. Plain percentile
intervals of the same draws are measured beside. About six minutes on one core.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from pipelines.evaluate import stats
from tests.benchmarks.record import record

SETS, DRAWS, IMAGES = 2000, 1000, 3  # simulated data sets, bootstrap draws of each, most images of a patient
STEP = 2**0.5  # scores have unit variance within a class: AUROC is ndtr(step / sqrt(2))


@dataclass(frozen=True)
class World:
    """How many patients, how likely each is positive, and the true AUROC of the two models."""

    patients: int
    prevalence: float
    least: int
    """Data sets with fewer positive patients are drawn again."""
    auroc: float
    other: float


WORLDS = (
    World(200, 0.2, 30, 0.70, 0.70),
    World(200, 0.2, 30, 0.85, 0.80),
    World(200, 0.2, 30, 0.95, 0.90),
    World(500, 0.2, 30, 0.85, 0.80),
    World(100, 0.15, 5, 0.85, 0.80),
    World(60, 0.13, 5, 0.85, 0.80),
)


def truth(auroc: float, prevalence: float) -> np.ndarray:
    """stats.METRICS of the population, by integrals over a fine grid."""
    step = norm.ppf(auroc) * STEP
    x = np.linspace(-9, 12, 200_001)
    up, down = norm.pdf(x - step), norm.pdf(x)
    found, false = prevalence * norm.sf(x - step), (1 - prevalence) * norm.sf(x)
    precision = found / np.maximum(found + false, 1e-300)
    width = x[1] - x[0]
    brier = prevalence * (up * (expit(x) - 1) ** 2).sum() + (1 - prevalence) * (down * expit(x) ** 2).sum()
    sensitivity = norm.sf(norm.ppf(stats.SPECIFICITY) - step)
    return np.array([auroc, (precision * up).sum() * width, sensitivity, brier * width])


def simulate(world: World, rng: np.random.Generator) -> tuple[list[stats.Ranking], int]:
    """Both models on one data set, and how many patients its smaller class has."""
    positive = np.zeros(world.patients, int)
    while positive.sum() < world.least:
        positive = (rng.random(world.patients) < world.prevalence).astype(int)
    patient = np.repeat(np.arange(world.patients), rng.integers(1, IMAGES + 1, world.patients))
    target = positive[patient]
    shared = rng.normal(size=world.patients)
    rankings = []
    for auroc in (world.auroc, world.other):
        own, image = rng.normal(size=world.patients), rng.normal(size=len(patient))
        noise = 0.4**0.5 * shared[patient] + 0.3**0.5 * (own[patient] + image)
        rankings.append(stats.Ranking.of(target, noise + norm.ppf(auroc) * STEP * target, patient))
    return rankings, int(min(positive.sum(), world.patients - positive.sum()))


def coverage(world: World) -> tuple[dict[str, float], dict[str, float]]:
    """Share of data sets whose interval holds the truth, ours and plain percentile, by what is measured."""
    weights = np.concatenate([counts for counts, _ in stats.draw_patients(world.patients, 1, DRAWS)], 1)
    true = [truth(a, world.prevalence) for a in (world.auroc, world.other)]
    rng = np.random.default_rng(1)
    held = np.zeros((2, len(stats.METRICS) + 1))
    for _ in range(SETS):
        rankings, smaller = simulate(world, rng)
        value, draws = zip(*((r.value(), r.measure(weights)) for r in rankings), strict=True)
        ours = [stats.interval_of_share(v, d, smaller) for v, d in zip(value[0], draws[0], strict=True)]
        ours.append(stats.interval(draws[0][0] - draws[1][0], patients=smaller))
        plain = [stats.interval(d) for d in (*draws[0], draws[0][0] - draws[1][0])]
        aims = [*true[0], true[0][0] - true[1][0]]
        for row, intervals in enumerate((ours, plain)):
            held[row] += [low <= aim <= high for (low, high), aim in zip(intervals, aims, strict=True)]
    names = [*stats.METRICS, "paired difference in auroc"]
    return tuple(dict(zip(names, 100 * h / SETS, strict=True)) for h in held)


def main() -> None:
    for world in WORLDS:
        ours, plain = coverage(world)
        where = (
            f"{world.patients} patients, {world.prevalence:.0%} of them positive, at least {world.least}, true AUROC "
            f"{world.auroc} and {world.other}"
        )
        said = [", ".join(f"{name} {share:.1f}" for name, share in of.items()) for of in (ours, plain)]
        record(
            f"coverage of 95 % intervals in {SETS:,} simulated data sets, % ({where})",
            said[0],
            f"percentile intervals: {said[1]}; aim 93 to 97",
            ours["auroc"] / 95,
        )


if __name__ == "__main__":
    main()
