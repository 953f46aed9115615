"""How values are written on pages: words of state with their tone, numbers, times. One voice for all pages."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from pipelines.scale.hours import words
from server.jobs.states import ENDED, State
from server.store.models import Job, JobEvent, now

# State -> (word, tone). Tone good, attention, bad, live or none; the word always stands beside its mark.
STATES: dict[str, tuple[str, str]] = {
    "registered": ("registered", ""),
    "working": ("at work", "live"),
    "waiting": ("waits", "attention"),
    "released": ("released", "good"),
    "sent_back": ("sent back", "attention"),
    "clean": ("clean", "good"),
    "leak": ("leak", "bad"),
    "unsure": ("unsure", "attention"),
    "withdrawn": ("withdrawn", ""),
    "ready": ("ready", "good"),
    "queued": ("queued", ""),
    "running": ("running", "live"),
    "canceling": ("canceling", "attention"),
    "succeeded": ("succeeded", "good"),
    "failed": ("failed", "bad"),
    "canceled": ("canceled", ""),
}


# Recogniser of reports -> by what it knows (pipelines.deidentify.reports).
RECOGNISERS: dict[str, str] = {
    "known": "a value of the header or message",
    "misspelt": "a name of the header, misspelt",
    "dates": "the spelling of a date",
    "cue": "the words around a name",
    "forms": "its form: a number, an address, a phone",
    "house": "the site's own list",
    "spacy": "the language model that comes along",
    "transformers": "the site's own de-identifier",
    "presidio": "presidio's own recognisers",
    "general": "patterns of letters and notes",
    "country": "the list of countries",
}


# Task of an evaluation or study -> its words, and whether it is asked for unless told otherwise.
TASKS: dict[str, tuple[str, bool]] = {
    "findings": ("Findings", True),
    "lines": ("Lines and tubes", True),
    "view": ("View, a control", True),
    "segmentation": ("Segmentation, where the cohort has masks", False),
    "reports": ("Report generation, where it has reports", False),
}
# Headline metric of a task -> its word (pipelines.evaluate.answer).
METRICS: dict[str, str] = {"auroc": "AUROC", "dice": "Dice", "label_f1": "label F1"}


def metric(name: str) -> str:
    """The word of a headline metric."""
    return METRICS.get(name, name)


def recogniser(name: str) -> str:
    """By what a recogniser knows what it takes out; empty for one of a later version."""
    return RECOGNISERS.get(name, "")


def kind(name: str) -> str:
    """The kind of a span in a sentence."""
    return name if name in ("ID", "URL") else name.lower()


def word(state: str) -> str:
    """The word for a state."""
    return STATES.get(state, (state, ""))[0]


def tone(state: str) -> str:
    """The class that colours a state's mark."""
    return STATES.get(state, ("", ""))[1]


def number(value: Any) -> str:
    """Thousands apart; nothing for nothing."""
    return f"{value:,}" if isinstance(value, int | float) else str(value or "")


def decimals(value: Any) -> str:
    """Three decimals for a measured number."""
    return f"{value:.3f}" if isinstance(value, int | float) else ""


def percent(share: float) -> str:
    """A share in per cent, with a decimal below 10 and two below 1."""
    value = 100 * share
    return f"{value:.{0 if value >= 10 else 1 if value >= 1 else 2}f} %"


def when(value: datetime | date | None) -> Markup:
    """`today 14:05`, `3 Nov 14:05` or `3 Nov 2025`, in UTC, with the full stamp for the reader's own zone on hover."""
    if value is None:
        return Markup("")
    if not isinstance(value, datetime):
        return Markup("{}").format(value.isoformat())
    today = now()
    if value.date() == today.date():
        text = f"today {value:%H:%M}"
    else:
        text = f"{value.day} {value:%b %H:%M}" if value.year == today.year else f"{value.day} {value:%b %Y}"
    return Markup('<time datetime="{}">{}</time>').format(value.replace(tzinfo=UTC).isoformat(), text)


def took(job: Job) -> str:
    """How long a job has worked, or worked."""
    if job.started_at is None:
        return ""
    seconds = int(((job.finished_at or now()) - job.started_at) / timedelta(seconds=1))
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes} min {seconds} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def waits(job: Job) -> str:
    """What a queued job waits for besides a worker."""
    needs = sum(need.state not in ENDED for need in job.needs) if job.state == State.QUEUED else 0
    return f"waits for {needs} other {'jobs' if needs > 1 else 'job'}" if needs else ""


def share(progress: dict[str, Any]) -> int:
    """Per cent of a progress event, 0 when the total is unknown."""
    total = progress.get("total")
    return min(100, round(100 * progress.get("done", 0) / total)) if total else 0


def quarantined(counts: dict[str, Any]) -> int:
    """Inputs in quarantine, over all reasons."""
    return sum(counts.get("quarantined", {}).values())


def says(event: JobEvent) -> str:
    """One line for an event of a stage."""
    data = event.data
    if event.kind == "log":
        return str(data.get("message", ""))
    if event.kind == "metric":
        values = "  ".join(f"{k} {v:.4g}" for k, v in data.get("values", {}).items() if isinstance(v, int | float))
        return f"step {data.get('step')}  {values}"
    if event.kind == "progress":
        return f"{data.get('what')}: {number(data.get('done'))} of {number(data.get('total')) or 'unknown'}"
    if event.kind == "checkpoint":
        return f"checkpoint at step {data.get('step')}"
    return f"{event.kind} {data.get('name', '')}"


def facts(detail: dict[str, Any]) -> str:
    """A small dictionary in one line."""
    return ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in detail.items())


def install(environment: Environment) -> None:
    """Register the filters under the names the templates use."""
    environment.filters.update(
        word=word, tone=tone, n=number, decimals=decimals, when=when, took=took, share=share, says=says, facts=facts,
        quarantined=quarantined, percent=percent, recogniser=recogniser, kind=kind, metric=metric,
        waits=waits, cost=words, clock=lambda t: f"{t:%H:%M:%S}",
    )  # fmt: skip
