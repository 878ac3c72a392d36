"""Which conversations were asked already, at a few bytes each."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b


class Seen:
    """A set of texts that keeps 64 bits of each: among a million, two are taken for one with p = 3e-8."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        """Start with ``texts``."""
        self._hashes: set[int] = set()
        self.update(texts)

    def __contains__(self, text: object) -> bool:
        return isinstance(text, str) and _hash(text) in self._hashes

    def __len__(self) -> int:
        return len(self._hashes)

    def add(self, text: str) -> None:
        """Take in one text."""
        self._hashes.add(_hash(text))

    def update(self, texts: Iterable[str]) -> None:
        """Take in ``texts``."""
        self._hashes.update(map(_hash, texts))


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())
