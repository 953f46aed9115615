"""The states of a job and who may move it between them. Nothing else may write `job.state`.

queued ──claim──> running ──finish──> succeeded | failed
  │                 │  └─────────── release (worker stopped, lease lost) ──> queued
  │                 └──cancel──> canceling ──> canceled
  └──cancel──> canceled            failed | canceled ──resume──> queued
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol


class State(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    CANCELING = "canceling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.RUNNING, State.CANCELED}),
    State.RUNNING: frozenset({State.SUCCEEDED, State.FAILED, State.QUEUED, State.CANCELING}),
    # A stage may end, well or badly, between the request to cancel and its SIGTERM.
    State.CANCELING: frozenset({State.CANCELED, State.SUCCEEDED, State.FAILED}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset({State.QUEUED}),
    State.CANCELED: frozenset({State.QUEUED}),
}
LIVE = frozenset({State.RUNNING, State.CANCELING})
ENDED = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELED})


class IllegalTransition(Exception):
    """A job cannot go from its state to the one asked for."""


class HasState(Protocol):
    """A job row, as far as this module needs to know it."""

    state: str


def check(old: str, new: State) -> None:
    """Raise IllegalTransition unless `old` may become `new`."""
    if new not in TRANSITIONS[State(old)]:
        raise IllegalTransition(f"A job that is {old} cannot become {new}.")


def move(job: HasState, new: State) -> None:
    """Move a job whose row the caller has locked; raise IllegalTransition where that may not be."""
    check(job.state, new)
    job.state = new
