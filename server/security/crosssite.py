"""Cross-site request forgery: writes that a browser sends from another site are refused, without tokens in forms.

Browsers state where a request comes from in Sec-Fetch-Site, and in Origin where they do not (plain http to a host
other than localhost). The order of the checks is that of Go's http.CrossOriginProtection, with one step more: a write
that shows a session cookie and neither header is refused, since every browser sends one of them with a write.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from server.errors import Forbidden, to_response

SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


class CrossSiteCheck:
    """Middleware. `own` is the address that people type, as an origin."""

    def __init__(self, app: ASGIApp, own: str) -> None:
        self.app = app
        self.own = _origin(own)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in SAFE and not self._trusted(Headers(scope=scope)):
            problem = Forbidden("This request comes from another site; open Intramural itself and try again there.")
            await to_response(Request(scope), problem)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _trusted(self, headers: Headers) -> bool:
        if headers.get("authorization"):  # another site cannot add it without a preflight, which is never granted
            return True
        if site := headers.get("sec-fetch-site"):
            return site in ("same-origin", "none")
        if origin := headers.get("origin"):
            return _origin(origin) == self.own or urlsplit(origin).netloc == headers.get("host")
        return "cookie" not in headers


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc
