"""What two callers do at the same moment happens once, on SQLite and on PostgreSQL."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Connection, event, func, select
from sqlalchemy.exc import OperationalError

from server.access import Role
from server.store.models import Job, Site, User
from tests.server.api.test_api_flow import test_from_registration_to_evaluation as whole_flow
from tests.server.house import PASSWORD, House

V1 = "/api/v1"


@pytest.fixture
def house(tmp_path: Path, database_url: str) -> Iterator[House]:
    made = House(tmp_path, database_url=database_url)
    yield made
    made.close()


def at_once(house: House, count: int, call: Callable[[TestClient, int], int], *roles: Role) -> Counter[int]:
    """Statuses of `count` calls that start together, each from a client (and event loop) of its own."""
    clients = [house.http(*roles) for _ in range(count)]
    barrier = threading.Barrier(count)
    statuses: list[int] = []

    def one(n: int) -> None:
        barrier.wait()
        statuses.append(call(clients[n], n))

    threads = [threading.Thread(target=one, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Counter(statuses)


@pytest.mark.slow
def test_the_whole_flow_on_postgresql(tmp_path, postgresql_url):
    house = House(tmp_path, database_url=postgresql_url)
    whole_flow(house)
    house.close()


def test_an_export_is_queued_once(house):
    client = house.client()
    export = client.register(client.create_site("Main").id, house.export_folder(), "x").id
    statuses = at_once(
        house, 4, lambda http, _: http.post(f"{V1}/exports/{export}/deidentify", json={}).status_code, *Role
    )
    assert statuses == {202: 1, 409: 3}
    with house.db.reading() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 1


def test_a_repeated_request_is_done_once(house):
    def post(http: TestClient, _: int) -> int:
        headers = {"Idempotency-Key": "one"}
        return http.post(f"{V1}/sites", json={"name": "Main"}, headers=headers).status_code

    statuses = at_once(house, 4, post, Role.ADMIN)
    assert set(statuses) <= {201, 409}
    assert statuses[201] >= 1
    with house.db.reading() as session:
        assert session.scalar(select(func.count()).select_from(Site)) == 1


def test_one_setup_wins(house):
    secret = house.settings.setup_secret.read_text().strip()

    def setup(http: TestClient, n: int) -> int:
        body = {"secret": secret, "name": f"admin {n}", "password": PASSWORD}
        return http.post(f"{V1}/setup", json=body).status_code

    assert at_once(house, 4, setup) == {201: 1, 403: 3}
    with house.db.reading() as session:
        assert session.scalar(select(func.count()).select_from(User)) == 1


def test_one_user_of_a_name(house):
    def create(http: TestClient, _: int) -> int:
        return http.post(f"{V1}/users", json={"name": "ada", "roles": ["auditor"]}).status_code

    assert at_once(house, 4, create, Role.ADMIN) == {201: 1, 409: 3}
    assert house.client().verify_audit().ok


def test_a_release_is_given_once(house):
    client = house.client()
    export = house.deidentified(client).id
    statuses = at_once(
        house, 4, lambda http, _: http.post(f"{V1}/exports/{export}/release", json={}).status_code, *Role
    )
    assert statuses == {201: 1, 409: 3}


def test_an_answer_is_sent_only_after_the_commit(house):
    """A commit that fails must not have been answered with 201."""

    def fail(connection: Connection) -> None:
        if not connection.get_execution_options().get("reading"):
            raise OperationalError("COMMIT", {}, Exception("gone"))

    http = house.http(Role.ADMIN)
    http.get(f"{V1}/me")  # "last used" is noted by a commit of its own, which is not the one meant
    event.listen(house.db.engine, "commit", fail)
    try:
        response = http.post(f"{V1}/sites", json={"name": "Main"})
    finally:
        event.remove(house.db.engine, "commit", fail)
    assert response.status_code == 503
    assert http.get(f"{V1}/sites").json()["items"] == []
