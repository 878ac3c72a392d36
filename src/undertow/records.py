"""The nouns of undertow: what every package passes around, and nothing else.

Bulk data stays in Arrow tables and sparse matrices; these records are for what people look at: one
conversation, one verdict, one finding. All are frozen. A missing value is ``None`` or a
:class:`Failure`, never a number.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Role = Literal["system", "user", "assistant"]
Side = Literal["query", "response"]


class FailureKind(StrEnum):
    """Why a call or a verdict is missing."""

    TIMEOUT = "timeout"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    CONNECTION = "connection"
    REJECTED = "rejected"
    BAD_RESPONSE = "bad_response"
    EMPTY_REPLY = "empty_reply"
    TRUNCATED = "truncated"
    FILTERED = "filtered"
    UNPARSABLE_VERDICT = "unparsable_verdict"
    JUDGE_REFUSAL = "judge_refusal"
    BUDGET = "budget"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Failure:
    """A result that is missing, and why. It enters no mean, no buffer and no count of clean results."""

    kind: FailureKind
    """The class of fault, the key of every summary's ``failures``."""
    detail: str = ""
    """One line for a person; secrets are already redacted."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    """Who speaks."""
    content: str
    """The text, untrusted."""


def conversation_text(messages: tuple[Message, ...]) -> str:
    """Write a conversation as one text: a single turn as it is, several each under its role."""
    if len(messages) == 1:
        return messages[0].content
    return "\n\n".join(f"{message.role.capitalize()}: {message.content}" for message in messages)


@dataclass(frozen=True, slots=True)
class Example:
    """One training row: a prompt and the response it teaches."""

    id: str
    """Unique in its data set."""
    prompt: str
    """The last user turn."""
    response: str
    """The assistant's answer."""
    source: str = ""
    """The chunk (data set) the row came from; empty where unknown."""
    history: tuple[Message, ...] = ()
    """Turns before the prompt, oldest first."""


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """One comparison: the response that was chosen and the one that was rejected."""

    id: str
    """Unique in its data set."""
    prompt: str
    """The last user turn."""
    chosen: str
    """The preferred response."""
    rejected: str
    """The other one."""
    history: tuple[Message, ...] = ()
    """Turns before the prompt, oldest first."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """A sentence that is true of a query or of a response."""

    id: int
    """Row in the index's attribute table of its side."""
    side: Side
    """What it describes."""
    text: str
    """``The query …`` or ``The response …``."""
    kind: str
    """Extractor family: surface, opening, phrase, topic, llm, ….."""
    count: int
    """Distinct examples of the corpus it holds for."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided confidence interval."""

    low: float
    """Lower bound."""
    high: float
    """Upper bound."""
    level: float = 0.95
    """Nominal coverage."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A proportion with its n. ``value`` and ``interval`` are ``None`` when nothing was scored."""

    hits: int
    """How often it happened."""
    n: int
    """Scored trials; failures are not among them."""
    interval: Interval | None
    """Wilson interval; ``None`` iff ``n == 0``."""

    @property
    def value(self) -> float | None:
        """``hits / n``, or ``None`` when nothing was scored."""
        return self.hits / self.n if self.n else None


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far raters agree beyond chance: Cohen's κ or Krippendorff's α."""

    value: float | None
    """1: always; 0: as by chance; ``None`` where that is not defined."""
    interval: Interval | None
    """``None`` if ``value`` is."""
    n: int
    """Items that were rated by two raters or more."""
    agreed: int
    """Items on which all of them agree."""
    reason: str = ""
    """Why ``value`` is missing."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered."""

    text: str
    """The answer, untrusted."""
    finish_reason: Literal["stop", "length", "filter", "tool", "unknown"]
    """Why generation ended; ``length`` marks a cut answer."""
    input_tokens: int = 0
    """Tokens read."""
    output_tokens: int = 0
    """Tokens written."""
    cost_usd: float | None = None
    """Price of the call; ``None`` where no price is known."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judge's score of one response against one rubric."""

    score: float
    """Violation severity in [0, 100]; finite (paper §3.1.5)."""
    violation: bool
    """Score over the rubric's threshold, or the checks' decision."""
    reason: str = ""
    """Why, untrusted."""
    judge: str = "checks"
    """Model string of the judge, or ``checks``."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A prompt proposed by the search (paper §3.1.4)."""

    id: str
    """``run/iteration/number``."""
    messages: tuple[Message, ...]
    """What the target is sent, without system prompt and context of the run; the last turn is the user's."""
    sampled: tuple[str, ...]
    """Attributes drawn from the pool (k ≤ 5)."""
    realised: tuple[str, ...]
    """Those of them that the prompt really satisfies; only these get credit."""
    run: int
    """Parallel run, from 0."""
    iteration: int
    """Iteration t, from 0."""

    @property
    def prompt(self) -> str:
        """The last user turn."""
        return self.messages[-1].content

    @property
    def conversation(self) -> str:
        """The whole conversation as one text, which tells candidates apart; of a single turn the prompt."""
        return conversation_text(self.messages)


