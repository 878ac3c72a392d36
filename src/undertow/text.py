"""Untrusted text made fit for a terminal; secrets kept out of it."""

from __future__ import annotations

import os
import re

_CONTROL = re.compile(
    r"[\x00-\x09\x0b-\x1f\x7f-\x9f"  # C0 but newline, DEL, C1: escape sequences, cursor moves, bells
    r"\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ufff9-\ufffb"  # invisible, bidi
    r"\ud800-\udfff\U000e0000-\U000e0fff]"  # lone surrogates, tag characters
)
_LONE = re.compile(r"[\ud800-\udfff]")
_SECRET_NAME = re.compile(r"(_API_KEY|_TOKEN|_SECRET|_PASSWORD|^API_KEY)$")


def _escaped(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code == 9:
        return "    "
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def safe_text(text: str) -> str:
    r"""Show control, ANSI, bidi and invisible characters of ``text`` as escapes (``\x1b``, ``\u202e``).

    Newlines stay, tabs become four spaces. Rich markup is not touched: print the result with
    ``markup=False`` or as :class:`rich.text.Text`.
    """
    return _CONTROL.sub(_escaped, text)


def whole_text(text: str) -> str:
    """Replace each half of a character (a lone surrogate, which no file can hold) by U+FFFD."""
    return text if text.isascii() else _LONE.sub("\ufffd", text)


def one_line(text: str, width: int = 100) -> str:
    """Show ``text`` safely on one line of at most ``width`` characters, cut with an ellipsis."""
    flat = safe_text(" ".join(text.split()))
    return flat if len(flat) <= width else flat[: width - 1].rstrip() + "…"


def redact(text: str) -> str:
    """Replace each secret of the environment (``*_API_KEY``, ``*_TOKEN``, …) found in ``text`` by ``***``."""
    for name, value in os.environ.items():
        if len(value) >= 8 and _SECRET_NAME.search(name):
            text = text.replace(value, "***")
    return text
