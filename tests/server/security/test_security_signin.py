"""Passwords, sessions, tokens and the first administrator."""

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from pipelines.contract import BadInput
from server.access import ANONYMOUS, Caller, Role
from server.audit import head
from server.errors import Invalid
from server.security import identity, passwords, ratelimit, signing
from server.security.secrets import fingerprint
from server.services import people, sign_in
from server.store.models import Audit, LoginSession, SetupLink, SignInAttempt, Token, User, now
from tests.server.house import PASSWORD, House

V1 = "/api/v1"


def signed_in(house: House, name: str = "ada", password: str = PASSWORD):
    http = house.http()
    http.headers["Origin"] = house.settings.url
    assert http.post(f"{V1}/session", json={"name": name, "password": password}).status_code == 201
    return http


def test_the_setup_link_works_once(house: House):
    link = sign_in.ensure_setup_link(house.db, house.settings)
    assert link == sign_in.ensure_setup_link(house.db, house.settings), "a restart prints the same link"
    secret = link.removeprefix(f"{house.settings.url}/setup/")
    body = {"secret": secret, "name": "ada", "password": PASSWORD}
    http = house.http()
    assert http.post(f"{V1}/setup", json=body | {"secret": "x" * 43}).status_code == 403
    assert http.post(f"{V1}/setup", json=body | {"password": "short"}).status_code == 422
    assert http.post(f"{V1}/setup", json=body).json()["roles"] == ["admin"]
    assert http.post(f"{V1}/setup", json=body | {"name": "eve"}).status_code == 403
    assert sign_in.ensure_setup_link(house.db, house.settings) is None
    assert not house.settings.setup_secret.exists()
    with house.db.reading() as session:
        assert session.scalars(select(SetupLink.hash)).all() == [fingerprint(secret)], "only the hash is kept"


def test_a_second_administrator_cannot_be_made_by_an_old_link(house: House):
    """A link made before a user was added on the command line is void."""
    link = sign_in.ensure_setup_link(house.db, house.settings)
    house.person("root", Role.ADMIN)
    body = {"secret": link.rsplit("/", 1)[1], "name": "eve", "password": PASSWORD}
    assert house.http().post(f"{V1}/setup", json=body).status_code == 403


def test_signing_in_and_out(house: House):
    house.person()
    http = signed_in(house)
    assert http.get(f"{V1}/me").json()["roles"] == ["researcher"]
    cookie = http.cookies["intramural"]
    with house.db.reading() as session:
        assert session.scalars(select(LoginSession.hash)).all() == [fingerprint(cookie)]
    assert http.delete(f"{V1}/session").status_code == 204
    http.cookies.set("intramural", cookie)
    assert http.get(f"{V1}/me").status_code == 401, "the server forgot the session, not only the browser"


@pytest.mark.parametrize(
    "ages",
    [{"seen_at": identity.IDLE}, {"created_at": identity.ABSOLUTE, "seen_at": timedelta(0)}],
    ids=["idle", "absolute"],
)
def test_sessions_end(house: House, ages):
    house.person()
    http = signed_in(house)
    values = {column: now() - age - timedelta(seconds=1) for column, age in ages.items()}
    with house.db.session() as session:
        session.execute(update(LoginSession).values(**values))
    assert http.get(f"{V1}/me").status_code == 401


def test_use_keeps_a_session_alive(house: House):
    house.person()
    http = signed_in(house)
    with house.db.session() as session:
        session.execute(update(LoginSession).values(seen_at=now() - timedelta(minutes=20)))
    http.get(f"{V1}/me")
    with house.db.reading() as session:
        assert now() - session.scalars(select(LoginSession)).one().seen_at < timedelta(minutes=1)


def test_a_closed_account_is_out_at_once(house: House):
    user = house.person()
    http = signed_in(house)
    with house.db.session() as session:
        token = people.create_token(
            session, Caller("ada", frozenset({Role.RESEARCHER}), user.id), name="t", roles=[Role.RESEARCHER]
        )[1]
    by_token = {"Authorization": f"Bearer {token}"}
    assert house.http().get(f"{V1}/me", headers=by_token).status_code == 200
    house.client(Role.ADMIN, Role.RESEARCHER)
    admin = house.person("root", Role.ADMIN)
    assert admin.active
    house.client(Role.ADMIN).request("PATCH", f"/users/{user.id}", {"active": False})
    assert http.get(f"{V1}/me").status_code == 401
    assert house.http().get(f"{V1}/me", headers=by_token).status_code == 401
    assert house.http().post(f"{V1}/session", json={"name": "ada", "password": PASSWORD}).status_code == 401


def test_refusals_say_not_which_was_wrong_and_are_noted(house: House):
    house.person()
    http = house.http()
    wrong = http.post(f"{V1}/session", json={"name": "ada", "password": "x"}).json()
    unknown = http.post(f"{V1}/session", json={"name": "my secret password", "password": "x"}).json()
    assert wrong == unknown
    with house.db.reading() as session:
        log = [(r.action, r.subject, str(r.detail)) for r in session.scalars(select(Audit))]
    assert [r for r in log if r[0] == "session:refused"]
    assert not [r for r in log if "my secret" in str(r)]


def test_guessing_is_slowed_down(house: House):
    house.person()
    http = house.http()
    guesses = [http.post(f"{V1}/session", json={"name": "Ada ", "password": "x"}) for _ in range(12)]
    assert [g.status_code for g in guesses] == [401] * 10 + [429] * 2
    assert int(guesses[-1].headers["Retry-After"]) > 0
    assert http.post(f"{V1}/session", json={"name": "ada", "password": PASSWORD}).status_code == 429
    with house.db.session() as session:
        session.execute(update(SignInAttempt).values(time=now() - ratelimit.WINDOW))
    assert http.post(f"{V1}/session", json={"name": "ada", "password": PASSWORD}).status_code == 201


