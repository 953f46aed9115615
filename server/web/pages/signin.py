"""Sign-in, sign-out and the one-time set-up."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse

from server.access import Caller, Permission
from server.dependencies import SessionDep, SettingsDep, allow
from server.errors import Forbidden, Problem
from server.security import identity
from server.services import sign_in
from server.web import render
from server.web.forms import FormData, again_on_problem

router = APIRouter()
PUBLIC = [allow(Permission.PUBLIC)]


class SignIn(FormData):
    name: str = ""
    password: str = ""
    next: str = "/"


class Setup(FormData):
    name: str = ""
    password: str = ""


@router.get("/signin", dependencies=PUBLIC)
def signin_page(next: str = "/") -> HTMLResponse:
    return render.bare("signin.html", "Sign in", next=next)


@router.post("/signin", dependencies=PUBLIC)
def signin(form: Annotated[SignIn, Form()], request: Request, session: SessionDep, settings: SettingsDep) -> Response:
    def show(_: object, typed: SignIn, problem: Problem) -> Response:
        return render.bare("signin.html", "Sign in", status=problem.status, next=form.next, problem=problem.detail)

    again_on_problem(request, form, show)
    address = request.client.host if request.client else ""
    _, cookie = sign_in.sign_in(session, name=form.name, password=form.password, address=address)
    # Only a path of our own: "//elsewhere" would be another site.
    own = form.next.startswith("/") and not form.next.startswith(("//", "/\\"))
    response = render.see(form.next if own else "/")
    identity.set_cookie(response, cookie, settings)
    return response


@router.post("/signout")
def signout(session: SessionDep, settings: SettingsDep, caller: Caller = allow(Permission.SIGNED_IN)) -> Response:
    sign_in.sign_out(session, caller)
    response = render.see("/signin")
    identity.clear_cookie(response, settings)
    return response


@router.get("/setup/{secret}", dependencies=PUBLIC)
def setup_page(secret: str, session: SessionDep) -> HTMLResponse:
    if not sign_in.setup_open(session, secret):
        raise Forbidden("This set-up link is not valid or was used; sign in, or ask an administrator.")
    return render.bare("setup.html", "Set up")


@router.post("/setup/{secret}", dependencies=PUBLIC)
def setup(
    secret: str, form: Annotated[Setup, Form()], request: Request, session: SessionDep, settings: SettingsDep
) -> Response:
    def show(_: object, typed: Setup, problem: Problem) -> Response:
        return render.bare("setup.html", "Set up", status=problem.status, problem=problem.detail)

    again_on_problem(request, form, show)
    sign_in.setup(session, settings, secret=secret, name=form.name, password=form.password)
    return render.see("/signin")
