"""One error root: whatever a user can mend is an :class:`UndertowError` with a one-line message."""

from __future__ import annotations


class UndertowError(Exception):
    """Base of all errors that undertow raises on purpose; the message says what, where and how to mend."""

    exit_code = 1


class UsageError(UndertowError):
    """Bad input, bad configuration, missing file, unknown model."""

    exit_code = 2


class InconclusiveError(UndertowError):
    """Too much is missing to conclude: failure share or budget."""

    exit_code = 3
