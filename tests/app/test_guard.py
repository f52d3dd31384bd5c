"""What of the server can be reached."""

import asyncio
import os
import shutil

import pytest

from foveate.app.guard import LOOPBACK, WORDS, Guard


def ask(guard, path, method="GET", body=b"", headers=(), pieces=None):
    """The status and the text of an answer; ``None`` where the application behind was asked."""
    sent, seen = [], []
    chunks = list(pieces or [body])

    async def app(scope, receive, send):
        while scope["method"] == "POST":
            message = await receive()
            if not message.get("more_body"):
                break
        seen.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"behind"})

    async def receive():
        return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}

    async def send(message):
        sent.append(message)

    guard.app = app
    every = [(b"host", b"127.0.0.1:7860"), *headers] if not any(key == b"host" for key, _ in headers) else list(headers)
    scope = {"type": "http", "path": path, "method": method, "headers": every}
    asyncio.run(guard(scope, receive, send))
    return sent[0]["status"], sent[-1].get("body", b"").decode(), dict(sent[0]["headers"])


@pytest.fixture
def guard(tmp_path):
    return Guard(None, folder=tmp_path, largest=1000, room=3000, names=LOOPBACK)


PAGE = ["/", "/config", "/theme.css", "/assets/index-a.js", "/static/fonts/a.woff2"]
GRADIO = ["/gradio_api/queue/data", "/gradio_api/heartbeat/abc123", "/gradio_api/info"]


@pytest.mark.parametrize("path", PAGE + GRADIO)
def test_what_the_page_needs_is_there(guard, path):
    status, body, headers = ask(guard, path)
    assert (status, body) == (200, "behind")
    assert b"default-src 'self'" in headers[b"content-security-policy"]


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=../../../etc/passwd",
        "/gradio_api/file/etc/passwd",
        "/file=/etc/passwd",
        "/assets/../../../etc/passwd",
        "/static/..%2f..%2fetc/passwd",
        "/static//etc/passwd",
        "/gradio_api/proxy=http://169.254.169.254/",
        "/gradio_api/deep_link",
        "/gradio_api/stream/a/b/c/playlist.m3u8",
        "/gradio_api/runs",
        "/gradio_api/call/look/1",
        "/monitoring/summary",
        "/docs",
        "/openapi.json",
        "/login",
        "//etc/passwd",
        "/\x00",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_nothing_else_is(guard, path, method):
    assert ask(guard, path, method)[0] == 404


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_no_other_methods(guard, method):
    assert ask(guard, "/", method)[0] == 404


@pytest.mark.parametrize("path", ["/gradio_api/run/look", "/gradio_api/component_server", "/gradio_api/vibe-edit",
                                  "/gradio_api/process_recording", "/config"])  # fmt: skip
def test_only_the_queue_and_uploads_are_written_to(guard, path):
    assert ask(guard, path, "POST")[0] == 404
    assert ask(guard, "/gradio_api/queue/join", "POST", b"{}")[0] == 200


def test_long_requests_are_refused_as_announced_and_as_they_come(guard):
    announced = [(b"content-length", str(WORDS + 1).encode())]
    assert ask(guard, "/gradio_api/queue/join", "POST", headers=announced)[0] == 413
    pieces = [b"x" * (WORDS // 2 + 1)] * 2
    status, body, _ = ask(guard, "/gradio_api/queue/join", "POST", pieces=pieces)
    assert status == 413 and "bytes are taken" in body
    assert ask(guard, "/gradio_api/queue/join", "POST", headers=[(b"content-length", b"-1")])[0] == 413


def test_uploads_wait_for_room(guard, tmp_path):
    assert ask(guard, "/gradio_api/upload", "POST", b"x" * 900)[0] == 200
    (tmp_path / "there").write_bytes(b"x" * 2500)
    status, body, _ = ask(guard, "/gradio_api/upload", "POST", b"x")
    assert status == 503 and "no room" in body


@pytest.mark.parametrize("host", [b"127.0.0.1:7860", b"localhost", b"localhost:80", b"[::1]:7860", b"[::1]"])
def test_this_machine_by_its_names(guard, host):
    assert ask(guard, "/", headers=[(b"host", host)])[0] == 200


@pytest.mark.parametrize("host", [b"evil.example", b"evil.example:7860", b"127.0.0.1.evil.example", b""])
def test_names_of_other_machines_are_refused_on_loopback_alone(guard, host):
    assert ask(guard, "/", headers=[(b"host", host)])[0] == 421
    guard.names = None
    assert ask(guard, "/", headers=[(b"host", host)])[0] == 200


def test_websockets_are_not_there(guard):
    async def never(*_):
        raise AssertionError

    asyncio.run(guard({"type": "websocket", "path": "/"}, never, never))


def test_folders_that_are_swept_away_meanwhile_do_no_harm(guard, tmp_path, monkeypatch):
    for name in "abc":
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x" * 10)
    scandir = os.scandir

    def swept(path):
        if str(path).endswith("b"):
            shutil.rmtree(path, ignore_errors=True)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", swept)
    assert guard._there() == 20
