"""Spec of `evaluate`: models x tasks on one cohort's test split, with intervals."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from pipelines.contract import Ref
from pipelines.contract import Spec as Base
from pipelines.reporting.spec import Reporting
from pipelines.segmentation.spec import Segmentation

ProbedTask = Literal["findings", "lines", "view"]
Task = Literal[ProbedTask, "segmentation", "reports"]


Method = Literal["linear", "knn", "few-shot", "attentive", "zero-shot"]


class Prompts(BaseModel):
    """Texts that say a label is present, and texts that say it is not."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    positive: tuple[str, ...] = Field(min_length=1)
    negative: tuple[str, ...] = Field(min_length=1)


class Attentive(BaseModel):
    """How the attentive probe is trained; see pipelines.evaluate.attentive."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    images: int = Field(default=5000, ge=1)
    """Most train images that are learnt from, of whole patients in the cohort's order: every patch token is stored."""
    steps: int = Field(default=600, ge=10)
    batch: int = Field(default=64, ge=1)


class Spec(Base):
    FREE: ClassVar[frozenset[str]] = Base.FREE | {"store", "looks"}

    cohort: Annotated[Path, Ref("cohort")]
    models: Annotated[tuple[Path, ...], Ref("model"), Field(min_length=1)]
    baselines: Annotated[tuple[Path, ...], Ref("model")] = ()
    """Models to compare with. A model of a tiny form is also compared with its own untrained start, by itself."""
    teacher: Annotated[Path | None, Ref("cohort")] = None
    """Cohort whose train and validation images teach the probes in place of the cohort's own, as for an external set
    that is all test. Other tasks learn from the cohort itself."""
    tasks: tuple[Task, ...] = ("findings", "lines", "view")
    methods: tuple[Method, ...] = ("linear", "knn", "few-shot", "zero-shot")
    """How labels are read from features. The linear probe answers and the others stand beside it; zero-shot answers
    where it is the only one, or where the cohort teaches nothing, as a set that is all test."""
    prompts: dict[str, Prompts] = Field(default_factory=dict)
    """Zero-shot texts by label, instead of those that pipelines/evaluate/prompts.toml holds."""
    attentive: Attentive = Attentive()
    """How the method `attentive` is trained."""
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    """Seeds of the probe's subsample of training patients; fewer than 3 prints 'below protocol'."""
    resamples: int = Field(2000, ge=100)
    minimum_positives: int = Field(5, ge=1)
    """Labels with fewer positive test patients are listed, not scored."""
    segmentation: Segmentation = Segmentation()
    """How heads of the task `segmentation` are trained and judged."""
    reports: Reporting = Reporting()
    """How the writers of the task `reports` are trained."""
    similarity: int = Field(1, ge=0, le=20)
    """Test images of each kind of line or tube whose tip the report shows similarity maps of; 0 leaves them out."""
    language_model: Annotated[Path | None, Ref("weights")] = None
    """Folder of a causal language model as transformers saves it; None trains a small one from nothing."""
    chexbert: Annotated[Path | None, Ref("weights")] = None
    """Folder of CheXbert with its published weights; None leaves its F1 out."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    store: Annotated[Path | None, Ref("internal")] = None
    """Folder of features and score parts that evaluations share; None takes the run folder."""
    looks: Annotated[int | None, Ref("internal")] = None
    """Which look at these test patients this one is, by a control plane's count; None counts in the cohort's folder."""

    @field_validator("methods")
    @classmethod
    def _linear_answers(cls, methods: tuple[Method, ...]) -> tuple[Method, ...]:
        if "linear" not in methods and set(methods) != {"zero-shot"}:
            raise ValueError("must name 'linear', from which the answer is made, or 'zero-shot' alone")
        return methods
