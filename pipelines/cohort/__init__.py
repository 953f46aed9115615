"""The cohort on disk: an image store with its texts, labels and masks; read by `pretrain` and `evaluate`."""

from pipelines.cohort.reader import Cohort, Subset

__all__ = ["Cohort", "Subset"]
