"""Every error has the one shape, and says nothing of what was sent or of the code."""

import logging

import pytest
from sqlalchemy import text

from server.access import Permission, Role
from server.dependencies import SessionDep, allow
from tests.server.house import House

MEMBERS = {"type", "title", "status", "detail", "instance", "code", "errors"}
SECRET = "Doe^Jane 19501224"


def crash() -> None:
    raise ValueError(SECRET)


def unaudited(session: SessionDep) -> None:
    session.execute(text("INSERT INTO setup_link (hash, created_at) VALUES ('x', '2026-01-01 00:00:00')"))


def broken_query(session: SessionDep) -> None:
    session.execute(text("SELECT * FROM nowhere WHERE name = :name"), {"name": SECRET})


@pytest.fixture
def broken(house: House) -> House:
    for path, function in (("/crash", crash), ("/unaudited", unaudited), ("/query", broken_query)):
        house.app.add_api_route(path, function, methods=["POST"], dependencies=[allow(Permission.PUBLIC)])
    return house


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "code"),
    [
        ("GET", "/api/v1/nowhere", None, 404, "not_found"),
        ("GET", "/api/v1/sites/000000000000", None, 404, "not_found"),
        ("PUT", "/api/v1/sites", b"{}", 405, "method_not_allowed"),
        ("POST", "/api/v1/sites", b"{not json", 422, "invalid"),
        ("POST", "/api/v1/sites", b'{"name": "x", "colour": "Doe^Jane 19501224"}', 422, "invalid"),
        ("POST", "/api/v1/sites", b'{"name": ["Doe^Jane 19501224"]}', 422, "invalid"),
        ("POST", "/api/v1/sites", b'"' + b"x" * (1 << 20) + b'"', 413, "request_entity_too_large"),
        ("GET", "/api/v1/jobs?limit=0", None, 422, "invalid"),
        ("GET", "/api/v1/jobs?after=nothing", None, 422, "invalid"),
        ("POST", "/crash", None, 500, "unexpected"),
        ("POST", "/query", None, 503, "unavailable"),
        ("POST", "/unaudited", None, 500, "unexpected"),
    ],
)
def test_errors_are_problem_documents(broken, caplog, method, path, content, status, code):
    response = broken.http(Role.ADMIN).request(
        method, path, content=content, headers={"Content-Type": "application/json"}
    )
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"
    assert set(response.json()) == MEMBERS
    assert response.json()["detail"].endswith(".")
    assert "nosniff" in response.headers["x-content-type-options"]
    for said in (response.text, caplog.text):
        assert "Doe" not in said
        assert "Traceback" not in said


def test_the_log_says_where_in_the_code(broken, caplog):
    with caplog.at_level(logging.ERROR, "intramural"):
        broken.http(Role.ADMIN).post("/crash")
    assert "ValueError at" in caplog.text
    assert "test_api_errors.py" in caplog.text


def test_a_write_without_an_audit_row_is_rolled_back(broken):
    assert broken.http().post("/unaudited").status_code == 500
    with broken.db.reading() as session:
        assert session.scalar(text("SELECT count(*) FROM setup_link WHERE hash = 'x'")) == 0


def test_an_idempotent_post_is_done_once(house):
    http = house.http(Role.ADMIN)
    first = http.post("/api/v1/sites", json={"name": "Main"}, headers={"Idempotency-Key": "k"})
    rows = house.audit_rows()
    second = http.post("/api/v1/sites", json={"name": "Main"}, headers={"Idempotency-Key": "k"})
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert house.audit_rows() == rows
    assert len(http.get("/api/v1/sites").json()["items"]) == 1
    other = http.post("/api/v1/sites", json={"name": "Other"}, headers={"Idempotency-Key": "k"})
    assert other.status_code == 422
    # Keys of two callers have nothing to do with each other, and a refusal is not remembered.
    assert (
        house.http(Role.ADMIN, Role.AUDITOR)
        .post("/api/v1/sites", json={"name": "Main"}, headers={"Idempotency-Key": "k"})
        .status_code
        == 409
    )


def test_lists_go_on_where_the_page_before_ended(house):
    client = house.client()
    made = [client.create_site(f"Site {n}").id for n in range(7)]
    seen, after = [], None
    while True:
        page = client.request("GET", "/sites", limit=3, after=after)
        seen += [s["id"] for s in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert sorted(seen) == sorted(made)
    assert len(set(seen)) == 7
    log = client.request("GET", "/audit", limit=3)
    older = client.request("GET", "/audit", limit=500, after=log["next"])
    assert max(r["id"] for r in older["items"]) == log["next"] - 1
