from __future__ import annotations

import json
from types import SimpleNamespace
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from planted import PLANTS, Plant, honest_prompt, honest_response, mixture

from undertow.errors import UsageError
from undertow.index.open import Index
from undertow.index.query import query
from undertow.records import Attribution
from undertow.turf.config import TraceConfig
from undertow.turf.crux import contrast_cruxes, literal_marks
from undertow.turf.query import Held
from undertow.turf.sensitivity import _paper
from undertow.turf.trace import (
    Traced,
    _row_table,
    _violating,
    trace_exchange,
    trace_pair,
    trace_queries,
    write_traced,
)

CONFIG = TraceConfig()


def trace_plant(index: Index, plant: Plant, seed: int = 9, prompts: int = 1) -> Traced:
    """Trace fresh prompts of a plant, with a crux drawn from fresh violating and other responses."""
    rng = np.random.default_rng(seed)
    others = [honest_response(rng) for _ in range(60)]
    others += [other.response(rng) for other in PLANTS if other is not plant for _ in range(3)]
    cruxes = contrast_cruxes(index, [plant.response(rng) for _ in range(15)], others, 3, CONFIG.support)
    return trace_queries(index, plant.name, [plant.prompt(rng) for _ in range(prompts)], cruxes, "", CONFIG)


def planted_ids(table: pa.Table, plant: Plant) -> set[str]:
    names = np.array(table["plant"].to_pylist())
    return set(np.array(table["id"].to_pylist())[names == plant.name].tolist())


@pytest.mark.parametrize("prompts", [1, 12])
@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_the_first_trigger_of_each_plant_holds_for_its_rows(
    plant: Plant, prompts: int, planted: tuple[Index, pa.Table]
) -> None:
    index, table = planted
    traced = trace_plant(index, plant, prompts=prompts)
    best, wanted = traced.attribution.triggers[0], planted_ids(table, plant)
    named = set(index.ids[index.features.rows_of(best.cluster)])
    assert len(named & wanted) >= 0.9 * len(named | wanted), best.text
    rows = traced.rows.filter(pa.compute.and_(traced.rows["has_trigger"], traced.rows["has_crux"]))
    assert len(wanted & set(rows["id"].to_pylist())) >= 0.9 * len(wanted)


def test_the_numbers_of_a_trigger_are_those_of_the_rows(planted: tuple[Index, pa.Table]) -> None:
    index, table = planted
    attribution = trace_pair(
        index,
        "When did Omar Haddad invent the zipper?",
        "No, he did not.",
        ["The response opens with no"],
    )
    best = attribution.triggers[0]
    prompts, responses = table["prompt"].to_pylist(), table["response"].to_pylist()
    when = [i for i, prompt in enumerate(prompts) if prompt.startswith("When did")]
    both = [i for i in when if responses[i].startswith("No,")]
    assert (best.examples, best.corpus) == (len(both), len(when))
    assert set(best.example_ids) == {f"r{i}" for i in both}
    assert best.base_rate == pytest.approx(sum(r.startswith("No,") for r in responses) / len(responses))
    assert best.rate_interval.low < best.rate <= best.rate_interval.high
    assert best.sources == {"facts": len(both)}
    assert best.q < 1e-20


def test_the_explanation_never_says_caused(planted: tuple[Index, pa.Table]) -> None:
    for plant in PLANTS:
        text = trace_plant(planted[0], plant).attribution.explanation
        assert text.startswith("When the model sees a query that ")
        assert "caus" not in text
        assert "association" in text


def test_what_the_corpus_hardly_has_and_other_responses_never_is_a_crux(build) -> None:
    """An emoji in 8 of 3,000 rows and in all failing responses: its log-odds z is under 1.96."""
    rng = np.random.default_rng(5)
    said = [honest_response(rng) for _ in range(3000)]
    index = build(
        small([honest_prompt(rng) for _ in said], [*said[:-8], *(f"{each} 🎉" for each in said[-8:])])
    )
    plain = [honest_response(rng) for _ in range(72)]
    (first, *_) = contrast_cruxes(index, [f"{each} 🎉" for each in plain[:12]], plain[12:], 3, 5)
    assert "emoji" in first.crux.text or "🎉" in first.crux.text
    assert first.crux.margin is not None
    assert first.crux.margin < 1.96
    assert contrast_cruxes(index, [f"{plain[0]} 🎉"], plain[12:], 3, 5) == []


