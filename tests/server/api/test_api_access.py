"""Default deny: every route, as nobody and as each role, against this table."""

import re

import pytest
from fastapi.routing import iter_route_contexts

from server.access import Permission, Role
from server.app import permission_of, require_permissions
from tests.server.house import House

A, P, R, U = Role.ADMIN, Role.PRIVACY_OFFICER, Role.RESEARCHER, Role.AUDITOR
EVERYONE = {A, P, R, U}
NOBODY_TOO = None  # public
V1 = "/api/v1"
TABLE = {
    ("GET", "/livez"): NOBODY_TOO,
    ("GET", "/readyz"): NOBODY_TOO,
    ("GET", "/metrics"): {A, U},
    ("GET", "/openapi.json"): EVERYONE,
    ("POST", f"{V1}/sites"): {A},
    ("GET", f"{V1}/sites"): EVERYONE,
    ("GET", f"{V1}/sites/{{site_id}}"): EVERYONE,
    ("POST", f"{V1}/sites/{{site_id}}/champions"): {R},
    ("GET", f"{V1}/sites/{{site_id}}/champions"): EVERYONE,
    ("POST", f"{V1}/exports"): {A, P},
    ("GET", f"{V1}/exports"): EVERYONE,
    ("GET", f"{V1}/exports/{{export_id}}"): EVERYONE,
    ("PATCH", f"{V1}/exports/{{export_id}}"): {A, P},
    ("POST", f"{V1}/exports/{{export_id}}/deidentify"): {A, P},
    ("GET", f"{V1}/exports/{{export_id}}/quarantine"): {A, P},
    ("GET", f"{V1}/exports/{{export_id}}/reviews"): EVERYONE,
    ("GET", f"{V1}/exports/{{export_id}}/sample"): EVERYONE,
    ("GET", f"{V1}/exports/{{export_id}}/sample/{{number}}"): {P},
    ("POST", f"{V1}/exports/{{export_id}}/sample/{{number}}/verdict"): {P},
    ("POST", f"{V1}/exports/{{export_id}}/sample/{{number}}/withdraw"): {P},
    ("POST", f"{V1}/exports/{{export_id}}/release"): {P},
    ("POST", f"{V1}/exports/{{export_id}}/send-back"): {P},
    ("POST", f"{V1}/labels"): {R},
    ("GET", f"{V1}/labels"): EVERYONE,
    ("GET", f"{V1}/labels/{{label_id}}"): EVERYONE,
    ("POST", f"{V1}/cohorts"): {R},
    ("POST", f"{V1}/cohorts/external"): {R},
    ("GET", f"{V1}/cohorts"): EVERYONE,
    ("GET", f"{V1}/cohorts/{{cohort_id}}"): EVERYONE,
    ("POST", f"{V1}/runs"): {R},
    ("GET", f"{V1}/runs"): EVERYONE,
    ("GET", f"{V1}/runs/{{run_id}}"): EVERYONE,
    ("POST", f"{V1}/models"): {A, R},
    ("GET", f"{V1}/models"): EVERYONE,
    ("GET", f"{V1}/models/{{model_id}}"): EVERYONE,
    ("POST", f"{V1}/evaluations"): {R},
    ("GET", f"{V1}/evaluations"): EVERYONE,
    ("GET", f"{V1}/evaluations/{{evaluation_id}}"): EVERYONE,
    ("POST", f"{V1}/similarities"): {R},
    ("GET", f"{V1}/similarities"): {P, R},
    ("GET", f"{V1}/similarities/{{similarity_id}}"): {P, R},
    ("GET", f"{V1}/similarities/{{similarity_id}}/maps"): {P, R},
    ("GET", f"{V1}/similarities/{{similarity_id}}/images/{{image}}.png"): {P, R},
    ("GET", f"{V1}/similarities/{{similarity_id}}/images/{{image}}/panels/{{panel}}.png"): {P, R},
    ("POST", f"{V1}/studies"): {R},
    ("GET", f"{V1}/studies"): EVERYONE,
    ("GET", f"{V1}/studies/{{study_id}}"): EVERYONE,
    ("POST", f"{V1}/studies/{{study_id}}/extend"): {R},
    ("POST", f"{V1}/studies/{{study_id}}/judge"): {R},
    ("POST", f"{V1}/studies/{{study_id}}/cancel"): {R},
    ("POST", f"{V1}/studies/{{study_id}}/resume"): {R},
    ("GET", f"{V1}/jobs"): EVERYONE,
    ("GET", f"{V1}/jobs/{{job_id}}"): EVERYONE,
    ("GET", f"{V1}/jobs/{{job_id}}/events"): EVERYONE,
    ("GET", f"{V1}/jobs/{{job_id}}/stream"): EVERYONE,
    ("POST", f"{V1}/jobs/{{job_id}}/cancel"): {A, P, R},
    ("POST", f"{V1}/jobs/{{job_id}}/resume"): {A, P, R},
    ("POST", f"{V1}/users"): {A},
    ("GET", f"{V1}/users"): {A},
    ("PATCH", f"{V1}/users/{{user_id}}"): {A},
    ("POST", f"{V1}/tokens"): EVERYONE,
    ("GET", f"{V1}/tokens"): EVERYONE,
    ("DELETE", f"{V1}/tokens/{{token_id}}"): EVERYONE,
    ("GET", f"{V1}/audit"): {A, P, U},
    ("GET", f"{V1}/audit/verify"): {A, P, U},
    ("POST", f"{V1}/setup"): NOBODY_TOO,
    ("POST", f"{V1}/session"): NOBODY_TOO,
    ("DELETE", f"{V1}/session"): EVERYONE,
    ("GET", f"{V1}/me"): EVERYONE,
    ("PUT", f"{V1}/me/password"): EVERYONE,
}


ROOT_PATHS = {"/livez", "/readyz", "/metrics", "/openapi.json"}
NO_SUCH = "0" * 12
IDS = re.compile(r"\{\w+\}")


def test_the_table_names_every_route(house: House):
    found = {(method, r.path) for r in iter_route_contexts(house.app.routes) for method in r.methods or ()}
    assert {(m, p) for m, p in found if p.startswith(V1) or p in ROOT_PATHS} == set(TABLE)


@pytest.mark.parametrize("role", [None, *Role])
def test_each_role_reaches_what_the_table_grants_and_nothing_else(house: House, role: Role | None):
    client = house.http(*([role] if role else []))
    wrong = []
    for (method, path), roles in TABLE.items():
        body = {} if method in {"POST", "PUT", "PATCH"} else None
        status = client.request(method, IDS.sub(NO_SUCH, path), json=body).status_code
        if roles is NOBODY_TOO or (role and role in roles):
            good = status in {200, 204, 404, 422}
        else:
            good = status == (403 if role else 401)
        if not good:
            wrong.append((method, path, status))
    assert not wrong


def test_a_route_without_a_permission_stops_the_start(house: House):
    house.app.add_api_route("/forgotten", lambda: None)
    with pytest.raises(RuntimeError, match="/forgotten"):
        require_permissions(house.app)


def test_permissions_of_pages_and_api_are_declared(house: House):
    declared = {r.path: permission_of(r) for r in iter_route_contexts(house.app.routes)}
    assert declared[f"{V1}/exports/{{export_id}}/release"] is Permission.EXPORT_REVIEW
    assert None not in declared.values()
