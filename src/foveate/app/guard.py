"""What of the server can be reached at all: a list of what the page needs, and nothing else."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

# Gradio's own paths that the page uses; `file=`, which serves files, is not among them: pictures come in the page
READ = re.compile(
    r"/|/(config|theme\.css|robots\.txt|favicon\.ico|manifest\.json)/?"
    r"|/(assets|static|svelte)(/\w[\w.@+-]*)+"
    r"|/gradio_api/(info|app_id|startup-events|theme\.css|queue/data|queue/status|upload_progress|heartbeat/\w+)/?"
)
WRITE = re.compile(r"/gradio_api/(queue/join|upload|cancel|reset)/?")
UPLOAD = re.compile(r"/gradio_api/upload/?")
WORDS = 256 * 1024  # bytes of a request that is no upload
FRAMING = 64 * 1024  # bytes around a file that is sent
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
HEADERS = (
    # nothing from elsewhere: no fonts, no scripts, no pictures, whatever a part of the page asks for
    (
        b"content-security-policy",
        b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        b"img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
        b"object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


class Guard:
    """A layer before the application.

    Refused are all paths and methods but those of the page, requests that are too long, uploads when the folder for
    them is full, and, where only this machine is served, names of other machines (a page elsewhere could otherwise have
    its own name point here).

    Args:
        app: The application.
        folder: Where uploads go.
        largest: Bytes of an upload.
        room: Bytes of all uploads that lie there at once.
        names: The hosts that requests may name; any, if ``None``.
    """

    def __init__(
        self, app: Application, *, folder: Path, largest: int, room: int, names: tuple[str, ...] | None
    ) -> None:
        self.app, self.folder, self.largest, self.room, self.names = app, folder, largest, room, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is allowed."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await _refuse(send, *refusal)
            return
        limit = self.largest + FRAMING if UPLOAD.fullmatch(scope["path"]) else WORDS
        counted = _Counted(receive, limit)

        async def with_headers(message: Message) -> None:
            if counted.over:  # what came was cut off: the answer to it is not an answer
                return
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        try:
            await self.app(scope, counted, with_headers)
        except _TooLongError:
            await _refuse(send, 413, f"at most {limit:,} bytes are taken")
        else:
            if counted.over:
                await _refuse(send, 413, f"at most {limit:,} bytes are taken")

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        path, method = scope["path"], scope["method"]
        headers = dict(scope["headers"])
        if self.names is not None:
            named = re.sub(r":\d+$", "", headers.get(b"host", b"").decode("latin-1"))
            if named not in self.names:
                return 421, "this page is served to this machine alone: open it as 127.0.0.1 or localhost"
        allowed = READ if method in ("GET", "HEAD") else WRITE if method == "POST" else None
        if allowed is None or not allowed.fullmatch(path):
            return 404, "there is nothing here"
        if method == "POST":
            length = headers.get(b"content-length", b"0")
            limit = self.largest + FRAMING if UPLOAD.fullmatch(path) else WORDS
            if not length.isdigit() or int(length) > limit:
                return 413, f"at most {limit:,} bytes are taken"
            if UPLOAD.fullmatch(path) and self._there() + self.largest > self.room:
                return 503, "there is no room for more pictures just now: try again in a minute"
        return None

    def _there(self) -> int:
        """Bytes that lie in the folder; `os.walk` does not mind folders that are swept away meanwhile."""
        total = 0
        for inside, _, names in os.walk(self.folder):
            for name in names:
                with contextlib.suppress(OSError):
                    total += Path(inside, name).stat().st_size
        return total


class _TooLongError(Exception):
    """More came than is taken."""


class _Counted:
    """What comes, up to a limit: a length that was announced may be a lie, or missing."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive, self._limit, self._taken, self.over = receive, limit, 0, False

    async def __call__(self) -> Message:
        message = await self._receive()
        self._taken += len(message.get("body", b""))
        if self._taken > self._limit:
            self.over = True
            raise _TooLongError
        return message


async def _refuse(send: Send, status: int, sentence: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": sentence.encode()})