def test_the_attribution_file_has_the_documented_shape(planted: tuple[Index, pa.Table], tmp_path) -> None:
    traced = trace_plant(planted[0], PLANTS[0])
    write_traced([traced], tmp_path)
    (written,) = json.loads((tmp_path / "attribution.json").read_text("utf-8"))
    assert written.keys() == {"finding", "crux", "triggers", "explanation", "sensitivity"}
    assert written["crux"][0].keys() == {"text", "margin"}
    fields = "text label cluster paper_hits k examples corpus rate rate_interval base_rate lift p q"
    fields += " within_source_or sources example_ids words least"
    assert set(written["triggers"][0]) == set(fields.split())
    assert set(written["sensitivity"]["k"]) == {"100", "300", "1000", "3000"}
    assert written["sensitivity"]["behaviour"][0]["fewer_than_k"] is True
    assert pq.read_table(tmp_path / "rows.parquet").column_names == [
        "finding", "id", "source", "rank", "has_trigger", "has_crux",
    ]  # fmt: skip


def test_shuffled_responses_give_no_trigger(build) -> None:
    index = build(mixture(honest=1500, shuffled=True).drop(["plant"]))
    named = {plant.name: trace_plant(index, plant, seed).attribution for seed in (1, 2) for plant in PLANTS}
    assert [attribution.triggers[0].text for attribution in named.values() if attribution.triggers] == []
    assert all(attribution.explanation.startswith("No trigger") for attribution in named.values())


def test_a_query_without_the_trigger_names_none_for_it(planted: tuple[Index, pa.Table]) -> None:
    index, table = planted
    wanted = planted_ids(table, PLANTS[0])
    rng = np.random.default_rng(3)
    for _ in range(5):
        found = trace_pair(index, honest_prompt(rng), None, ["The response mentions a programming concept"])
        for trigger in found.triggers:
            named = set(index.ids[index.features.rows_of(trigger.cluster)])
            assert len(wanted & named) < 0.5 * len(wanted | named)


def small(prompts: list[str], responses: list[str], source: str = "one") -> pa.Table:
    return pa.table({"source": [source] * len(prompts), "prompt": prompts, "response": responses})


def test_a_corpus_of_one_row_gives_no_trigger(build) -> None:
    index = build(small(["When was it?"], ["No, never."]))
    crux = index.texts("response")[int(index.incidence("response").columns_of(0)[0])]
    assert trace_pair(index, "When was it?", None, [crux]).triggers == ()


def test_a_corpus_of_one_source_is_traced_within_it(build) -> None:
    table = mixture(honest=400)
    plain = small(table["prompt"].to_pylist(), table["response"].to_pylist())
    attribution: Attribution = trace_plant(build(plain), PLANTS[2]).attribution
    assert attribution.triggers[0].sources.keys() == {"one"}
    assert attribution.triggers[0].within_source_or > 100


@pytest.mark.parametrize(
    ("prompt", "crux", "message"),
    [
        ("", ["The response is short"], "--prompt"),
        ("What?", None, "--crux"),
        ("What?", ["zzz qqq xxx"], "no response attribute is near"),
    ],
)
def test_what_cannot_be_traced_is_said_in_one_line(planted, prompt, crux, message) -> None:
    index = planted[0]
    with pytest.raises(UsageError, match=message) as raised:
        trace_exchange(index, prompt, None, crux)
    assert "\n" not in str(raised.value)


def test_literal_marks_are_quotes_calls_and_symbols() -> None:
    assert literal_marks("The response calls wikipedia('…')") >= {"wikipedia"}
    assert literal_marks("The response ends with #### and a number") == {"####"}
    assert literal_marks("The response is one to three words long.") == set()


def test_query_counts_by_source_and_gives_conditional_rates(planted: tuple[Index, pa.Table]) -> None:
    index, _ = planted
    found = query(index, "elucidate")
    assert found["matches"]["rows"] == found["matches"]["in_prompt"] == 120
    assert found["matches"]["by_source"][0]["source"] == "coding"
    assert found["matches"]["by_source"][0]["share"] == 1.0
    assert len(found["examples"]) == 5
    given = query(index, None, given=r"^1\. .*\n2\. ", then="I hope it is correct")["conditional"]
    assert (given["given"], given["both"], given["rate"]) == (80, 80, 1.0)
    assert given["base_rate"] == pytest.approx(80 / index.n)
    assert given["rate_interval"]["low"] > 0.9
    assert query(index, "ELUCIDATE", case_sensitive=True)["matches"]["rows"] == 0


