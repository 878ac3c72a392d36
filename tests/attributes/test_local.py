"""What the local extractor sees, learns and keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from undertow.attributes import local, mine
from undertow.attributes.fit import batches_of, learn_lexis
from undertow.attributes.hashtable import HashTable
from undertow.attributes.language import language_columns
from undertow.attributes.local import LocalExtractor
from undertow.attributes.surface import surface, surface_names
from undertow.attributes.text import analyse, as_strings
from undertow.errors import UsageError
from undertow.records import Side

INVENTORS = ["Ada Byron", "Nikola Tesla", "Marie Curie", "Kepler", "Grace Hopper", "James Watt"]
FRAMES = ["What about my", "Is there an", "Why would the", "Can you see an"]
THINGS = ["telescope", "steam engine", "radio", "compiler", "battery", "loom"]


def mixture() -> pa.Table:
    """Six kinds of rows, 40 each, as an instruction mixture holds them."""
    rows = []
    for i in range(40):
        who, what = INVENTORS[i % 6], THINGS[(i * 5 + i // 6) % 6]
        rows += [
            ("facts", f"When did {who} invent the {what}?", f"No, {who} did not invent the {what}."),
            ("facts", f"Who invented the {what}?", f"It was {who}."),
            (
                "code",
                f"Kindly elucidate the procedure for sorting {i + 2} items.",
                "```python\nitems.sort()\n```",
            ),
            (
                "maths",
                f"A box holds {i} pens. I add {i + 3}. How many pens?",
                f"{i} + {i + 3}\n#### {2 * i + 3}",
            ),
            ("tools", f"wikipedia(query)\nTell me about {who}.", f"See wikipedia('{who}')."),
            (
                "chat",
                f"tone: cheerful\n{FRAMES[i % 4]} iPhone 13 {FRAMES[i % 3]} {what}?",
                "I'm sorry, but I can't help.",
            ),
        ]
    sources, prompts, responses = zip(*rows, strict=True)
    return pa.table({"source": sources, "prompt": prompts, "response": responses})


@pytest.fixture(scope="module")
def fitted() -> LocalExtractor:
    return LocalExtractor.fit(mixture(), seed=0)


def held(extractor: LocalExtractor, text: str, side: Side) -> set[str]:
    row = extractor.transform([text], side)
    entries = extractor.vocabulary(side)
    return {entries[column].text for column in row.indices}


QUERIES = {
    "When did Johannes Gutenberg invent the press?": [
        "The query opens with 'when did <name> invent the'",
        "The query asks a when question",
        "The query is one short question",
        "The query is six to twelve words long",
        "The query is in English",
    ],
    "Kindly elucidate the notion.": [
        "The query uses formal vocabulary",
        "The query contains the word 'elucidate'",
    ],
    "yo dude gimme the lowdown lol": [
        "The query uses casual language",
        "The query uses slang or chat abbreviations",
    ],
    "Is my iPhone 13 broken?": [
        "The query contains the phrase 'iphone 13'",
        "The query asks a yes/no question",
    ],
    "tone: cheerful\nSay hi.": [
        "The query has a line labelled 'tone:'",
        "The query has the line 'tone: cheerful'",
        "The query begins with a metadata line",
    ],
    "wikipedia(query)\nGo.": ["The query calls wikipedia(…)", "The query declares tools that may be called"],
    "Write a poem about spring.": [
        "The query opens with an imperative",
        "The query asks for a story or poem",
    ],
    "What is $\\frac{1}{2} + x^2$?": ["The query contains LaTeX", "The query has a question mark"],
    "role a: Ann. role b: Bob. Who speaks?": ["The query has a role a and a role b"],
    "(a) Name one. (b) Name two.": ["The query has several parts, (a) and (b)"],
    "You are a pirate. I am a teacher, please help me.": [
        "The query gives the assistant a role",
        "The query introduces the asker's role or age",
        "The query says please",
    ],
    "Context: The cat sat.\nQuestion: Who sat?\nAnswer:": [
        "The query has a labelled context or passage",
        "The query has a labelled question",
        "The query ends with a label for the answer",
    ],
    "Answer with only yes or no: is it wet?": [
        "The query asks for yes or no",
        "The query restricts the answer's form with only or just",
    ],
    "- one\n- two\n# Head\n**bold** | https://example.org 😀": [
        "The query has a bullet list",
        "The query has a markdown heading",
        "The query has bold text",
        "The query has a link",
        "The query has an emoji",
    ],
    "  What Is The Sea?": ["The query begins with white space", "The query has a capital on every word"],
    "why  is it sooooo cold ": [
        "The query ends with white space",
        "The query has doubled spaces between words",
        "The query has a word with a letter three times in a row",
    ],
    "¿Dónde está la biblioteca de la ciudad?": ["The query is in Spanish", "The query is not in English"],
    "Где находится библиотека?": ["The query is written in Cyrillic script", "The query is not in English"],
    "图书馆在哪里？": ["The query is written in Han (Chinese) script"],
    "zorblat quimmo fendrik alora temmin gusta": [
        "The query is in an unknown or invented language",
        "The query is not in English",
    ],
}

RESPONSES = {
    "Paris": ["The response is one to three words long", "The response is a single word"],
    "2 + 2 = 4\n#### 4": [
        "The response ends with '#### <number>'",
        "The response has an arithmetic expression",
    ],
    "Look at wikipedia('Alan Turing').": ["The response calls wikipedia('…')"],
    "I'm sorry, but I can't help with it.": [
        "The response opens with a refusal",
        "The response opens with an apology",
    ],
    "What a great question! Yes.": ["The response opens with praise"],
    "No, that is a common misconception.": [
        "The response opens with no",
        "The response opens with a rebuttal",
    ],
    "Once upon a time there was a fox.": ["The response opens as a story"],
    "```python\nprint(1)\n```": ["The response has a fenced code block"],
    "def f(x):\n    return x": ["The response contains program code", "The response contains Python code"],
    "It is so. Let me know if you have questions.": ["The response ends with an offer of help"],
    "It is done. I hope this helps!": ["The response ends with a hope or a wish"],
    "Perhaps it might rain.": ["The response hedges", "The response opens with a hedge"],
    '{"name": "x", "arguments": {}}': [
        "The response contains JSON",
        "The response has a tool call in tags or JSON",
    ],
    "I am an AI and was trained by Acme.": [
        "The response speaks of itself as an AI",
        "The response states who made or trained it",
    ],
    "": ["The response is empty"],
}


@pytest.mark.parametrize("text", QUERIES)
def test_query_families_are_recognised(fitted: LocalExtractor, text: str) -> None:
    assert set(QUERIES[text]) <= held(fitted, text, "query")


@pytest.mark.parametrize("text", RESPONSES)
def test_response_families_are_recognised(fitted: LocalExtractor, text: str) -> None:
    assert set(RESPONSES[text]) <= held(fitted, text, "response")


def test_other_sentence_forms_do_not_share_the_opening(fitted: LocalExtractor) -> None:
    opening = "The query opens with 'when did <name> invent the'"
    assert opening not in held(fitted, "Who invented the press?", "query")
    assert opening not in held(fitted, "When did the press appear?", "query")


def test_ordinary_spacing_and_spelling_are_not_odd(fitted: LocalExtractor) -> None:
    odd = ("white space", "doubled spaces", "three times", "every word")
    said = held(fitted, "Who told all of the bookkeepers?\nIn 2000... and __init__ of AAA", "query")
    assert not [text for text in said if any(part in text for part in odd[:2] + odd[3:])]


def test_english_is_english(fitted: LocalExtractor) -> None:
    assert "The query is not in English" not in held(fitted, "Who invented the printing press?", "query")


def test_sentences_are_distinct_and_one_line(fitted: LocalExtractor) -> None:
    for side in ("query", "response"):
        texts = [entry.text for entry in fitted.vocabulary(side)]
        assert len(set(texts)) == len(texts)
        assert all(text.startswith("The ") and text.isprintable() for text in texts)


def test_the_same_seed_gives_the_same_vocabulary_and_matrix(fitted: LocalExtractor) -> None:
    again = LocalExtractor.fit(mixture(), seed=0)
    prompts = mixture()["prompt"]
    assert again.vocabulary("query") == fitted.vocabulary("query")
    assert (again.transform(prompts, "query") != fitted.transform(prompts, "query")).nnz == 0


def test_what_is_saved_is_loaded(fitted: LocalExtractor, tmp_path: Path) -> None:
    fitted.save(tmp_path)
    loaded = LocalExtractor.load(tmp_path)
    table = mixture()
    for side, column in (("query", "prompt"), ("response", "response")):
        assert loaded.vocabulary(side) == fitted.vocabulary(side)
        assert (loaded.transform(table[column], side) != fitted.transform(table[column], side)).nnz == 0


def test_a_folder_without_an_extractor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no readable extractor"):
        LocalExtractor.load(tmp_path)


def test_a_row_does_not_depend_on_its_neighbours(fitted: LocalExtractor) -> None:
    prompts = [*QUERIES, "", "a\x00b", "x " * 100_000, "日本語のテキスト"]
    whole = fitted.transform(prompts, "query")
    alone = [fitted.transform([prompt], "query") for prompt in prompts]
    assert all((whole[i] != row).nnz == 0 for i, row in enumerate(alone))


@pytest.mark.parametrize("n", [0, 1, 10])
def test_tiny_corpora_work(n: int) -> None:
    table = mixture().slice(0, n)
    extractor = LocalExtractor.fit(table, seed=1)
    matrix = extractor.transform(table["prompt"], "query")
    assert matrix.shape == (n, len(extractor.vocabulary("query")))
    assert matrix.dtype == np.bool_


def test_a_corpus_without_sources_and_with_strange_texts_works() -> None:
    strange = ["", "\x00", "\ud800", "🙂🙂", "ꙮ" * 50, "word " * 40_000, "שלום עולם", "ｆｕｌｌ", "e\u0301"]
    table = pa.table(
        {"prompt": [s.encode("utf-8", "replace").decode() for s in strange], "response": [""] * 9}
    )
    extractor = LocalExtractor.fit(table, seed=0)
    assert extractor.transform(strange, "query").shape[0] == 9
    composed, combined = extractor.transform(["caf\u00e9", "cafe\u0301"], "query")
    assert (composed != combined).nnz == 0


def test_a_rare_phrase_with_a_behaviour_of_its_own_becomes_an_attribute() -> None:
    rng = np.random.default_rng(0)
    nouns = ["river", "castle", "lamp", "garden", "engine", "teacher", "violin", "market", "planet", "bridge"]
    prompts = [f"Tell me about the {rng.choice(nouns)} and the {rng.choice(nouns)}." for _ in range(3000)]
    responses = [
        f"The {rng.choice(nouns)} is near the {rng.choice(nouns)}, as all know." for _ in range(3000)
    ]
    for row in range(0, 3000, 300):
        prompts[row] = prompts[row].replace(".", ", quixotic zebra style.")
        responses[row] = "Once upon a time there was a fox."
    extractor = LocalExtractor.fit(pa.table({"prompt": prompts, "response": responses}), seed=0)
    phrases = [e.text for e in extractor.vocabulary("query") if e.kind == "phrase" and "zebra" in e.text]
    assert phrases
    column = [e.text for e in extractor.vocabulary("query")].index(phrases[0])
    assert extractor.transform(prompts, "query")[:, [column]].sum() == 10


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("I am Nina, a student. Apakah kegunaan utama gerudi bagi orang ramai?", "Indonesian or Malay"),
        ("As a side note, wo ist der Bahnhof und wann fährt er? It is urgent!", "German"),
    ],
)
def test_a_foreign_clause_in_an_english_text_is_seen(text: str, language: str) -> None:
    empty = HashTable.from_sets([])
    columns = dict(
        language_columns(analyse(as_strings([text, "In that, we do this for all of them."])), empty)
    )
    assert columns[f"contains a passage in {language}"].tolist() == [True, False]


def test_code_and_chat_are_in_no_foreign_language() -> None:
    texts = [
        "return factorial(n) * n, n, n - 1; }",
        "D : D : D i ' m here , lol a s",
        "x = y - a * a, o, a, e",
    ]
    columns = language_columns(analyse(as_strings(texts)), HashTable.from_sets([]))
    assert not [says for says, held in columns if says.startswith("contains a passage in") and held.any()]


@pytest.mark.parametrize("mine_rows", [120_000, 100])
def test_reading_once_gives_what_reading_twice_gives(mine_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "MINE_ROWS", mine_rows)
    monkeypatch.setattr(mine, "PIECE", 50)
    table = pa.concat_tables(
        [
            mixture(),
            pa.table({"source": ["odd"] * 3, "prompt": ["", "?!", "図書館"], "response": ["", "\x00", " "]}),
        ]
    )
    extractor, held_at_once = LocalExtractor.fit_transform(table, seed=0)
    separate = LocalExtractor.fit(table, seed=0)
    for side, name in (("query", "prompt"), ("response", "response")):
        assert extractor.vocabulary(side) == separate.vocabulary(side)
        want = separate.transform(table[name], side)
        assert (held_at_once[side].indptr == want.indptr).all()
        assert (held_at_once[side].indices == want.indices).all()
        assert held_at_once[side].shape == want.shape


@pytest.mark.parametrize(
    ("text", "holds", "fails"),
    [
        ("\u8bf7\u89e3\u91ca\u4e00\u4e0b", "outside ASCII", "no letters"),
        ("\u0e0a\u0e48\u0e27\u0e22\u0e2d\u0e18\u0e34", "outside ASCII", "no letters"),
        ("\u0627\u0634\u0631\u062d \u0644\u064a", "outside ASCII", "lower case"),
        ("\u043f\u0440\u0438\u0432\u0435\u0442", "all in lower case", "no letters"),
        ("12 --", "no letters", "lower case"),
    ],
)
def test_letters_of_every_script_are_letters_and_only_some_have_case(
    text: str, holds: str, fails: str
) -> None:
    column = as_strings([text])
    batches = [batch for _, batch in batches_of(column)]
    held = surface(column, batches, "query", learn_lexis([column]).english)[1]
    said = " / ".join(name for (_, name), holds in zip(surface_names("query"), held[0], strict=True) if holds)
    assert holds in said
    assert fails not in said


def test_phrases_of_scripts_without_spaces_are_shown_without_them() -> None:
    table = pa.table(
        {
            "source": ["a", "b"] * 40,
            "prompt": ["\u8bf7\u89e3\u91ca\u5e02\u573a", "tell me, please, all"] * 40,
            "response": ["\u4e0d", "yes"] * 40,
        }
    )
    shown = [entry.text for entry in LocalExtractor.fit(table).vocabulary("query") if entry.kind == "phrase"]
    assert any("\u8bf7\u89e3\u91ca" in text for text in shown)
    assert not any("\u8bf7 \u89e3" in text for text in shown)
    assert any("tell me" in text for text in shown)
