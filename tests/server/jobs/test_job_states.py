"""Any interleaving of people, two workers and the reaper: no illegal transition, and only the holder can write."""

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from server.jobs import claim, events, lease, reaper, service
from server.jobs.states import ENDED, LIVE, TRANSITIONS, IllegalTransition, State
from server.store.db import Database
from server.store.models import Base, Job, JobEvent
from tests.server.jobs.jobs import HERE, THERE, expire, queue

LEASE = 60.0


class Jobs(RuleBasedStateMachine):
    """Each worker has a connection of its own on one SQLite file, and remembers every token it ever had."""

    claims = Bundle("claims")

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        url = f"sqlite:///{Path(self.folder.name) / 'jobs.db'}"
        self.people, self.here, self.there = Database(url), Database(url), Database(url)
        Base.metadata.create_all(self.people.engine)
        self.jobs = [queue(self.people, max_attempts=2, resource_id=thing) for thing in "ab"]
        self.seen = dict.fromkeys(self.jobs, State.QUEUED)
        self.holder: dict[str, str] = {}
        self.written: list[str] = []

    def teardown(self) -> None:
        for db in (self.people, self.here, self.there):
            db.engine.dispose()
        self.folder.cleanup()

    def job(self, job_id: str) -> Job:
        with self.people.reading() as session:
            return session.get_one(Job, job_id)

    @rule(target=claims, here=st.booleans())
    def claim_one(self, here: bool):
        db, me = (self.here, HERE) if here else (self.there, THERE)
        queued = [job_id for job_id in self.jobs if self.job(job_id).state == State.QUEUED]
        with db.session() as session:
            taken = claim.claim(session, me, "cpu", LEASE)
        assert (taken is None) == (not queued)
        if taken is None:
            return (here, (queued and queued[0]) or self.jobs[0], "never held")
        assert taken.token not in self.holder.values()
        self.holder[taken.job_id] = taken.token
        return (here, taken.job_id, taken.token)

    @rule(held=claims, how=st.sampled_from(["say", "succeed", "fail", "give back", "stop in order"]))
    def write(self, held, how: str) -> None:
        here, job_id, token = held
        before = self.job(job_id)
        entitled = before.state in LIVE and self.holder.get(job_id) == token
        try:
            with (self.here if here else self.there).session() as session:
                job = lease.hold(session, job_id, token, LEASE)
                self._write(session, job, how)
        except lease.LeaseLost:
            assert not entitled, "the holder was refused"
            return
        assert entitled, "somebody wrote without holding the job"
        if how == "say":
            self.written.append(token)
        else:
            del self.holder[job_id]

    def _write(self, session, job: Job, how: str) -> None:
        if how == "say":
            events.append(session, job, [{"kind": "log", "message": job.lease_token}], job.events_offset + 1)
        elif how in ("succeed", "fail"):
            lease.end(session, job, State.SUCCEEDED if how == "succeed" else State.FAILED, "It ended.")
        else:
            lease.give_back(session, job, "It broke.", refund=how == "stop in order")

    @rule(index=st.integers(0, 1))
    def lose(self, index: int) -> None:
        job_id = self.jobs[index]
        expire(self.people, job_id)
        lost = job_id if self.job(job_id).state in LIVE else None
        with self.people.session() as session:
            assert (lost in reaper.reap(session)) == (lost is not None)
        if lost:
            del self.holder[job_id]

    @rule(index=st.integers(0, 1))
    def cancel(self, index: int) -> None:
        before = self.job(self.jobs[index]).state
        try:
            with self.people.session() as session:
                service.cancel(session, session.get_one(Job, self.jobs[index]))
            assert before not in ENDED
        except IllegalTransition:
            assert before in ENDED

    @rule(index=st.integers(0, 1))
    def resume(self, index: int) -> None:
        before = self.job(self.jobs[index]).state
        try:
            with self.people.session() as session:
                service.resume(session, session.get_one(Job, self.jobs[index]))
            assert before in (State.FAILED, State.CANCELED)
        except IllegalTransition:
            assert before not in (State.FAILED, State.CANCELED)

    @invariant()
    def legal(self) -> None:
        for job_id in self.jobs:
            job = self.job(job_id)
            old, new = self.seen[job_id], State(job.state)
            assert new == old or new in TRANSITIONS[old], (old, new)
            self.seen[job_id] = new
            assert (job.lease_token is not None) == (new in LIVE)
            assert (job.finished_at is not None) == (new in ENDED)
            assert 0 <= job.attempt <= job.max_attempts

    @invariant()
    def only_holders_spoke(self) -> None:
        with self.people.reading() as session:
            said = [row.data["message"] for row in session.query(JobEvent).order_by(JobEvent.id)]
        assert said == self.written


Jobs.TestCase.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestJobs = Jobs.TestCase
