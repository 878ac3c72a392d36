"""Query generation 𝒢: from sampled attributes to one prompt (paper §3.1.4).

Departure: a prompt records which sampled attributes it really satisfies, and only these get credit; the paper
credits all that were asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array, diags_array, hstack

from undertow.records import Candidate, Failure, Message, Side, conversation_text
from undertow.surf.perturb import perturbations

Purpose = Literal["probe", "confirm"]
Conversation = tuple[Message, ...]
"""Turns, the last of them the user's."""
Question = str | Conversation
"""What can be asked: a prompt, or a conversation that ends with one."""
Pattern = tuple[str, ...]
"""Attributes that must hold together."""
Bits = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Draft:
    """A prompt that 𝒢 proposes."""

    messages: Conversation
    """What the target is sent."""
    realised: Pattern
    """The wanted attributes that the prompt satisfies."""

    @property
    def prompt(self) -> str:
        """The last user turn."""
        return self.messages[-1].content

    @property
    def conversation(self) -> str:
        """The whole conversation as one text, which tells drafts apart; of a single turn the prompt."""
        return conversation_text(self.messages)


def as_conversation(question: Question) -> Conversation:
    """Return the turns of a question."""
    return (Message("user", question),) if isinstance(question, str) else question


class Extractor(Protocol):
    """Says which attributes hold for a text; :class:`undertow.attributes.local.LocalExtractor` is one."""

    def vocabulary(self, side: Side) -> Sequence[Any]:
        """Return the attributes of a side, each with a ``text``, in column order."""
        ...

    def transform(self, texts: Sequence[str], side: Side) -> Any:
        """Return the (n, m) sparse boolean incidence of ``texts``, columns as in :meth:`vocabulary`."""
        ...


class Pool(Protocol):
    """Attributes to draw from; :class:`undertow.attributes.pool.AttributePool` is one."""

    @property
    def texts(self) -> Sequence[str]:
        """Sentences that are true of a query, distinct."""
        ...

    @property
    def extractor(self) -> Extractor | None:
        """Says which hold for a prompt; ``None`` where nothing but a model can say."""
        ...

    @property
    def prompts(self) -> Sequence[Question] | None:
        """Prompts, or conversations, they were extracted from: the bank of last resort."""
        ...


class Generator(Protocol):
    """Writes or finds prompts. Deterministic given ``rng`` and, where it asks a model, that model."""

    @property
    def name(self) -> str:
        """What it is, for the run's config."""
        ...

    @property
    def texts(self) -> Sequence[str]:
        """The pool 𝒜 that it can realise, distinct, in column order."""
        ...

    async def generate(
        self, wanted: Sequence[str], rng: np.random.Generator, avoid: Container[str]
    ) -> Draft | Failure:
        """Make one prompt for the search that satisfies ``wanted``, none of ``avoid`` if it can be helped."""
        ...

    async def fresh(
        self,
        pattern: Pattern,
        n: int,
        rng: np.random.Generator,
        purpose: Purpose,
        avoid: Container[str],
        without: Sequence[Pattern] = (),
    ) -> list[Draft]:
        """Make up to ``n`` distinct prompts that the search has not seen.

        They satisfy all of ``pattern`` (empty: drawn uniformly) and none of the ``without`` patterns. The
        ``conversation`` of what was asked for another purpose must be in ``avoid``.
        """
        ...

    async def rephrase(self, messages: Conversation, n: int, rng: np.random.Generator) -> list[Conversation]:
        """Perturb the last turn in up to ``n`` ways that keep its substance."""
        ...

    def incidence(self, candidates: Sequence[Candidate]) -> csr_array:
        """Return which attributes hold: (n, m) int64 zeros and ones, columns as in ``texts``."""
        ...


