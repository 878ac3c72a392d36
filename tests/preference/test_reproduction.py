"""Numbers of an audit, made again from the texts by other code: own patterns, lengths, statsmodels' fits."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import statsmodels.api as sm

from undertow.lab.pairs import draw_pairs
from undertow.preference.config import AuditConfig, PrefsConfig
from undertow.preference.run import audit_preferences

REAL = Path(os.environ.get("UNDERTOW_DATA", "")) / "preferences.parquet"
LINES = {
    "bullet": r"^[ \t]*[-*•+–][ \t]+\S",
    "numbered item": r"^[ \t]*\(?\d{1,3}[.):][ \t]+\S",
    "heading": r"^#{1,6} \S",
    "table": r"^[ \t]*\|.*\|[ \t]*$",
}


def shows(text: str, pattern: str) -> bool:
    """More than 1 % of the lines that are not blank."""
    return len(re.findall(pattern, text, re.MULTILINE)) / max(1, sum(map(bool, text.split("\n")))) > 0.01


def lab_pairs() -> list[dict[str, str]]:
    """The lab's pairs, with writers of whom one is better and likes tables."""
    rng = np.random.default_rng(0)
    rows = draw_pairs("paper", 3, 2400).table.to_pylist()
    for row in rows:
        better = "table" if "| point |" in row["chosen"] and rng.random() < 0.6 else "plain"
        names = [better, ("plain", "other")[int(rng.random() < 0.5)]]
        row["chosen_model"], row["rejected_model"] = names if rng.random() < 0.7 else names[::-1]
    return rows


def real_pairs() -> list[dict[str, str]]:
    if not REAL.is_file():
        pytest.skip("UNDERTOW_DATA names no folder with preferences.parquet")
    table = pq.read_table(REAL, columns=["prompt", "chosen", "rejected", "chosen_model", "rejected_model"])
    rows = table.to_pylist()
    kept = set(list(dict.fromkeys(row["prompt"] for row in rows))[:140])
    sample, seen = [], set()
    for row in rows:
        key = row["prompt"], row["chosen"].strip(), row["rejected"].strip()
        spaced = not re.search("[\u3040-\u9fff]", key[1] + key[2])  # words of others are no matter of spaces
        if row["prompt"] in kept and key[1] and key[2] and key[1] != key[2] and spaced and key not in seen:
            seen.add(key)
            sample.append(row)
    # a writer who never wins has no finite intercept, which statsmodels gives no error for
    counts = [Counter(row[side] for row in sample) for side in ("chosen_model", "rejected_model")]
    return [
        r for r in sample if all(c[r[s]] >= 5 for c in counts for s in ("chosen_model", "rejected_model"))
    ]


@pytest.mark.parametrize("rows", [lab_pairs, real_pairs], ids=["lab", "real"])
def test_statsmodels_reproduces_every_effect_from_the_texts(rows, tmp_path):
    rows = rows()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pairs.parquet")
    config = PrefsConfig(
        identity=("chosen_model", "rejected_model"), embedding=False, audit=AuditConfig(null_draws=20)
    )
    summary = audit_preferences(tmp_path / "pairs.parquet", tmp_path / "run", config)
    assert summary["data"]["pairs"] == len(rows)
    concepts = {c["name"]: c for c in summary["concepts"]}
    prompts = np.unique([row["prompt"] for row in rows], return_inverse=True)[1]
    words = [np.array([len(row[s].split()) for row in rows], float) for s in ("chosen", "rejected")]
    length = np.log1p(words[0]) - np.log1p(words[1])
    length /= np.sqrt(np.mean(length**2))
    writers = sorted({row[s] for row in rows for s in ("chosen_model", "rejected_model")})[1:]
    sides = [
        np.array([[row[s] == w for w in writers] for row in rows], float)
        for s in ("chosen_model", "rejected_model")
    ]
    told = 0
    for name, pattern in LINES.items():
        u = np.array([float(shows(r["chosen"], pattern)) - shows(r["rejected"], pattern) for r in rows])
        if min((u > 0).sum(), (u < 0).sum()) < 5:
            continue
        told += 1
        found = concepts[name]
        assert found["delta"] == pytest.approx(u.mean(), abs=1e-6), name
        assert found["n"] == (u != 0).sum()
        assert found["n_prompts"] == len(set(prompts[u != 0]))
        held = {"coef": [u], "coef_length": [u, length],
                "coef_length_identity": [u, length, sides[0] - sides[1]]}  # fmt: skip
        for key, columns in held.items():
            fit = sm.GLM(np.ones(len(u)), np.column_stack(columns), family=sm.families.Binomial()).fit(
                cov_type="cluster", cov_kwds={"groups": prompts}
            )
            assert found[key] == pytest.approx(fit.params[0], rel=0.01, abs=0.01), (name, key)
            assert found[f"{key}_interval"] == pytest.approx(fit.conf_int()[0], rel=0.02, abs=0.02), (
                name,
                key,
            )
    assert told >= 2
