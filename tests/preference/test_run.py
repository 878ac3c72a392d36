"""``undertow prefs`` end to end on the lab's set: tables, resume, refusals."""

from __future__ import annotations

import json
import re

import pyarrow as pa
import pytest

from undertow.cli.app import main
from undertow.data.preferences import load_preferences
from undertow.errors import UsageError
from undertow.lab.pairs import draw_pairs, write_pairs
from undertow.preference.config import AuditConfig, PrefsConfig
from undertow.preference.run import audit_preferences
from undertow.preference.shown import mask_pattern, shows
from undertow.records import Finding
from undertow.store.tables import from_jsonable, read_json, read_table, write_table

CONFIG = PrefsConfig(embedding=False, audit=AuditConfig(null_draws=50))


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    world = draw_pairs("paper", 0, 4000)
    return world, write_pairs(folder, world)


@pytest.fixture(scope="module")
def audited(lab, tmp_path_factory):
    out = tmp_path_factory.mktemp("prefs") / "run"
    return audit_preferences(lab[1], out, CONFIG), out


def test_the_summary_keeps_its_contract(audited):
    summary, out = audited
    assert summary == read_json(out / "summary.json")
    assert summary["status"] == "complete"
    assert summary["counts"]["tried"] == 4000
    first = summary["concepts"][0]
    assert first["name"] == "length"
    assert {"name", "delta", "interval", "d", "q", "n", "n_prompts", "confirmed", "length_explained",
            "identity_explained", "coef", "coef_interval", "coef_length", "coef_length_interval",
            "coef_length_identity", "coef_length_identity_interval"} <= set(first)  # fmt: skip
    assert {"prompt_group", "concept", "direction", "delta", "delta_min", "d", "z", "q", "n", "n_prompts",
            "confirmed", "length_explained", "example_ids"} <= set(summary["hypotheses"][0])  # fmt: skip
    assert summary["null_floor"] > 0
    assert read_table(out / "hypotheses.parquet").num_rows == len(summary["hypotheses"])


def test_global_plants_are_confirmed_and_the_length_decoy_is_marked(audited):
    concepts = {c["name"]: c for c in audited[0]["concepts"]}
    for name in ("bold", "emoji", "table", "word: goblin"):
        assert concepts[name]["confirmed"], name
        assert concepts[name]["delta"] > 0
        assert concepts[name]["length_explained"] is False
    assert concepts["bullet"]["length_explained"] is True
    assert not concepts["quotation"]["confirmed"]


def test_findings_lead_to_rows_that_are_in_the_data(audited, lab):
    summary, out = audited
    findings = [from_jsonable(Finding, row) for row in read_json(out / "findings.json")]
    rows = read_table(out / "rows.parquet")
    assert set(rows["finding"].unique().to_pylist()) == {finding.id for finding in findings}
    assert set(rows["id"].to_pylist()) <= set(lab[0].table["id"].to_pylist())
    praised = next(h for h in summary["hypotheses"] if h["concept"] == "opens with praise" and h["confirmed"])
    finding = next(f for f in findings if f.id == praised["id"])
    assert finding.rate.value > 0.6 > 0.2
    assert finding.exemplars
    texts = read_table(out / "examples.parquet")
    assert set(praised["example_ids"]) <= set(texts["id"].to_pylist())