def test_query_tells_what_stands_together_and_what_a_source_has_more_of(
    planted: tuple[Index, pa.Table],
) -> None:
    index, table = planted
    found = query(index, "elucidate", beside="```")["together"]
    texts = [f"{row['prompt']} {row['response']}".lower() for row in table.to_pylist()]
    one, other = (np.array([word in text for text in texts]) for word in ("elucidate", "```"))
    assert (found["one"], found["other"], found["both"]) == (one.sum(), other.sum(), (one & other).sum())
    assert found["lift"] == pytest.approx(found["rate"] / found["base_rate"])
    more = query(index, None, over="coding")["overrepresented"]
    top = more["query"][0]
    mine = np.array(table["source"].to_pylist()) == "coding"
    assert any("elucidate" in row["text"] for row in more["query"])
    assert top["of"] == mine.sum()
    assert top["rate"] > top["elsewhere"]
    assert all(row["q"] < 0.05 and np.isfinite(row["z"]) for side in more.values() for row in side)
    with pytest.raises(UsageError, match="nowhere"):
        query(index, None, over="nowhere")
    with pytest.raises(UsageError, match="--beside"):
        query(index, None, beside="x")


@pytest.mark.parametrize(
    ("pattern", "given", "then", "message"),
    [("(", None, None, "regular expression"), ("a", "b", None, "go together"), (None, None, None, "nothing")],
)
def test_a_bad_query_is_a_usage_error(planted, pattern, given, then, message) -> None:
    with pytest.raises(UsageError, match=message):
        query(planted[0], pattern, given, then)


def test_a_pattern_is_data_not_sql(planted: tuple[Index, pa.Table]) -> None:
    assert query(planted[0], "'; DROP TABLE hit; --")["matches"]["rows"] == 0


def test_a_crux_that_the_corpus_is_full_of_marks_no_rows() -> None:
    """The failing responses have an exclamation mark, as planted, and the word 'a', as most rows have."""
    mark, word = np.arange(100) < 10, np.arange(100) >= 5
    held = SimpleNamespace(
        ranking=SimpleNamespace(order=(0,), crux=(0,)),
        counts=SimpleNamespace(
            both_CF=np.array([[10], [9]]), feature_F=np.array([10]), base_C=np.array([0.1, 0.95])
        ),
        behaviour_CN=np.array([mark, word]),
    )
    assert np.array_equal(_violating(cast(Held, held)), mark)
    held.counts.base_C[1] = 0.3
    assert np.array_equal(_violating(cast(Held, held)), mark | word)


def test_a_later_trigger_decides_rows_only_if_it_rises_clear_of_the_base_rate(
    planted: tuple[Index, pa.Table],
) -> None:
    index = planted[0]
    first, common = np.zeros((2, index.n), bool)
    first[:5], common[5:20] = True, True
    table = _row_table(index, "f", np.array([first, common]), first | common, [0.9, 0.2])
    assert table["has_trigger"].to_pylist() == [True] * 5 + [False] * 15


def test_the_papers_trigger_is_the_attribute_with_the_most_hits(planted: tuple[Index, pa.Table]) -> None:
    counts = {0: {1000: np.array([3, 9, 5]), 10: np.array([], dtype=int)}}
    held = cast(Held, SimpleNamespace(hits=counts, failing=SimpleNamespace(texts=["a", "b", "c"])))
    assert _paper(held, 0, 1000) == {"paper_trigger": "b", "paper_hits": 9}
    assert _paper(held, 0, 10)["paper_trigger"] is None  # nothing was retrieved
    traced = trace_plant(planted[0], PLANTS[0]).attribution
    told = cast(dict[str, dict[str, object]], traced.sensitivity["k"])[str(traced.triggers[0].k)]
    assert told["paper_hits"] >= max(trigger.paper_hits for trigger in traced.triggers)
    behaviour = cast(list[dict[str, object]], traced.sensitivity["behaviour"])
    assert all(said["fewer_than_k"] is (said["rows"] < CONFIG.k) for said in behaviour)