def test_a_service_account_has_no_password_to_sign_in_with(house: House):
    house.token(Role.AUDITOR)
    for password in ("", "None"):
        body = {"name": "service auditor", "password": password}
        assert house.http().post(f"{V1}/session", json=body).status_code == 401


def test_passwords_are_argon2id_and_long(house: House):
    stored = passwords.hash_password(PASSWORD)
    assert stored.startswith("$argon2id$")
    assert passwords.verify_password(stored, PASSWORD)
    assert not passwords.verify_password(stored, PASSWORD + "x")
    assert not passwords.verify_password(None, "no such user")
    assert not passwords.verify_password("not a hash", PASSWORD)
    with pytest.raises(Invalid):
        passwords.hash_password("eleven char")


def test_changing_a_password_ends_the_other_sessions(house: House):
    house.person()
    one, other = signed_in(house), signed_in(house)
    assert one.put(f"{V1}/me/password", json={"old": "wrong", "new": PASSWORD * 2}).status_code == 403
    assert one.put(f"{V1}/me/password", json={"old": PASSWORD, "new": PASSWORD * 2}).status_code == 204
    assert one.get(f"{V1}/me").status_code == 200
    assert other.get(f"{V1}/me").status_code == 401
    signed_in(house, password=PASSWORD * 2)


def test_tokens_expire_and_can_be_revoked(house: House):
    client = house.client(Role.RESEARCHER)
    token = client.request("POST", "/tokens", {"name": "t", "roles": ["researcher"]})
    assert token["token"].startswith("imu_")
    http = house.http()
    headers = {"Authorization": f"Bearer {token['token']}"}
    assert http.get(f"{V1}/me", headers=headers).status_code == 200
    with house.db.session() as session:
        row = session.get_one(Token, token["id"])
        assert row.hash == fingerprint(token["token"])
        assert row.last_used_at is not None
        expires, row.expires_at = row.expires_at, now()
    assert http.get(f"{V1}/me", headers=headers).status_code == 401
    with house.db.session() as session:
        session.get_one(Token, token["id"]).expires_at = expires
    assert http.get(f"{V1}/me", headers=headers).status_code == 200
    client.request("DELETE", f"/tokens/{token['id']}")
    assert http.get(f"{V1}/me", headers=headers).status_code == 401
    for header in ("Bearer", "Bearer imu_x", "Basic YTpi", "imu_x"):
        assert http.get(f"{V1}/me", headers={"Authorization": header}).status_code == 401


def test_a_bad_token_is_not_made_good_by_a_cookie(house: House):
    house.person()
    http = signed_in(house)
    assert http.get(f"{V1}/me", headers={"Authorization": "Bearer imu_x"}).status_code == 401


def test_tokens_hold_no_more_than_their_owner(house: House):
    admin, researcher = house.client(Role.ADMIN), house.client(Role.RESEARCHER)
    ada = house.person("ada", Role.PRIVACY_OFFICER)

    def status(client, body) -> int:
        http = client._http
        return http.post(f"{V1}/tokens", json={"name": "t"} | body).status_code

    assert status(researcher, {"roles": ["admin"]}) == 422
    assert status(researcher, {"roles": []}) == 422
    assert status(researcher, {"roles": ["researcher"], "expires_at": "2001-01-01T00:00:00Z"}) == 422
    assert status(researcher, {"roles": ["researcher"], "expires_at": "2999-01-01T00:00:00Z"}) == 422
    assert status(admin, {"roles": ["privacy_officer"], "user": ada.id}) == 403, "nobody signs for a person"
    service = admin.create_user("script", ["researcher"])
    assert status(researcher, {"roles": ["researcher"], "user": service.id}) == 403
    secret = admin.create_token("t", ["researcher"], service.id)
    admin.request("PATCH", f"/users/{service.id}", {"roles": ["auditor"]})
    me = house.http().get(f"{V1}/me", headers={"Authorization": f"Bearer {secret}"}).json()
    assert me["roles"] == [], "a role taken from the owner is taken from the token"


def test_a_narrow_token_cannot_make_a_wider_one(house: House):
    with house.db.session() as session:
        user = people.create_user(session, ANONYMOUS, name="both", roles=[Role.ADMIN, Role.RESEARCHER])
        caller = Caller("both", frozenset({Role.RESEARCHER}), user.id, token_id="t")
        with pytest.raises(Invalid):
            people.create_token(session, caller, name="t", roles=[Role.ADMIN])


def test_the_last_administrator_stays(house: House):
    root = house.person("root", Role.ADMIN)
    with house.db.session() as session:
        caller = Caller("root", frozenset({Role.ADMIN}), root.id)
        row = session.get_one(User, root.id)
        for change in ({"active": False}, {"roles": [Role.AUDITOR]}):
            with pytest.raises(Exception, match="last administrator"):
                people.update_user(session, caller, row, **change)
            session.refresh(row)


def test_the_signing_key_must_be_private(house: House):
    house.settings.signing_key.chmod(0o644)
    with pytest.raises(BadInput, match="chmod 600"):
        signing.sign({"a": 1}, house.settings)


def test_a_forged_head_is_refused(house: House):
    house.client().create_site("Main")
    path = house.settings.audit_head
    path.write_text(path.read_text().replace('"id": ', '"id": 1'))
    with pytest.raises(BadInput, match="altered"):
        head.read(house.settings)
