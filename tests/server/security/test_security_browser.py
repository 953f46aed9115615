"""What a browser may send and gets: cross-site checks, cookies, headers."""

from pathlib import Path

import pytest

from server.access import Role
from tests.server.house import PASSWORD, House

V1 = "/api/v1"
OWN, OTHER = "http://127.0.0.1:8471", "https://evil.example"


@pytest.mark.parametrize(
    ("headers", "trusted"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": OWN}, False),
        ({"Origin": OWN}, True),
        ({"Origin": OTHER}, False),
        ({"Origin": "null"}, False),
        ({"Origin": OWN + ".evil.example"}, False),
        ({}, False),
    ],
    ids=str,
)
def test_writes_with_a_cookie_come_from_here(house: House, headers, trusted):
    house.person("ada", Role.ADMIN)
    http = house.http()
    assert http.post(f"{V1}/session", json={"name": "ada", "password": PASSWORD}).status_code == 201
    assert http.get(f"{V1}/me", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200, "reading is harmless"
    status = http.post(f"{V1}/sites", json={"name": "x"}, headers=headers).status_code
    assert status == (201 if trusted else 403)


def test_another_site_cannot_sign_a_visitor_in(house: House):
    house.person()
    body = {"name": "ada", "password": PASSWORD}
    assert house.http().post(f"{V1}/session", json=body, headers={"Origin": OTHER}).status_code == 403


def test_scripts_with_a_token_need_no_origin(house: House):
    assert house.http(Role.ADMIN).post(f"{V1}/sites", json={"name": "x"}).status_code == 201


def test_every_answer_carries_the_headers(house: House):
    for path in ("/livez", "/nowhere", f"{V1}/me", f"{V1}/sites"):
        headers = house.http(Role.ADMIN).get(path).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'self'"
        assert policy["script-src"] == policy["style-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "strict-transport-security" not in headers
        assert "server" not in headers


def test_the_cookie_is_closed_to_scripts_and_other_sites(house: House):
    house.person()
    response = house.http().post(f"{V1}/session", json={"name": "ada", "password": PASSWORD})
    parts = {p.strip().lower() for p in response.headers["set-cookie"].split(";")[1:]}
    assert {"httponly", "samesite=lax", "path=/"} <= parts


def test_over_https_the_cookie_is_bound_to_the_host(tmp_path: Path):
    house = House(tmp_path, public_url="https://intramural.hospital.example")
    house.person()
    response = house.http().post(f"{V1}/session", json={"name": "ada", "password": PASSWORD})
    cookie = response.headers["set-cookie"]
    assert cookie.startswith("__Host-intramural=")
    assert "Secure" in cookie
    assert "domain" not in cookie.lower()
    assert "max-age" in response.headers["strict-transport-security"]
    house.close()


def test_no_page_of_documentation_is_served(house: House):
    for path in ("/docs", "/redoc", "/docs/oauth2-redirect"):
        assert house.http(Role.ADMIN).get(path).status_code == 404
    assert house.http().get("/openapi.json").status_code == 401
    assert house.http(Role.AUDITOR).get("/openapi.json").json()["info"]["title"] == "Intramural"