class BankGenerator:
    """Retrieval: the bank prompt that satisfies most of the sampled attributes.

    A prompt may end a conversation; then attributes describe it, and its earlier user turns under names of
    their own.

    The bank is split once, by seed, into prompts for the search, for probes and for confirmation, so that the
    search cannot use up a rare trigger before it is confirmed.
    """

    def __init__(
        self,
        prompts: Sequence[Question],
        texts: Sequence[str],
        incidence: csr_array,
        seed: int = 0,
        probe_share: float = 0.2,
        confirm_share: float = 0.3,
    ) -> None:
        """Hold n distinct ``prompts`` and their (n, m) ``incidence`` over the m attribute ``texts``.

        Attributes that no search prompt satisfies leave the pool: they could only waste draws.
        """
        part = np.random.default_rng([seed, len(prompts)]).random(len(prompts))
        self._probe: Mask = part < probe_share
        self._confirm: Mask = (part >= probe_share) & (part < probe_share + confirm_share)
        self._search: Mask = ~(self._probe | self._confirm)
        whole = csr_array(incidence).astype(np.int64)
        kept = np.flatnonzero(whole[np.flatnonzero(self._search)].sum(axis=0))
        self._rows = csr_array(whole[:, kept])
        self._columns = csc_array(self._rows)
        self._texts = [texts[column] for column in kept.tolist()]
        self._column = {text: column for column, text in enumerate(self._texts)}
        self._turns = [as_conversation(prompt) for prompt in prompts]
        self._prompts = [conversation_text(turns) for turns in self._turns]
        self._row = {prompt: row for row, prompt in enumerate(self._prompts)}

    @classmethod
    def from_extractor(
        cls,
        prompts: Sequence[Question],
        extractor: Extractor,
        pool: Collection[str] | None = None,
        seed: int = 0,
        probe_share: float = 0.2,
        confirm_share: float = 0.3,
    ) -> BankGenerator:
        """Extract the distinct prompts' attributes, those of ``pool`` (default: all that there are)."""
        asked = {conversation_text(turns): turns for turns in map(as_conversation, prompts)}
        distinct = [turns for turns in asked.values() if turns[-1].content.strip()]
        texts = [attribute.text for attribute in extractor.vocabulary("query")]
        wanted = set(texts if pool is None else pool)
        columns = [column for column, text in enumerate(texts) if text in wanted]
        kept = [texts[column] for column in columns]
        incidence = _holding([turns[-1].content for turns in distinct], extractor, columns)
        if any(len(turns) > 1 for turns in distinct):
            earlier = _holding([_earlier(turns) for turns in distinct], extractor, columns, blank=False)
            incidence = csr_array(hstack([incidence, earlier]))
            kept += [of_earlier_turn(text) for text in kept]
        return cls(distinct, kept, incidence, seed, probe_share, confirm_share)

    @property
    def name(self) -> str:
        """``local``."""
        return "local"

    @property
    def texts(self) -> Sequence[str]:
        """Attributes that at least one search prompt satisfies."""
        return self._texts

    def __len__(self) -> int:
        return len(self._prompts)

    async def generate(
        self, wanted: Sequence[str], rng: np.random.Generator, avoid: Container[str]
    ) -> Draft | Failure:
        """Find the unused search prompt that satisfies most of ``wanted``.

        Ties are broken first between the subsets of ``wanted`` that tie, then between their prompts, both
        uniformly: a rare attribute is not drowned by a common one. Only when every search prompt is used
        does one come twice.
        """
        bits = self._satisfied(wanted)
        level = np.where(self._search, np.bitwise_count(bits).astype(np.int64), -1)
        for count in range(int(level.max()), -1, -1):
            row = self._unused(bits, np.flatnonzero(level == count), rng, avoid)
            if row is not None:
                return self._draft(row, wanted)
        best = np.flatnonzero(level == level.max())
        return self._draft(int(rng.choice(best)), wanted)

    def _satisfied(self, wanted: Sequence[str]) -> Bits:
        """Set bit j of each row that satisfies ``wanted[j]``."""
        bits: Bits = np.zeros(len(self._prompts), dtype=np.int64)
        for j, text in enumerate(wanted):
            bits[self._holders(text)] |= 1 << j
        return bits

    def _holders(self, text: str) -> NDArray[np.int32]:
        column = self._column[text]
        start, end = self._columns.indptr[column : column + 2]
        holders: NDArray[np.int32] = self._columns.indices[start:end]
        return holders

    def _unused(
        self, bits: Bits, ties: NDArray[np.intp], rng: np.random.Generator, avoid: Container[str]
    ) -> int | None:
        for subset in rng.permutation(np.unique(bits[ties])):
            for row in rng.permutation(ties[bits[ties] == subset]):
                if self._prompts[row] not in avoid:
                    return int(row)
        return None

    def _draft(self, row: int, wanted: Sequence[str]) -> Draft:
        held = set(self._rows.indices[self._rows.indptr[row] : self._rows.indptr[row + 1]].tolist())
        realised = tuple(text for text in wanted if self._column[text] in held)
        return Draft(self._turns[row], realised)

    async def fresh(
        self,
        pattern: Pattern,
        n: int,
        rng: np.random.Generator,
        purpose: Purpose,
        avoid: Container[str],
        without: Sequence[Pattern] = (),
    ) -> list[Draft]:
        """Draw up to ``n`` prompts of the purpose's part of the bank, uniformly among those that fit.

        Where a pattern is too rare for that part, prompts of the search's part that nobody has asked fill up.
        """
        fits = self._carry(pattern)
        for other in without:
            fits &= ~self._carry(other)
        kept, spare = self._probe if purpose == "probe" else self._confirm, self._search
        parts = (kept, spare) if pattern else (kept,)
        rows = [row for part in parts for row in rng.permutation(np.flatnonzero(fits & part)).tolist()]
        unasked = [row for row in rows if self._prompts[row] not in avoid]
        return [self._draft(row, pattern) for row in unasked[:n]]

    def _carry(self, pattern: Pattern) -> Mask:
        carry: Mask = self._satisfied(pattern) == (1 << len(pattern)) - 1
        return carry

    async def rephrase(self, messages: Conversation, n: int, rng: np.random.Generator) -> list[Conversation]:
        """Perturb by rule: punctuation, case, white space, lead-ins."""
        versions = perturbations(messages[-1].content, n, rng)
        return [(*messages[:-1], Message(messages[-1].role, version)) for version in versions]

    def incidence(self, candidates: Sequence[Candidate]) -> csr_array:
        """Look the candidates' prompts up in the bank."""
        return csr_array(self._rows[[self._row[candidate.conversation] for candidate in candidates]])


def of_earlier_turn(text: str) -> str:
    """Name an attribute of the history: ``The query …`` becomes ``An earlier user turn …``."""
    return f"An earlier user turn {text.removeprefix('The query ')}"


def _earlier(turns: Conversation) -> str:
    return "\n".join(turn.content for turn in turns[:-1] if turn.role == "user")


def _holding(
    texts: Sequence[str], extractor: Extractor, columns: Sequence[int], blank: bool = True
) -> csr_array:
    """Return the (n, k) incidence of ``texts`` over some columns; without ``blank`` nothing holds for ''."""
    found = csr_array(csc_array(extractor.transform(texts, "query"))[:, list(columns)])
    if blank:
        return found
    spoken = diags_array([float(bool(text)) for text in texts])
    return csr_array(spoken @ found)
