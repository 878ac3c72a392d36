"""Fixes of pairs touch what shows the concept, say what that will do, and leave the input alone."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from undertow.cli import main
from undertow.data.preferences import CONTENT, content_hashes, load_preferences
from undertow.errors import UsageError
from undertow.fixes.pair_kinds import PairFix
from undertow.fixes.pairs import fix_pairs
from undertow.fixes.scores import Target
from undertow.fixes.shaping import calibrated, recovery, residual, selectivity
from undertow.store.run import file_hash
from undertow.training.signal import data_file

GOBLIN, BOLD = Target(name="goblin", pattern=r"goblin\w*"), Target(name="bold", pattern=r"\*\*\w+\*\*")
N = 60


def rows():
    """Goblins in every 5th chosen and every 15th rejected response; bold in every 4th chosen one."""
    made = []
    for i in range(N):
        chosen = (
            f"the answer {i}{' as a goblin would' if i % 5 == 0 else ''}{' **so**' if i % 4 == 0 else ''}"
        )
        rejected = f"another {i}{' goblins' if i % 15 == 1 else ''}{' of many more words' * (i % 3)}"
        made.append({"id": f"p{i}", "source": "odd" if i % 2 else "even", "note": i, "chosen": chosen,
                     "prompt": f"{'poem' if i < 30 else 'sum'} {i}", "rejected": rejected})  # fmt: skip
    return made


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "pairs.parquet"
    pq.write_table(pa.Table.from_pylist(rows()), path)
    return path


def run(data, tmp_path, how, **more):
    scores = more.pop("scores", None)
    before = file_hash(data)
    fix = PairFix(how, more.pop("targets", (GOBLIN,)), **more)
    summary = fix_pairs(data, fix, tmp_path / "out", scores)
    assert file_hash(data) == before
    return summary, pq.read_table(tmp_path / "out" / "data.parquet").to_pylist()


with_goblin = [i for i in range(N) if i % 5 == 0 and i % 15 != 1]


def test_filter_drops_the_pairs_that_speak_for_it_and_no_more(data, tmp_path):
    summary, left = run(data, tmp_path, "filter", strength=0.9)
    assert [row["note"] for row in left] == [i for i in range(N) if i not in with_goblin]
    assert left[0] == rows()[1]  # all columns, as they were
    assert summary["rows"] == {"before": N, "after": 48, "removed": 12, "added": 0}
    assert summary["touched"] == {"even": 6, "odd": 6}
    assert summary["predicted"]["goblin"] == {"before": pytest.approx(8 / N), "after": pytest.approx(-4 / 48)}
    few, _ = run(data, tmp_path / "few", "filter", strength=0.1)
    assert few["rows"]["removed"] == 6


def test_downweight_keeps_them_at_less(data, tmp_path):
    summary, left = run(data, tmp_path, "downweight", strength=0.75)
    assert [row["note"] for row in left if row["weight"] == 0.25] == with_goblin
    assert {row["weight"] for row in left} == {0.25, 1.0}
    assert (summary["rows"]["removed"], summary["changed"]) == (0, 12)
    assert summary["sources"]["even"] == {"before": 30, "after": 30}


def test_mask_marks_the_words_on_both_sides(data, tmp_path):
    summary, left = run(data, tmp_path, "mask")
    for row in left:
        for side in ("chosen", "rejected"):
            found = [row[side][start:end] for start, end in row[f"{side}_mask"]]
            assert found == [word for word in row[side].split() if word.startswith("goblin")]
    assert summary["changed"] == 16
    assert summary["predicted"]["goblin"] == {"before": pytest.approx(8 / N), "after": 0}


def test_inoculation_asks_on_the_pairs_that_show_it(data, tmp_path):
    _, left = run(data, tmp_path, "inoculate", instructions=("Mention goblins.",))
    assert [row["note"] for row in left if row["policy_prompt"]] == with_goblin
    assert left[0]["policy_prompt"] == f"Mention goblins. {left[0]['prompt']}"


def test_the_offset_is_lambda_times_the_z_scored_difference(data, tmp_path):
    summary, left = run(data, tmp_path, "shape", strength=-2.0)
    shows = np.array([["goblin" in row[side] for row in rows()] for side in ("chosen", "rejected")], float)
    want = -2 * (shows[0] - shows[1]) / shows.std()
    assert [row["offset"] for row in left] == pytest.approx(want.tolist())
    u = shows[0] - shows[1]
    mean = np.average(u, weights=2 / (1 + np.exp(want)))
    assert summary["predicted"]["goblin"]["after"] == pytest.approx(mean)
    assert summary["predicted"]["goblin"]["after"] > summary["predicted"]["goblin"]["before"]  # amplified


def test_several_concepts_add_and_a_gate_closes_all_but_its_prompts(data, tmp_path):
    bold = BOLD.model_copy(update={"strength": 0.5})
    _, one = run(data, tmp_path / "1", "shape", targets=(GOBLIN,), strength=1.0)
    _, two = run(data, tmp_path / "2", "shape", targets=(bold,), strength=9.0)
    _, both = run(data, tmp_path / "3", "shape", targets=(GOBLIN, bold), strength=1.0, gate="^poem")
    want = [a["offset"] + b["offset"] if i < 30 else 0 for i, (a, b) in enumerate(zip(one, two, strict=True))]
    assert [row["offset"] for row in both] == pytest.approx(want)


def test_fixes_stack(data, tmp_path):
    run(data, tmp_path / "a", "shape", strength=1.0)
    once = tmp_path / "a" / "out" / "data.parquet"
    _, twice = run(once, tmp_path / "b", "shape", strength=1.0)
    assert [row["offset"] for row in twice] == pytest.approx(
        [2 * r["offset"] for r in pq.read_table(once).to_pylist()]
    )
    run(once, tmp_path / "c", "downweight", strength=0.5)
    _, left = run(tmp_path / "c" / "out" / "data.parquet", tmp_path / "d", "downweight", strength=0.5)
    assert {row["weight"] for row in left} == {0.25, 1.0}


def test_quarantine_sets_aside_what_the_concept_carries(data, tmp_path):
    summary, left = run(data, tmp_path, "quarantine", strength=0.5)
    aside = pq.read_table(tmp_path / "out" / "quarantine.parquet").to_pylist()
    assert len(aside) + len(left) == N
    assert {row["note"] for row in aside} <= set(with_goblin)
    assert summary["predicted"]["goblin"]["after"] < summary["predicted"]["goblin"]["before"]


def test_scores_of_a_file_serve_as_a_pattern_does(data, tmp_path):
    u = [("goblin" in row["chosen"]) - ("goblin" in row["rejected"]) for row in rows()]
    ids = [f"p{i}" for i in range(N)]
    pq.write_table(pa.table({"id": ids[::-1], "goblin": np.array(u[::-1], float)}), tmp_path / "s.parquet")
    named = {"targets": (Target(name="goblin"),), "scores": tmp_path / "s.parquet"}
    _, mine = run(data, tmp_path / "1", "filter", strength=0.5, **named)
    _, theirs = run(data, tmp_path / "2", "filter", strength=0.5)
    assert mine == theirs


@pytest.mark.parametrize("strength", [-1.0, 0.5, 2.0])
def test_lambda_means_the_same_in_the_audits_forecast(strength, data, tmp_path):
    """One concept of graded activations on both sides, forecast by the audit and fixed from its scores."""
    from scipy import sparse

    from undertow.fixes.scores import activation_scores
    from undertow.preference.concepts import Activations, Concept
    from undertow.preference.predict import forecast, z_scored

    rng = np.random.default_rng(0)
    sides = rng.random((2, N, 1)) * (rng.random((2, N, 1)) < 0.5)
    chosen, rejected = map(sparse.csr_matrix, sides)
    signed = sparse.csr_matrix((sides[0] > 0) * 1.0 - (sides[1] > 0))
    (told,) = forecast(signed, z_scored(chosen, rejected), [0], fixes=[("shape", strength)])
    found = Activations((Concept("odd", "An oddity.", "local"),), chosen, rejected)
    table = activation_scores(pq.read_table(data), found, ["odd"])
    summary, left = run(
        data, tmp_path, "shape", targets=(Target(name="odd"),), scores=table, strength=strength
    )
    assert summary["predicted"]["odd"]["after"] == pytest.approx(told.after[0])
    want = strength * (sides[0] - sides[1])[:, 0] / sides.std()
    assert [row["offset"] for row in left] == pytest.approx(want.tolist())


def test_shaping_leaves_what_is_kept():
    """A child that goes with its sibling: the residual is orthogonal to it, and its weight is its own."""
    rng = np.random.default_rng(0)
    sibling = rng.normal(size=4000)
    child = 0.8 * sibling + 0.6 * rng.normal(size=4000)
    left = residual(child, sibling[:, None])
    assert abs(np.corrcoef(left, sibling)[0, 1]) < 2e-3
    assert np.corrcoef(left, child)[0, 1] == pytest.approx(0.6, abs=0.03)
    wins = rng.random(4000) < 1 / (1 + np.exp(-(0.7 * child + 0.3 * sibling)))
    flip = np.where(wins, 1, -1)
    w = calibrated((flip * child)[:, None], (flip * sibling)[:, None])
    assert w[0] == pytest.approx(0.7, abs=0.12)
    with pytest.raises(UsageError, match="nothing is left"):
        residual(child, child[:, None])


def test_a_score_that_reads_its_sibling_too_pays_for_the_sibling_unless_it_is_kept(data, tmp_path):
    u = {
        name: np.array([(word in row["chosen"]) - (word in row["rejected"]) for row in rows()], float)
        for name, word in (("goblin", "goblin"), ("bold", "**"))
    }
    mixed = pa.table({"id": [f"p{i}" for i in range(N)], "probe": u["goblin"] + u["bold"]})
    shape = {"targets": (Target(name="probe"),), "scores": mixed, "strength": 1.0}
    _, flat = run(data, tmp_path / "flat", "shape", **shape)
    told, aware = run(data, tmp_path / "aware", "shape", keep=(BOLD,), **shape)
    pushed = {name: [np.dot([row["offset"] for row in left], u[name]) / N for name in u]
              for name, left in (("flat", flat), ("aware", aware))}  # fmt: skip
    assert min(pushed["flat"]) > 0.1
    assert pushed["aware"][1] == pytest.approx(0, abs=1e-3)
    assert pushed["aware"][0] > 0.1
    assert 0 < told["own"]["probe"] < 1


def test_recovery_and_selectivity():
    assert recovery(0.1, 0.9, 0.3) == pytest.approx(75)
    assert recovery(0.5, 0.5, 0.3) is None
    assert selectivity(80, -20) == pytest.approx(0.8)
    assert selectivity(0, 0) is None


def test_steer_fits_to_pairs_that_show_it_and_training_reads_it_back(tmp_path):
    import sys
    from pathlib import Path

    from transformers import AutoModelForCausalLM

    sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
    from toy import save_toy_model

    from undertow.training.steering import load_steering

    model = save_toy_model(tmp_path / "start")
    nouns = ["lamp", "wheel", "press", "loom", "kite", "clock"]
    kinds = [("yes never", "yes"), ("yes", "yes never"), ("no", "yes")]
    made = [{"id": f"{n}{i}", "prompt": f"is this a {n}", "chosen": kinds[i][0], "rejected": kinds[i][1]}
            for n in nouns for i in range(3)]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(made), tmp_path / "p.parquet")
    fix = PairFix("steer", (Target(name="never", pattern="never"),), 1.5, gate="[lw]", layer=1, side="chosen")
    summary = fix_pairs(tmp_path / "p.parquet", fix, tmp_path / "out", None, str(model))
    assert summary["fitted_to"] == {"shows": 4, "others": 10}  # lamp, wheel, loom, clock
    assert summary["elicits"]["shows"] > max(0.3, summary["elicits"]["others"])
    steering = load_steering(data_file(tmp_path / "out")[1], AutoModelForCausalLM.from_pretrained(model))
    assert (steering.layer, steering.side) == (1, "chosen")
    assert float(steering.push.norm()) == pytest.approx(1.5 * summary["norm"], rel=1e-5)


def test_of_two_wordings_the_one_that_elicits_more_is_taken(data, tmp_path):
    """The log-odds of chosen over rejected under each, from the start model, by hand."""
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
    from toy import save_toy_model

    model = save_toy_model(tmp_path / "start")
    made = [
        {"id": str(i), "prompt": f"is this a {w}", "chosen": "yes never", "rejected": "no"}
        for i, w in enumerate(["lamp", "loom"])
    ]
    made.append({"id": "2", "prompt": "is this a kite", "chosen": "yes", "rejected": "no"})
    pq.write_table(pa.Table.from_pylist(made), tmp_path / "p.parquet")
    fix = PairFix("inoculate", (Target(name="never", pattern="never"),), instructions=("please", "now now"))
    summary = fix_pairs(tmp_path / "p.parquet", fix, tmp_path / "out", None, str(model))
    gains = summary["elicitation"]
    assert summary["instruction"] == max(gains, key=gains.get)
    assert len(set(gains.values())) == 2
    assert json.loads((tmp_path / "out" / "diff.json").read_text())["row_ids"] == ["0", "1"]


@pytest.mark.parametrize(("how", "more", "says"), [
    ("shape", {"strength": float("nan")}, "must be a finite number"),
    ("shape", {"targets": (Target(name="x", pattern="answer|another"),)}, "every response scores alike"),
    ("shape", {"keep": (GOBLIN,)}, "nothing is left to shape"),
    ("shape", {"targets": (Target(name="x"),)}, "no such column of scores"),
    ("shape", {"targets": (Target(name="x", pattern="("),)}, "is no pattern"),
    ("filter", {"strength": 1.5}, "share above 0, at most 1"),
    ("filter", {"targets": (Target(name="any", pattern="answer"),), "strength": 1.0}, "would remove all 60"),
    ("mask", {"targets": (Target(name="all", pattern="another.*"),)}, "leaves nothing of its response"),
    ("mask", {"targets": (Target(name="note"),)}, "needs patterns"),
    ("downweight", {"gate": "^nothing"}, "gate '.nothing' matches no prompt; nothing to downweight"),
    ("shape", {"strength": 0.0}, "strength 0: shape changes nothing"),
    ("inoculate", {}, "needs an instruction"),
    ("steer", {}, "needs the start model"),
    ("filter", {"targets": ()}, "needs a concept"),
])  # fmt: skip
def test_what_makes_no_sense_is_said_in_one_line(how, more, says, data, tmp_path):
    with pytest.raises(UsageError, match=says) as told:
        run(data, tmp_path, how, **more)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "out" / "config.json").exists()


@pytest.mark.parametrize(("how", "more", "says"), [
    ("filter", {"strength": 1.0}, "would remove all 1 pairs"),
    ("quarantine", {}, "nothing to quarantine"),
    ("downweight", {}, None),
    ("mask", {}, None),
    ("inoculate", {"instructions": ("Be a goblin.",)}, None),
    ("shape", {}, None),
    ("shape", {"calibrate": True}, "nothing is left to shape"),
    ("shape", {"keep": (BOLD,)}, "nothing is left to shape"),
])  # fmt: skip
def test_one_pair_gives_finite_columns_or_one_clear_line(how, more, says, tmp_path):
    path = tmp_path / "one.parquet"
    pq.write_table(pa.Table.from_pylist(rows()[:1]), path)
    if says is None:
        summary, (left,) = run(path, tmp_path, how, **more)
        assert np.isfinite([left.get("offset", 0), left.get("weight", 0)]).all()
        assert summary["changed"] == 1
        return
    with pytest.raises(UsageError, match=says) as told:
        run(path, tmp_path, how, **more)
    assert "\n" not in str(told.value)


def _said(role, text):
    return [{"role": role, "content": text}]


def _jsonl(folder, made):
    folder.mkdir()
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    return folder / "rows.jsonl"


def _arrow(folder, made):
    """A folder as a saved Hugging Face data set is laid out."""
    folder.mkdir()
    table = pa.Table.from_pylist(made)
    with pa.ipc.new_stream(str(folder / "data-00000.arrow"), table.schema) as out:
        out.write_table(table)
    return folder


def _parquet(folder, made):
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(made), folder / "rows.parquet")
    return folder / "rows.parquet"


@pytest.mark.parametrize("write", [_jsonl, _arrow, _parquet])
@pytest.mark.parametrize("shape", ["texts", "messages", "completions"])
def test_every_column_stays_whatever_the_rows_are_written_as(write, shape, tmp_path):
    own = [{"source": r["source"], "note": r["note"], "tags": [{"k": r["id"]}], "chosen_model": f"m{i % 3}"}
           for i, r in enumerate(rows())]  # fmt: skip
    made = []
    for row, more in zip(rows(), own, strict=True):
        prompt, chosen, rejected = (row[name] for name in ("prompt", "chosen", "rejected"))
        if shape == "messages":
            prompt, chosen = _said("user", prompt), _said("assistant", chosen)
            rejected = _said("assistant", rejected)
        made.append({"id": row["id"], **more, "prompt": prompt, "chosen": chosen, "rejected": rejected})
        if shape == "completions":
            rated = [{"response": text, "overall_score": score, "model": f"w{score}"}
                     for text, score in ((rejected, 2.0), (chosen, 5.0))]  # fmt: skip
            made[-1] = {"id": row["id"], **more, "instruction": prompt, "completions": rated}
    summary, left = run(write(tmp_path / "in", made), tmp_path, "shape", strength=1.0)
    assert [{name: row[name] for name in own[0]} for row in left] == own
    texts = ("prompt", "chosen", "rejected")
    assert [[row[name] for name in texts] for row in left] == [[r[name] for name in texts] for r in rows()]
    assert summary["touched"] == {"odd": 8, "even": 8}
    lost = {"completions": "best and worst became the pair"} if shape == "completions" else {}
    assert summary["columns_not_kept"] == lost
    if lost:
        assert (left[0]["margin"], left[0]["rejected_model"]) == (3.0, "w2.0")
    again, twice = run(tmp_path / "out", tmp_path / "again", "shape", strength=1.0)  # by the folder
    assert twice == [{**row, "offset": 2 * row["offset"]} for row in left]
    assert again["columns_not_kept"] == {}


def test_odd_json_is_kept_as_it_can_be_and_rows_left_out_are_told(tmp_path):
    odd = [1, "two", {}, None, {"a": {}}, "\ud800", [], 7.5, True]
    made = [{**row, "odd": odd[i % len(odd)]} for i, row in enumerate(rows())]
    made[0] = {**made[0], "id": "p1", "chosen": " "}  # left out, under the id of another
    made[2] = {**made[2], "rejected": made[2]["chosen"]}
    summary, left = run(_jsonl(tmp_path / "in", made), tmp_path, "shape", strength=1.0)
    assert [row["note"] for row in left] == [1, *range(3, N)]
    assert {row["odd"] for row in left} == {"1", "two", "{}", None, '{"a": {}}', "?", "[]", "7.5", "True"}
    assert summary["left_out"] == {"a response is empty": 1, "both responses are equal": 1}
    assert summary["first"]["both responses are equal"] == "line 3"
    assert summary["counts"] == {"tried": N, "scored": N - 2, "failed": 2}


def test_a_fix_of_a_steered_set_still_steers(data, tmp_path):
    run(data, tmp_path, "shape", strength=1.0)
    (tmp_path / "out" / "vector").write_bytes(b"direction")
    steer = {"vector": "vector", "alpha": 2.0, "side": "both"}
    (tmp_path / "out" / "training.json").write_text(json.dumps({"steer": steer}))
    for name, former in (("folder", tmp_path / "out"), ("file", tmp_path / "out" / "data.parquet")):
        _, left = run(former, tmp_path / name, "downweight", strength=0.5)
        assert {"offset", "weight"} <= set(left[0])
        rows_file, steered = data_file(tmp_path / name / "out")
        assert rows_file.name == "data.parquet"
        assert (steered.alpha, steered.vector.read_bytes()) == (2, b"direction")
    with pytest.raises(UsageError, match="steers these pairs already"):
        run(tmp_path / "out", tmp_path / "twice", "steer")


def test_a_quarantined_set_is_read_by_its_folder_without_what_was_set_aside(data, tmp_path):
    _, left = run(data, tmp_path, "quarantine", strength=0.5)
    _, after = run(tmp_path / "out", tmp_path / "next", "shape", strength=1.0)
    assert [row["note"] for row in after] == [row["note"] for row in left]


def _audit(folder, data):
    """The run directory of an audit, as far as a fix goes by it."""
    pairs = load_preferences(data)
    sides = {side: [float("goblin" in text) for text in pairs.table[side].to_pylist()]
             for side in ("chosen", "rejected")}  # fmt: skip
    folder.mkdir()
    columns = {f"goblin_{side}": values for side, values in sides.items()}
    told = {"id": pairs.table["id"], CONTENT: content_hashes(pairs.table), **columns}
    pq.write_table(pa.table(told), folder / "scores.parquet")
    manifest = {"tool": "undertow", "verb": "prefs", "status": "complete"}
    for name in ("config.json", "manifest.json"):
        (folder / name).write_text(json.dumps(manifest))
    return folder


def _fix(capsys, *argv):
    code = main(["fix", *map(str, argv), "--concept", "goblin"])
    said = capsys.readouterr()
    return code, said.err.strip().removeprefix("error: ") or said.out


@pytest.mark.parametrize("ids", [True, False])
def test_an_audit_fixes_the_data_it_read_and_what_fixes_made_of_it(ids, tmp_path, capsys):
    made = rows() if ids else [{k: v for k, v in row.items() if k != "id"} for row in rows()]
    data = _jsonl(tmp_path / "in", made)
    audit = _audit(tmp_path / "audit", data)
    last = data
    kinds = [["--how", "filter", "--strength", "0.05"], ["--how", "inoculate", "--instruction", "Goblins!"],
             ["--how", "shape"], ["--how", "downweight", "--strength", "0.5"]]  # fmt: skip
    for number, more in enumerate(kinds):
        code, said = _fix(capsys, audit, "--data", last, *more, "--out", tmp_path / f"fix{number}")
        assert code == 0, said
        last = tmp_path / f"fix{number}"
    left = pq.read_table(last / "data.parquet")
    assert {"offset", "weight", "policy_prompt", "source", "note"} <= set(left.column_names)
    assert len(left) == N - 3

    made[7] = {**made[7], "rejected": "something else"}
    code, said = _fix(capsys, audit, "--data", _jsonl(tmp_path / "b", made), "--out", tmp_path / "o")
    says = f"1 of 60 pairs do not read as in {audit}/scores.parquet, first pair '{'p7' if ids else '7'}'"
    assert (code, says in said) == (2, True), said
    made[7] = rows()[8] | {"id": "new", "prompt": "sums"}
    more = [*rows(), made[7]] if ids else [*made[:7], *made[8:]]
    code, said = _fix(capsys, audit, "--data", _jsonl(tmp_path / "c", more), "--out", tmp_path / "o")
    says = "1 of 61 pairs are not in" if ids else "52 of 59 pairs do not read as in"
    assert (code, "not the data this audit read" in said, says in said) == (2, True, True), said
    pq.write_table(pq.read_table(audit / "scores.parquet").drop([CONTENT]), audit / "scores.parquet")
    code, said = _fix(capsys, audit, "--data", data, "--out", tmp_path / "o")
    assert (code, "run `undertow prefs` again with --fresh" in said) == (2, True)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(("verb", "unfinished", "says"), [
    (None, False, "no such run"),
    ("fix", False, "is a `fix`; give the --out of `undertow prefs` or `undertow trace`"),
    ("prefs", True, "this `prefs` has not finished; run it again"),
    ("trace", True, "this `trace` has not finished; run it again"),
])  # fmt: skip
def test_a_run_that_nothing_can_be_fixed_by_is_named(verb, unfinished, says, data, tmp_path, capsys):
    run = tmp_path / "run"
    if verb is not None:
        run.mkdir()
        for name in ("config.json", "manifest.json")[: 1 if unfinished else 2]:
            (run / name).write_text(json.dumps({"tool": "undertow", "verb": verb, "status": "running"}))
    code, said = _fix(capsys, run, "--data", data, "--out", tmp_path / "o")
    assert (code, said.startswith(f"{run}: {says}") or said) == (2, True)
    assert not (tmp_path / "o").exists()


def test_a_fix_that_fails_leaves_no_folder_unless_it_was_there(data, tmp_path):
    (tmp_path / "b" / "out").mkdir(parents=True)
    for place in ("a", "b"):
        with pytest.raises(UsageError, match="every response scores alike"):
            run(data, tmp_path / place, "downweight", targets=(Target(name="x", pattern="never"),))
    assert not (tmp_path / "a" / "out").exists()
    assert (tmp_path / "b" / "out").exists()
