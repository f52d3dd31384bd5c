"""Serving the page: to this machine alone unless asked otherwise, without a word to anybody else."""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

from foveate.errors import FoveateError, MissingExtraError, OptionError

ADDRESS, PORT = "127.0.0.1", 7860
WAITING = 40  # requests that wait at most; more are told that the page is busy
ROOM = 200 * 2**20  # bytes of uploads that lie here at once
KEPT = 120.0  # seconds that an upload lies here: it is read within a moment, and the queue is short
SWEEP = 20.0
# read when gradio and the hub's client are imported
SILENT = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


@dataclass(frozen=True)
class Site:
    """A page that is being served.

    Attributes:
        url: Where.
        handlers: What it does.
        uploads: The folder that uploads come to.
    """

    url: str
    handlers: Any
    uploads: Path


def warning_of(address: str) -> str | None:
    """What to say before a page is served to other machines; ``None`` if it is not.

    Raises:
        OptionError: If it is no address.

    Example:
        >>> warning_of("127.0.0.1"), warning_of("::1")
        (None, None)
        >>> warning_of("0.0.0.0")[:47]
        'this page has no password and no encryption: wh'
    """
    try:
        if ipaddress.ip_address(address).is_loopback:
            return None
    except ValueError:
        if address != "localhost":
            raise OptionError(f"'{address}' is no address of this machine; write 127.0.0.1, ::1 or 0.0.0.0") from None
        return None
    return (
        f"this page has no password and no encryption: whoever reaches {address} can use this machine's time, see the "
        "runs and reports of the folders named here, and read along; put a proxy that asks who it is in front of it"
    )


@contextmanager
def serving(
    *,
    port: int | None = PORT,
    address: str = ADDRESS,
    checkpoints: Path | None = None,
    studies: Path | None = None,
    images: Path | None = None,
    hosts: tuple[str, ...] | None = None,
) -> Generator[Site]:
    """Serve the page for as long as the ``with`` lasts; then processes end and temporary files go.

    A process serves one page at a time: while it serves a second one, the first takes no pictures.

    Args:
        port: Where; any that is free, if ``None``.
        address: To whom; this machine alone by default.
        checkpoints: A folder of runs that may be chosen.
        studies: A folder of studies whose reports may be opened.
        images: A folder of pictures that may be picked.
        hosts: Networks that may be chosen; the usual ones, if ``None``.

    Raises:
        OptionError: If a folder does not exist, or the address is none.
        FoveateError: If the port is taken.
        MissingExtraError: If gradio is not installed.
    """
    warning_of(address)
    for folder in (checkpoints, studies, images):
        if folder is not None and not folder.is_dir():
            raise OptionError(f"there is no folder '{folder}'")
    root = Path(tempfile.mkdtemp(prefix="foveate-app-")).resolve()
    uploads = root / "uploads"
    uploads.mkdir()
    done = Event()
    try:
        with _environment({**SILENT, "GRADIO_TEMP_DIR": str(uploads)}):
            handlers, page = _built(root, uploads, checkpoints, studies, images, hosts)
            try:
                url = _launched(page, address, port, uploads)
                Thread(target=_sweep, args=(done, uploads, handlers.sessions.sweep), daemon=True).start()
                yield Site(url, handlers, uploads)
            finally:
                done.set()
                handlers.comparisons.close()
                handlers.sessions.close_all()
                page.close(verbose=False)
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextmanager
def _environment(values: dict[str, str]) -> Generator[None]:
    """Variables of the environment for a while: gradio asks for its folder whenever a picture comes."""
    before = {name: os.environ.get(name) for name in values}
    os.environ |= values
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _built(
    root: Path,
    uploads: Path,
    checkpoints: Path | None,
    studies: Path | None,
    images: Path | None,
    hosts: tuple[str, ...] | None,
) -> tuple[Any, Any]:
    try:
        import gradio  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        raise MissingExtraError("gradio", "app") from error
    from foveate.app.comparing import Comparisons
    from foveate.app.handlers import Handlers
    from foveate.app.networks import HOSTS, Networks
    from foveate.app.page import build
    from foveate.app.pictures import Gallery
    from foveate.app.sessions import Sessions
    from foveate.app.studies import Studies

    sessions = root / "sessions"
    sessions.mkdir()
    handlers = Handlers(
        Sessions(sessions),
        Networks(hosts or HOSTS, checkpoints),
        Gallery(images),
        Studies(studies),
        Comparisons(),
        uploads,
    )
    return handlers, build(handlers)


def _launched(page: Any, address: str, port: int | None, uploads: Path) -> str:
    from gradio.themes import Default
    from starlette.middleware import Middleware

    from foveate.app.guard import LOOPBACK, Guard
    from foveate.app.sessions import MOST
    from foveate.app.uploads import BYTES

    for name in ("httpx", "httpx2"):  # gradio asks itself whether it is up, and says so
        logging.getLogger(name).setLevel(logging.WARNING)
    names = LOOPBACK if warning_of(address) is None else None
    guard = Middleware(Guard, folder=uploads, largest=BYTES, room=ROOM, names=names)  # pyright: ignore[reportArgumentType]
    page.queue(max_size=WAITING, api_open=False, default_concurrency_limit=1)
    plain = Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    try:
        _, url, _ = page.launch(
            server_name=address,
            server_port=port,
            share=False,
            quiet=True,
            inbrowser=False,
            prevent_thread_lock=True,
            show_error=False,
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            run_history=False,
            footer_links=[],
            max_file_size=BYTES,
            state_session_capacity=MOST,  # it keeps what was shown to each, about a megabyte
            allowed_paths=[],
            theme=plain,
            css_paths=[Path(__file__).with_name("style.css")],
            app_kwargs={"middleware": [guard], "docs_url": None, "redoc_url": None, "openapi_url": None},
        )
    except OSError as error:
        why = error.strerror or "something else listens there"  # gradio speaks of settings of its own
        raise FoveateError(f"port {port} of {address} cannot be used, {why}: choose another with --port") from error
    return url


def _sweep(done: Event, uploads: Path, sessions: Callable[[], None]) -> None:
    """Remove uploads that lie here for long, forget people who are gone, and give memory back."""
    while not done.wait(SWEEP):
        sessions()
        give_back()
        late = time.time() - KEPT
        # innermost first; what others take away meanwhile is no error to `os.walk`
        for inside, folders, files in os.walk(uploads, topdown=False):
            for name in (*files, *folders):
                path = Path(inside, name)
                with contextlib.suppress(OSError):  # not empty, or gone
                    if path.stat().st_mtime <= late:
                        path.rmdir() if path.is_dir() else path.unlink()


def give_back() -> None:
    """Give the system back what freed memory the C library holds on to, where it is one that can (glibc).

    Requests run in whichever of many threads is free, and each thread's pool keeps what its largest request took.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
