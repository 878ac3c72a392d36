"""Shapes of text: what they leave open, and that mining finds those that nobody listed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from undertow.attributes.fit import clean
from undertow.attributes.local import LocalExtractor
from undertow.attributes.shapes import SHAPES
from undertow.attributes.text import analyse, as_strings

FORMS = {
    "At [12:34] now": {"[99:99]", "[<number>:<number>]"},
    "a **bold** word": {"**xx**", "**<word>**"},
    "Rain (1998), sun": {"(9999)", "(<number>)"},
    "in /home/ada/notes/12.txt today": {"/xx/99.xx", "/<word>/<number>.<word>"},
    "in /etc/a/b/9.txt": {"/<word>/<number>.<word>"},
    "ask ada@post.example": {"xx@xx.xx", "<word>@<word>.<word>"},
    "it costs $12.50": {"$99999", "$<number>"},
    "call 555-0123": {"999-9999", "<number>-<number>"},
    "say “two words” here": {"“xx xx”", "“<word> <word>”"},
    "l33t or hElLo": {"x9x", "xX", "<code>"},
}


def shapes(text: str) -> dict[str, set[str]]:
    """Forms that each family finds in a text."""
    batch = analyse(as_strings([text]))
    out = {}
    for family in SHAPES:
        found = family.find(batch, np.zeros(len(batch.starts), bool))
        first, last = np.searchsorted(batch.starts, found.starts), np.searchsorted(batch.starts, found.ends)
        assert family.write is not None
        spans = zip(first.tolist(), last.tolist(), found.slotted.tolist(), strict=True)
        out[family.find.__name__] = {family.write(batch, *span) for span in spans}
    return out


@pytest.mark.parametrize("text", FORMS)
def test_forms_leave_letters_and_digits_open(text: str) -> None:
    assert FORMS[text] <= shapes(text)["forms"]


def test_plain_words_have_no_form() -> None:
    assert not any(shapes("Tell me about Paris and the USA, please: it's a town.")[f] for f in ("forms",))


@pytest.mark.parametrize("marks", ["???", "????", "?????????"])
def test_a_run_of_marks_counts_up_to_three(marks: str) -> None:
    assert shapes(f"Why{marks}")["closing_marks"] == {"???"}


def test_edges_of_a_text() -> None:
    found = shapes('"All of it is so."')
    assert found["framing_marks"] == {'"…"'}
    assert found["closing_marks"] == {'."'}
    assert shapes("[ref: 12] Go")["opening_forms"] == {"[xx", "[<word>"}
    assert shapes("Go :-)")["closing_forms"] == {":-)"}
    assert not any(shapes("").values())


def test_hashes_are_equal_where_the_forms_are() -> None:
    rng = np.random.default_rng(0)
    pieces = ["a", "Bc", "DEF", "7", "123", "*", "**", "(", ")", "/", ".", "_x", "x9", "-", " ", " "]
    texts = ["".join(rng.choice(pieces, rng.integers(1, 9))) for _ in range(400)]
    batch = analyse(as_strings(texts))
    for family in SHAPES:
        found = family.find(batch, np.zeros(len(batch.starts), bool))
        first, last = np.searchsorted(batch.starts, found.starts), np.searchsorted(batch.starts, found.ends)
        seen: dict[tuple[bool, int], set[str]] = {}
        for i, key in enumerate(found.hashes.tolist()):
            coarse = bool(found.slotted[i])
            said = family.write(batch, int(first[i]), int(last[i]), coarse).replace(" ", "")
            seen.setdefault((coarse, key), set()).add(said)
        assert all(len(each) == 1 for each in seen.values()), [e for e in seen.values() if len(e) > 1][:3]


def test_a_form_that_nobody_listed_is_mined() -> None:
    rng = np.random.default_rng(0)
    words = ["sun", "moon", "tree", "road", "boat"]
    prompts = [f"Tell me of {rng.choice(words)} {i}" for i in range(200)]
    for i in range(0, 200, 20):
        prompts[i] += f" §{i}~{rng.choice(words)}"
    table = pa.table({"prompt": prompts, "response": ["Yes."] * 200})
    extractor = LocalExtractor.fit(table)
    texts = [entry.text for entry in extractor.vocabulary("query")]
    column = texts.index("The query has text of the form §<number>~<word>")
    held = extractor.transform([*prompts, "Go §99999~lamp"], "query")[:, [column]].toarray().ravel()
    assert np.flatnonzero(held).tolist() == [*range(0, 200, 20), 200]
    assert clean(texts[column]) == texts[column].lower()
