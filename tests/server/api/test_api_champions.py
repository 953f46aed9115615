"""Champions through the API: by evaluation against the one before, refused with the reason, history kept."""

import pytest
from sqlalchemy import select

from server.access import Role
from server.store.models import Audit, Cohort, Evaluation, Export, Model
from tests.server.house import House, refused


class World:
    """A site with a cohort and two models."""

    def __init__(self, house: House) -> None:
        self.house, self.client = house, house.client()
        export = house.deidentified(self.client)
        self.client.release(export.id)
        self.site, self.export = export.site_id, export.id
        self.cohort = house.cohort(self.client, export.id)
        house.run_models(self.client, self.cohort)
        self.old, self.new = (m.id for m in self.client.models())
        with house.db.session() as session:
            session.get_one(Model, self.old).digest = "o" * 64
            session.get_one(Model, self.new).digest = "n" * 64

    def evaluated(self, low: float, high: float, **changes) -> str:
        """An evaluation of new against old on findings, with this interval of the difference."""
        row = self.client.evaluate("e", self.cohort, [self.new], baselines=[self.old])
        models = [{"name": n, "weights_sha256": n[0] * 64} for n in ("new", "old")]
        told = {"models": models, "tasks": {"findings": {"new": {}, "old": {}}}, "protocol": "full"}
        verdict = {"task": "findings", "model": "new", "baseline": "old", "metric": "auroc"}
        told["verdicts"] = [verdict | {"value": (low + high) / 2, "low": low, "high": high}]
        told["looks"] = self.house.job(row.job or "").spec["looks"]
        self.house.finish(row.job or "", told | changes)
        return row.id


@pytest.fixture
def world(house: House) -> World:
    return World(house)


def test_a_champion_is_followed_by_one_that_is_not_worse(world: World) -> None:
    client = world.client
    first = client.promote(world.site, "findings", world.old, world.evaluated(0, 1))
    assert first.before_id is None and "first champion" in first.ruling["reason"]
    worse = world.evaluated(-0.05, 0.04)
    assert "worse than the champion by more than 0.01" in refused(
        409, client.promote, world.site, "findings", world.new, worse
    )
    better = client.promote(world.site, "findings", world.new, world.evaluated(0.02, 0.06), "Winter")
    assert (better.before_id, better.comment, better.ruling["margin"]) == (first.id, "Winter", 0.01)
    assert better.ruling["difference"] == {"value": 0.04, "low": 0.02, "high": 0.06}
    assert better.ruling["looks"] == 3
    assert [c.id for c in client.champions(world.site, "findings")] == [better.id, first.id]
    assert client.champions(world.site, "lines") == []
    with world.house.db.reading() as session:
        rows = session.scalars(select(Audit).where(Audit.action == "model:promote").order_by(Audit.id)).all()
        assert [r.detail["before"] for r in rows] == [None, world.old]


def test_an_evaluation_of_another_site_or_without_a_result_promotes_nothing(world: World) -> None:
    client = world.client
    waiting = client.evaluate("w", world.cohort, [world.new]).id
    assert "no result" in refused(409, client.promote, world.site, "findings", world.new, waiting)
    other = client.create_site("Other").id
    done = world.evaluated(0.02, 0.06)
    assert "another site" in refused(409, client.promote, other, "findings", world.new, done)
    assert "below protocol" in refused(
        409, client.promote, world.site, "findings", world.new, world.evaluated(0, 1, protocol="below")
    )
    refused(422, client.promote, world.site, "dancing", world.new, done)
    refused(404, client.promote, "0" * 12, "findings", world.new, done)
    for role in (Role.ADMIN, Role.PRIVACY_OFFICER, Role.AUDITOR):
        refused(403, world.house.client(role).promote, world.site, "findings", world.new, done)
    assert client.champions(world.site) == []


def test_practice_data_replaces_no_champion_of_patients(world: World) -> None:
    world.client.promote(world.site, "findings", world.old, world.evaluated(0, 1))
    done = world.evaluated(0.02, 0.06, practice=True)
    assert "Practice data" in refused(409, world.client.promote, world.site, "findings", world.new, done)


def test_looks_count_every_cohort_with_the_same_patients(world: World) -> None:
    client, house = world.client, world.house
    spec = {"sizes": [2], "everything": False, "seeds": [0], "pretrain": {"budget": 8, "batch": 4}}
    with house.db.session() as session:
        session.get_one(Cohort, world.cohort).result = {"counts": {"splits": {"train": {"images": 40}}}}
        other = Cohort(name="rebuilt", spec={}, folder="x", state="ready")
        other.exports = [session.get_one(Export, world.export)]
        session.add(other)
        session.flush()
        rebuilt = other.id

    def looks(job: str | None) -> int:
        return house.job(job or "").spec["looks"]

    assert looks(client.evaluate("a", world.cohort, [world.new]).job) == 1
    canceled = client.evaluate("b", rebuilt, [world.new])
    assert looks(canceled.job) == 2
    client.cancel(canceled.job or "")
    assert looks(client.study("c", world.cohort, ["mi2-tiny"], **spec).job) == 2
    assert looks(client.evaluate("d", rebuilt, [world.new]).job) == 3
    refused(422, client.evaluate, "e", rebuilt, [world.new], looks=1)
    with house.db.reading() as session:
        assert "looks" not in session.scalars(select(Evaluation)).first().spec