def test_fix_takes_what_the_audit_found(audited, lab, tmp_path, capsys):
    summary, out = audited
    praise = next(h for h in summary["hypotheses"] if h["concept"] == "opens with praise" and h["confirmed"])
    rewarded = {}
    for how, name, extra in (
        ("shape", "bold", ("--strength", "2")), ("filter", praise["id"], ("--strength", "0.2")),
        ("quarantine", "table", ("--strength", "0.5")),
    ):  # fmt: skip
        fixed = tmp_path / how
        command = [
            "fix",
            str(out),
            "--data",
            str(lab[1]),
            "--how",
            how,
            "--concept",
            name,
            "--out",
            str(fixed),
        ]
        assert main([*command, *extra, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        (effect,) = told["predicted"].values()
        rewarded[how] = effect["before"], effect["after"]
        assert read_table(fixed / "data.parquet").num_rows == told["rows"]["after"]
    assert all(after < before for before, after in rewarded.values())
    before = next(c["delta"] for c in summary["concepts"] if c["name"] == "bold")
    assert rewarded["shape"][0] == pytest.approx(before, abs=0.01)
    removed = set(lab[0].table["id"].to_pylist()) - set(
        read_table(tmp_path / "filter" / "data.parquet")["id"].to_pylist()
    )
    topics = dict(zip(lab[0].table["id"].to_pylist(), lab[0].topics, strict=True))
    assert {topics[i] for i in removed} == {"physics"}
    assert main(["fix", str(out), "--data", str(lab[1]), "--out", str(tmp_path / "none")]) == 2
    assert "--concept" in capsys.readouterr().err


def test_predictions_are_beside_the_audit(audited):
    bold = [p for p in audited[0]["predicted"] if p["target"] == "bold"]
    assert {p["how"] for p in bold} == {"filter", "downweight", "shape", "quarantine"}
    for each in bold:
        assert (each["after"] > each["before"]) == (each["how"] == "shape" and each["strength"] < 0)


def test_the_same_command_returns_what_is_there(audited, lab):
    summary, out = audited
    assert audit_preferences(lab[1], out, CONFIG) == summary
    with pytest.raises(UsageError, match="holds another run"):
        audit_preferences(lab[1], out, PrefsConfig(embedding=False))


def test_bad_rows_are_named_and_counted(tmp_path, capsys):
    rows = draw_pairs("paper", 1, 300).table.to_pylist()
    rows[3]["chosen"] = rows[3]["rejected"]
    rows[5]["chosen"] = "  "
    rows.append({**rows[7], "id": "again"})
    path = tmp_path / "pairs.parquet"
    write_table(pa.Table.from_pylist(rows), path)
    assert main(["prefs", str(path), "--out", str(tmp_path / "run"), "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["counts"] == {"tried": 301, "scored": 298, "failed": 3}
    assert told["failures"] == {
        "both responses are equal": 1, "a response is empty": 1, "the same pair again": 1,
    }  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_wrong_columns_are_one_line(tmp_path, capsys, lab):
    assert main(["prefs", str(lab[1]), "--out", str(tmp_path / "run"), "--identity", "one"]) == 2
    assert "COL,COL" in capsys.readouterr().err
    assert main(["prefs", str(lab[1]), "--out", str(tmp_path / "run"), "--strata", "country"]) == 2
    assert "country" in capsys.readouterr().err


PLAIN = {"prompt": "What is a river?", "chosen": "It flows to the sea.", "rejected": "A river is wet."}
BAD = {
    "both responses are equal": {**PLAIN, "chosen": PLAIN["rejected"]},
    "a response is empty": {**PLAIN, "rejected": " \n"},
    "no prompt": {**PLAIN, "prompt": None},
    "more than two responses": {**PLAIN, "rejected": ["one", "two"]},
}


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """800 good pairs; also with bad rows and a repeated one, and with 400 pairs of one prompt; audits."""
    folder = tmp_path_factory.mktemp("odd")
    good = [{k: row[k] for k in PLAIN} for row in draw_pairs("paper", 2, 800).table.to_pylist()]
    again = [
        {"prompt": "Say it.", "chosen": f"```\\nrun({i})\\n```", "rejected": f"Nothing {i} runs."}
        for i in range(400)
    ]
    sets = {"good": good, "bad": [*good, *BAD.values(), good[7]], "repeated": [*good, *again]}
    paths = {}
    for name, rows in sets.items():
        paths[name] = folder / f"{name}.jsonl"
        paths[name].write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return paths, {name: audit_preferences(path, folder / name, CONFIG) for name, path in paths.items()}


def test_bad_rows_change_no_number_and_are_a_line_each(odd, tmp_path, capsys):
    paths, audits = odd
    for key in ("concepts", "hypotheses", "null_floors", "predicted"):
        assert json.dumps(audits["bad"][key]) == json.dumps(audits["good"][key]), key
    reasons = [*BAD, "the same pair again"]
    assert audits["bad"]["failures"] == dict.fromkeys(reasons, 1)
    assert audits["bad"]["counts"] == {"tried": 805, "scored": 800, "failed": 5}
    assert main(["prefs", str(paths["bad"]), "--out", str(tmp_path / "run"), "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for number, reason in enumerate(reasons, start=801):
        assert [line for line in lines if reason in line] == [f"1 × {reason}, first at line {number}"]


def test_four_hundred_pairs_of_one_prompt_are_one_observation(odd):
    _, audits = odd
    assert audits["repeated"]["data"]["prompts"] == audits["good"]["data"]["prompts"] + 1
    concepts = {c["name"]: c for c in audits["repeated"]["concepts"]}
    code = concepts["code block"]
    assert code["delta"] == pytest.approx(400 / 1200)
    assert (code["n"], code["n_prompts"], code["confirmed"]) == (400, 1, False)
    assert code["interval"][0] < 0 < code["interval"][1]
    assert not [
        h for h in audits["repeated"]["hypotheses"] if h["concept"] == "code block" and h["confirmed"]
    ]


def test_a_confirmed_concept_goes_from_the_audit_into_a_fix(audited, lab, tmp_path, capsys):
    """``fix AUDIT --concept``: by its scores the pairs that a pattern of the planted wording finds too."""
    fixed = ["fix", str(audited[1]), "--data", str(lab[1]), "--json"]
    assert main([*fixed, "--concept", "word: goblin", "--strength", "1", "--out", str(tmp_path / "a")]) == 0
    told = json.loads(capsys.readouterr().out)
    carried = sum(sign > 0 for sign in lab[0].carried["goblin"])
    assert told["rows"]["removed"] == pytest.approx(carried, rel=0.05)
    assert main([*fixed, "--concept", "quotation", "--out", str(tmp_path / "b")]) == 2
    assert "not confirmed by the audit; it confirmed" in capsys.readouterr().err
    pairs = load_preferences(lab[1]).table
    other = pairs["rejected"].take(pa.array(range(len(pairs))[::-1]))
    turned = pairs.set_column(pairs.column_names.index("rejected"), "rejected", other)
    write_table(turned, tmp_path / "other.parquet")
    argv = ["fix", str(audited[1]), "--data", str(tmp_path / "other.parquet"), "--concept", "word: goblin"]
    assert main([*argv, "--out", str(tmp_path / "c")]) == 2
    assert "not the data this audit read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("concept", "shown", "not_shown"),
    [
        ("bold", "This is **so**.", "This is so."),
        ("emoji", "Good 🎉", "Good"),
        ("word: a goblin", "Then A  goblin came.", "Then a goblinoid came."),
        ("opens: what a", "What a day!", "So what a day!"),
        ("offer", "Take it. Would you like more?", "Take it."),
        ("ends with an exclamation", "It is done!", "Done! It is."),
    ],
)
def test_a_concept_is_told_in_texts_and_masked_where_it_stands(concept, shown, not_shown):
    assert shows(concept, [shown, not_shown]).tolist() == [True, False]
    pattern = mask_pattern(concept)
    assert re.search(pattern, shown)
    assert not re.search(pattern, not_shown)
    with pytest.raises(UsageError, match="cannot be told from a text"):
        shows("probe-3", [shown])


def test_a_set_of_one_prompt_or_one_pair_confirms_nothing_and_says_why(tmp_path, capsys):
    rows = [{**PLAIN, "chosen": f"**{i}** flows.", "id": float("nan")} for i in range(60)]
    for name, some in (("one", rows[:1]), ("prompt", rows)):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in some), "utf-8")
        assert main(["prefs", str(path), "--out", str(tmp_path / name), "--no-embedding"]) == 0
        told = capsys.readouterr().out
        assert f"{len(some)} pair{'s' * (len(some) > 1)} on 1 prompt," in told
        assert "fewer than 20 prompts" in told
        assert "0 concepts and 0 hypotheses confirmed" in told
        assert main(["report", str(tmp_path / name)]) == 0
        capsys.readouterr()
