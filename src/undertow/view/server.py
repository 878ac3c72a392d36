"""The viewer's server: loopback, read-only, and nothing on a page that the page was not meant to have.

A page of another site can make a browser ask us (DNS rebinding), so the Host header must be a name of this
machine's loopback. Only GET and HEAD are answered. Every answer forbids scripts, frames and foreign loads.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from undertow.errors import UsageError
from undertow.view.pages import PAGES, Missing, Query, Viewer

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

HOSTS = ["127.0.0.1", "localhost", "[::1]", "::1"]
_POLICY = (
    "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_REPORT_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""A report in the folder is a file that anyone may have put there: no script, no origin. Its own policy
tightens this."""
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def build_viewer(folder: Path | Viewer) -> Starlette:
    """Build the ASGI application over a folder of runs.

    Raises:
        UsageError: no such folder, or the extra is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware
        from starlette.routing import Route
    except ImportError:
        raise UsageError("view: needs starlette and uvicorn; pip install 'undertow[view]'") from None
    viewer = folder if isinstance(folder, Viewer) else Viewer(folder)
    routes = [Route(path, _endpoint(viewer, make), methods=["GET"]) for path, make in PAGES.items()]
    routes.append(Route("/report", _report(viewer), methods=["GET"]))
    routes.append(Route("/style.css", _style(viewer), methods=["GET"]))
    return Starlette(
        routes=routes,
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS, www_redirect=False)],
        exception_handlers={404: _refused(viewer), 405: _refused(viewer)},
    )


def _endpoint(viewer: Viewer, make: Callable[[Viewer, Query], str]) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        try:
            return _page(make(viewer, Query(dict(request.query_params))))
        except Missing as error:
            return _page(viewer.error("Not found", str(error)), 404)
        except UsageError as error:
            return _page(viewer.error("This cannot be shown", str(error)), 422)

    return answer


def _report(viewer: Viewer) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        from starlette.responses import FileResponse

        try:
            page = viewer.report(Query(dict(request.query_params)))
        except Missing as error:
            return _page(viewer.error("Not found", str(error)), 404)
        headers = {**_HEADERS, "Content-Security-Policy": _REPORT_POLICY}
        return FileResponse(page, media_type="text/html; charset=utf-8", headers=headers)

    return answer


def _style(viewer: Viewer) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        from starlette.responses import Response

        headers = {**_HEADERS, "Content-Security-Policy": _POLICY}
        return Response(viewer.style, media_type="text/css", headers=headers)

    return answer


def _refused(viewer: Viewer) -> Callable[[Request, Exception], Response]:
    def answer(request: Request, error: Exception) -> Response:
        status = getattr(error, "status_code", 404)
        said = "Only GET is answered." if status == 405 else "There is no such page."
        return _page(viewer.error("Not found" if status == 404 else "Refused", said), status)

    return answer


def _page(html: str, status: int = 200) -> Response:
    from starlette.responses import HTMLResponse

    return HTMLResponse(html, status, {**_HEADERS, "Content-Security-Policy": _POLICY})


def serve(folder: Path, port: int, ready: Callable[[str], None]) -> None:
    """Serve a folder of runs on 127.0.0.1 until it is stopped.

    Args:
        folder: holds the runs, at any depth.
        port: 0 takes a free one.
        ready: hears the address once the port is taken.

    Raises:
        UsageError: no such folder, the port is taken, or the extra is not installed.
    """
    viewer = Viewer(folder)
    application = build_viewer(viewer)
    try:
        import uvicorn
    except ImportError:
        raise UsageError("view: needs uvicorn; pip install 'undertow[view]'") from None
    with _bound(port) as listening, _reading_ahead(viewer):
        ready(f"http://127.0.0.1:{listening.getsockname()[1]}/")
        config = uvicorn.Config(
            application, log_level="warning", access_log=False, server_header=False, lifespan="off"
        )
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])


@contextlib.contextmanager
def _reading_ahead(viewer: Viewer) -> Iterator[None]:
    """Read the newest runs in a thread while pages are served already."""
    stop = threading.Event()
    thread = threading.Thread(target=viewer.warm, args=(stop.is_set,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _bound(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise UsageError(f"--port {port}: {error.strerror}; choose another, or 0 for a free one") from None
    return listening
