"""The application: the verbs, and the one boundary where errors become a line and an exit code."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import FrameType
from typing import Annotated

import typer
from typer.exceptions import TyperException

from undertow.cli.guard import guard
from undertow.errors import UndertowError
from undertow.models.cores import spin_count
from undertow.text import redact, safe_text
from undertow.version import __version__

VERBS: tuple[tuple[str, str], ...] = tuple(
    (verb, f"undertow.cli.{verb}")
    for verb in (
        "demo",
        "index",
        "query",
        "surf",
        "prefs",
        "calibrate",
        "trace",
        "fix",
        "train",
        "verify",
        "study",
        "gate",
        "report",
        "view",
        "export",
    )
)
"""(verb, module) in the order of ``--help``. The module holds the function ``command``, or ``group``, a
``typer.Typer`` of sub-verbs. Modules import their heavy code inside the function."""

SIGNALLED = 128
"""Plus the number of the signal: 130 for Ctrl-C, 143 for SIGTERM."""
BROKEN_PIPE = 141


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"undertow {__version__}")
        raise typer.Exit


def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Find the behaviours that training data taught a model by accident, trace them, fix and prove it."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def build_app(verbs: Sequence[tuple[str, str]] = VERBS) -> typer.Typer:
    """Build the Typer application of ``verbs``."""
    app = typer.Typer(
        invoke_without_command=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for verb, name in verbs:
        module = import_module(name)
        if hasattr(module, "group"):
            app.add_typer(module.group, name=verb)
        else:
            app.command(verb)(module.command)
    return app


def _environment() -> None:
    """Keep libraries' bars and advice off the terminal, and threads from spinning on busy cores.

    What the user has set stays.
    """
    for name, value in (
        ("TRANSFORMERS_VERBOSITY", "error"),
        ("DATASETS_VERBOSITY", "error"),
        ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
        ("HF_DATASETS_DISABLE_PROGRESS_BARS", "1"),
        ("TOKENIZERS_PARALLELISM", "false"),
        ("GOMP_SPINCOUNT", str(spin_count())),
    ):
        os.environ.setdefault(name, value)


def _error(message: str) -> None:
    line = safe_text(redact(" ".join(message.split())))
    print(f"error: {line}", file=sys.stderr)  # noqa: T201 - the one place errors are printed


def _debugging() -> bool:
    return os.environ.get("UNDERTOW_DEBUG", "") not in {"", "0"}


def _dispatch(argv: Sequence[str] | None, verbs: Sequence[tuple[str, str]]) -> int:
    """Run the verb; not by Typer's own ``main``, which would answer Ctrl-C and a closed pipe itself."""
    command = typer.main.get_command(build_app(verbs))
    guard(command)
    try:
        with command.make_context("undertow", list(sys.argv[1:] if argv is None else argv)) as context:
            command.invoke(context)
        code = 0
    except typer.Exit as done:
        code = done.exit_code
    sys.stdout.flush()
    return code


@dataclass(slots=True)
class _Stop:
    """Which signal ended the verb. SIGTERM goes the way of Ctrl-C: what is open is closed in order."""

    signal: int = signal.SIGINT

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Answer SIGTERM inside the block; signals reach the main thread only."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, self._terminate)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        interrupt = signal.getsignal(signal.SIGINT)  # of a running event loop, if there is one
        (interrupt if callable(interrupt) else signal.default_int_handler)(signal.SIGINT, frame)

    def told(self) -> int:
        """Print the line and return the exit code."""
        print("stopped; the same command goes on", file=sys.stderr)  # noqa: T201 - like an error's line
        return SIGNALLED + self.signal


def _report(error: Exception) -> int:
    """Print one line about ``error`` and return the exit code."""
    if _debugging():
        sys.stderr.write(redact("".join(traceback.format_exception(error))))
    if isinstance(error, TyperException):
        _error(error.format_message())
        return error.exit_code
    if isinstance(error, UndertowError):
        _error(str(error))
        return error.exit_code
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        mend = "; make room and run the same command again, nothing is lost" if full else ""
        _error(f"{where}{error.strerror or error}{mend}")
        return 1
    _error(f"unexpected {type(error).__name__}: {error} (UNDERTOW_DEBUG=1 shows where; please report it)")
    return 1


def main(argv: Sequence[str] | None = None, verbs: Sequence[tuple[str, str]] = VERBS) -> int:
    """Run the command line and return the exit code; never a traceback unless ``UNDERTOW_DEBUG=1``."""
    _environment()
    stop = _Stop()
    try:
        with stop.listening():
            return _dispatch(argv, verbs)
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except (KeyboardInterrupt, typer.Abort):
        return stop.told()
    except Exception as error:  # noqa: BLE001 - the boundary: any error becomes a line
        return _report(error)
