"""A plan before spending: it bounds what a run then asks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from undertow.cli import main
from undertow.models.prices import Price
from undertow.surf.config import SurfConfig
from undertow.surf.estimate import estimate_search
from undertow.surf.roles import Roles

HOSTED = "openai-compatible:http://127.0.0.1:9/v1#m"


def test_the_search_alone_is_the_least_and_every_role_is_planned() -> None:
    config = SurfConfig(runs=2, iterations=3, candidates=10, confirm=False, prices={"": Price(1.0, 2.0)})
    plan = estimate_search(Roles(HOSTED, None, HOSTED, HOSTED), config)
    assert [(each.role, each.calls) for each in plan["roles"]] == [
        (role, (60, 60)) for role in ("target", "generator", "judge")
    ]
    assert plan["calls"] == (180, 180)
    low, high = plan["cost_usd"]
    assert 0 < low < high


def test_an_unknown_price_is_no_price() -> None:
    assert estimate_search(Roles(HOSTED, None, "local", "checks"), SurfConfig())["cost_usd"] is None


@pytest.mark.parametrize("as_json", [True, False])
def test_a_dry_run_asks_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    attributes, out = tmp_path / "a.jsonl", tmp_path / "run"
    attributes.write_text('{"text": "The query is short"}\n')
    argv = ["surf", "--target", HOSTED, "--rubric", "code", "--attributes", str(attributes)]
    argv += ["--out", str(out), "--dry-run", "--price", "1,2", *(["--json"] if as_json else [])]
    assert main(argv) == 0
    printed = capsys.readouterr().out
    assert not out.exists()
    if as_json:
        assert json.loads(printed)["roles"][0]["calls"][0] == 5 * 5 * 120
    else:
        assert "3,000 to" in printed


def test_a_dry_run_names_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["surf", "--target", HOSTED, "--rubric", "code", "--attributes", str(tmp_path / "no.jsonl")]
    assert main([*argv, "--out", str(tmp_path / "run"), "--dry-run"]) == 2
    assert "no such file" in capsys.readouterr().err