@dataclass(frozen=True, slots=True)
class Sample:
    """A candidate, one answer to it and its verdict."""

    candidate: Candidate
    """What was asked."""
    reply: Reply | Failure
    """What came back."""
    verdict: Verdict | Failure
    """How it was judged; a failed reply has the reply's failure here."""
    replicate: int = 0
    """Resample index of the same prompt."""
    votes: tuple[Verdict, ...] = ()
    """Where a confirming judge was asked: the judge's verdict and its own; ``verdict`` is what both say."""


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One violating exchange shown to people."""

    prompt: str
    """The query."""
    response: str
    """The violating answer."""
    rate: Rate
    """Confirmation: violation rate of this prompt's perturbations × resamples (paper §3.2.3)."""
    history: tuple[Message, ...] = ()
    """Turns before the query, oldest first."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A behaviour in the wrong place, confirmed on samples that the search did not select on."""

    id: str
    """Stable within its run."""
    rubric: str
    """Name of the rubric."""
    behaviour: str
    """What the model does, from the rubric."""
    attributes: tuple[str, ...]
    """Minimal set of query attributes that elicits it."""
    status: Literal["confirmed", "rejected", "inconclusive"]
    """``confirmed``: the rate stands clear of the minimum and of the control."""
    rate: Rate
    """Violation rate over fresh prompts that carry the attributes."""
    control_rate: Rate | None
    """The same prompts on the reference model; ``None`` without one."""
    base_rate: Rate | None
    """Violation rate over fresh prompts drawn uniformly, the search's own base rate."""
    failed: int
    """Confirmation samples that are Failures."""
    exemplars: tuple[Exemplar, ...]
    """Three to five, best first."""
    judge_rate: Rate | None = None
    """By the judge alone; ``None`` without a confirming judge. With one, ``rate`` is what both say."""
    confirm_rate: Rate | None = None
    """By the confirming judge alone."""
    agreement: Agreement | None = None
    """Cohen's κ of the two judges over the samples that both scored."""


@dataclass(frozen=True, slots=True)
class Crux:
    """A response attribute held responsible for the violation (paper D.1.2)."""

    text: str
    """``The response …``."""
    margin: float | None
    """Log-odds z in violating against other responses; ``None`` when the user named it."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """A query attribute associated with the crux in the training data."""

    text: str
    """``The query …``, of the failing query."""
    label: str
    """Name of its cluster."""
    cluster: int | None
    """Cluster id; ``None`` for words of a kind, which are joined for the behaviour at hand."""
    paper_hits: int
    """h(c) among the k retrieved pairs (paper §4.1 step 3)."""
    k: int
    """Retrieved pairs."""
    examples: int
    """Corpus rows with the feature and the behaviour, x."""
    corpus: int
    """Corpus rows with the feature, M."""
    rate: float
    """P(behaviour | feature) = x / M."""
    rate_interval: Interval
    """Wilson interval of the rate."""
    base_rate: float
    """P(behaviour) over the corpus, n / N."""
    lift: float | None
    """rate / base_rate."""
    p: float
    """One-sided hypergeometric P(X ≥ x)."""
    q: float
    """Benjamini–Hochberg over the query's attributes × cruxes."""
    within_source_or: float | None
    """Mantel–Haenszel odds ratio, stratified by source; about 1 means the data set, not the feature."""
    sources: dict[str, int]
    """Source → rows with feature and behaviour, descending."""
    example_ids: tuple[str, ...]
    """All rows with feature and behaviour, or the first of them in listings."""
    words: tuple[str, ...] = ()
    """Words of a kind that the query mentions; none for an attribute of the index."""
    least: int = 1
    """How many of them it mentions at least."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """A finding traced to the rows that taught it. An association until a retrain says otherwise."""

    finding: str
    """Finding id, or ``query`` for a single pair."""
    crux: tuple[Crux, ...]
    """At most three."""
    triggers: tuple[Trigger, ...]
    """Ranked, best first."""
    explanation: str
    """"When the model sees …, it …" with n, base rate, lift, q and sources."""
    sensitivity: dict[str, object]
    """Top trigger under other k and thresholds; tie sizes; true-set size."""
