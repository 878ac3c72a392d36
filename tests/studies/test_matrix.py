"""Models × behaviours over real tiny weights and a real server; a cell that failed is a hole, never a 0."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undertow.cli.study_matrix import _render
from undertow.errors import UsageError
from undertow.judging.rubric import Rubric
from undertow.report.build import write_report
from undertow.store.tables import read_table
from undertow.studies.matrix import run_matrix, safe_name
from undertow.surf.config import SurfConfig

TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS / folder) for folder in ("servers", "surf", "models")]

import fault_server  # noqa: E402
from surf_world import WordPool  # noqa: E402

CONFIG = SurfConfig(
    runs=2, iterations=2, candidates=20, confirm_prompts=12, base_prompts=30, max_tokens=24, truncated="judge"
)


def rubric(name: str, pattern: str) -> Rubric:
    return Rubric.model_validate(
        {"name": name, "behaviour": f"Says {name}.", "when_wrong": "Always.", "empty_reply": "judge",
         "checks": [{"is": "regex", "pattern": pattern}]}
    )  # fmt: skip


KITE, NEVER = rubric("kite", "kite"), rubric("never", "zzz")


def cell_of(summary: dict, model: str, rubric: str) -> dict:
    [cell] = [c for c in summary["cells"] if (c["model"], c["rubric"]) == (model, rubric)]
    return cell


def calls(url: str) -> int:
    return asyncio.run(fault_server.stats(url)).get("calls", 0)


def test_the_table_says_what_each_search_found(tmp_path: Path):
    pytest.importorskip("torch")
    from tiny_model import save_tiny_model

    tiny = f"local:{save_tiny_model(tmp_path / 'tiny')}"
    with fault_server.running("--faults", "429,503", "--share", "0.05") as url:
        echo = f"openai-compatible:{url}/v1#echo"
        summary = run_matrix([echo, tiny], [KITE, NEVER], WordPool(), tmp_path / "m", CONFIG)
    assert (summary["status"], summary["missing"], len(summary["cells"])) == ("complete", [], 4)
    echoed = cell_of(summary, echo, "kite")
    assert echoed["top"]["value"] > 0.5
    assert echoed["confirmed"]["attributes"] == ["The query contains 'the kite'"]
    assert echoed["confirmed"]["rate"]["interval"]["low"] > 0.7
    for model in (echo, tiny):
        never = cell_of(summary, model, "never")
        assert (never["top"]["hits"], never["top"]["n"]) == (0, 10)
        assert never["confirmed"] == {"findings": 0, "finding": None, "attributes": [], "rate": None}
    table = {
        (row["model"], row["rubric"]): row for row in read_table(tmp_path / "m/matrix.parquet").to_pylist()
    }
    for cell in summary["cells"]:
        samples = read_table(tmp_path / "m" / cell["run"] / "samples.parquet").to_pylist()
        scores = sorted((row["score"] for row in samples if row["run"] == 0), reverse=True)
        row = table[cell["model"], cell["rubric"]]
        assert row["top_n"] == cell["top"]["n"] == 10
        assert row["top_low"] <= row["top_rate"] <= row["top_high"]
        assert cell["top"]["hits"] >= sum(score > 70 for score in scores[:5])
    assert summary["counts"]["tried"] == 4 * 80 == summary["counts"]["scored"]
    again = run_matrix([echo, tiny], [KITE, NEVER], WordPool(), tmp_path / "m", CONFIG)
    assert again == summary


def test_a_dead_model_is_a_hole_until_a_rerun_fills_it(tmp_path: Path):
    with fault_server.running() as url, fault_server.running() as other:
        first, second = (f"openai-compatible:{u}/v1#m" for u in (url, other))
        port = other.rpartition(":")[2]
    out = tmp_path / "m"
    with fault_server.running("--port", url.rpartition(":")[2]) as url:
        summary = run_matrix([first, second], [KITE], WordPool(), out, CONFIG)
        paid = calls(url)
        assert summary["status"] == "inconclusive"
        [hole] = summary["missing"]
        assert hole["model"] == second
        assert hole["reason"].startswith("connection")
        missing = cell_of(summary, second, "kite")
        assert (missing["top"], missing["confirmed"]) == (None, None)
        assert read_table(out / "matrix.parquet")["top_rate"].to_pylist()[1] is None
        page = write_report(out).read_text()
        assert "Missing: " in page
        assert "1 of 2 cells" in page
        assert ">0%<" not in page
        assert "missing" in [cell for part in _render(summary) if not isinstance(part, str)
                             for cell in map(str, part.columns[2].cells)]  # fmt: skip
        with fault_server.running("--port", port):
            whole = run_matrix([first, second], [KITE], WordPool(), out, CONFIG)
        assert calls(url) == paid
    assert (whole["status"], whole["missing"]) == ("complete", [])
    assert cell_of(whole, first, "kite") == cell_of(summary, first, "kite")
    assert ">Missing: " not in write_report(out).read_text()


def test_a_model_whose_answers_are_all_cut_is_a_hole_with_its_counts(tmp_path: Path):
    cut = CONFIG.model_copy(update={"max_tokens": 1, "truncated": "fail"})
    with fault_server.running() as url:
        summary = run_matrix([f"openai-compatible:{url}/v1#m"], [KITE], WordPool(), tmp_path / "m", cut)
    [cell] = summary["cells"]
    assert summary["status"] == "inconclusive"
    assert cell["top"] is None
    assert cell["counts"] == {"tried": 80, "scored": 0, "failed": 80}
    assert "80 of 80 calls of the search failed" in cell["reason"]


def test_a_cap_holds_for_all_cells_together(tmp_path: Path):
    capped = CONFIG.model_copy(update={"max_calls": 250, "confirm": False})
    enough = CONFIG.model_copy(update={"max_calls": 500, "confirm": False})
    with fault_server.running() as url:
        models = [f"openai-compatible:{url}/v1#{name}" for name in "abcd"]
        summary = run_matrix(models, [KITE], WordPool(), tmp_path / "m", capped)
        assert 200 <= calls(url) <= 250 + 4
        states = [cell["status"] for cell in summary["cells"]]
        assert states[:2] == ["complete"] * 2
        assert states[3] == "missing"
        assert "--max-calls" in summary["missing"][-1]["reason"]
        whole = run_matrix(models, [KITE], WordPool(), tmp_path / "m", enough)
    assert whole["status"] == "complete"


def test_bad_input_is_one_line_and_the_folder_stays_free(tmp_path: Path):
    with fault_server.running() as url:
        good = f"openai-compatible:{url}/v1#m"
        for targets, rubrics, told in (
            (["nonsense"], [KITE, NEVER], "nonsense"),
            ([good, good], [KITE], "given twice"),
            ([good], [KITE, KITE], "given twice"),
            ([good], [], "--rubric"),
            ([good], ["no_such_rubric"], "no_such_rubric"),
        ):
            with pytest.raises(UsageError, match=told) as caught:
                run_matrix(targets, rubrics, WordPool(), tmp_path / "m", CONFIG)
            assert "\n" not in str(caught.value)
        small = CONFIG.model_copy(update={"confirm": False})
        summary = run_matrix([good], [KITE], WordPool(), tmp_path / "m", small)
    assert summary["cells"][0]["confirmed"] is None
    assert json.loads((tmp_path / "m/summary.json").read_text()) == summary


@given(st.lists(st.text(min_size=1, max_size=80), min_size=2, max_size=6, unique=True))
def test_folders_are_plain_names_and_as_many_as_models(names: list[str]):
    folders = [safe_name(name) for name in names]
    assert len(set(folders)) == len(names)
    assert all(folder and not set(folder) & set("/\\:#\0 ") and folder[0] not in ".-" for folder in folders)


def test_a_dry_run_adds_up_the_searches_and_asks_nothing(tmp_path: Path):
    from undertow.studies.matrix import plan_matrix
    from undertow.surf.run import plan_surf

    pool = tmp_path / "pool.jsonl"
    pool.write_text('{"text": "The query is long"}\n')
    with fault_server.running() as url:
        target = f"openai-compatible:{url}/v1#echo"
        one = plan_surf(target, KITE, pool, CONFIG, judge=target)
        both = plan_matrix([target], [KITE, NEVER], pool, CONFIG, judge=target)
        assert calls(url) == 0
    assert both["searches"] == 2
    assert both["calls"] == [2 * n for n in one["calls"]]
    assert [role["role"] for role in both["roles"]] == [role["role"] for role in one["roles"]]


def test_archive_searches_every_cell(tmp_path: Path):
    with fault_server.running() as url:
        config = CONFIG.model_copy(update={"algorithm": "archive"})
        target = f"openai-compatible:{url}/v1#echo"
        summary = run_matrix([target], [KITE, NEVER], WordPool(), tmp_path / "m", config)
    assert summary["status"] == "complete"
    assert (
        cell_of(summary, target, "kite")["top"]["value"] > cell_of(summary, target, "never")["top"]["value"]
    )
