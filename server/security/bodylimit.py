"""Requests are small: exports and weights are named by their path, never uploaded."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LIMIT = 1 << 20


class BodyLimit:
    """Middleware: raises 413 while a body is read that grows above LIMIT bytes, whatever it said of its length.

    The framework's own limit answers in plain text; raised here, the error becomes a problem like any other.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > LIMIT:
                raise HTTPException(413)
            return message

        await self.app(scope, counted, send)
