"""Does a trace name what was planted? `python benchmarks/attribution.py [--data PARQUET] [--out FOLDER]`.

160 plants in sixteen copies of a real mixture, and 72 in eight worlds of the lab: a trigger (lexical,
structural or topical; 0.03 to 10 % of the rows; in one source or across) is tied to a behaviour, and the
trace of failing prompts that are not in the corpus should name it. The rules of the trace were made with most
of them in sight, so every table is printed for the others apart. A named trigger is right when its rows
overlap those of the planted one by half (Jaccard), or its text is the planted phrase or names words of the
planted topic and no others. Beside ours: the
paper's score, the candidate statistics alone and with our selection, keyword log-odds, and the nearest
prompts by embedding. Then the same with shuffled responses, where nothing should be named.

Indexes stay in ``--out``; a second run only traces.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from planting.corpora import Case, Corpus, lab_world, planted_copy
from planting.methods import NAMES, Answer, Neighbours, cases, jaccard
from planting.plants import COPIES

import undertow.models.embed as embedding
from undertow.index.build import build_index
from undertow.index.open import Index
from undertow.stats.intervals import rate

BANDS = ((0, 0.0006, "0.03 %"), (0.0006, 0.002, "0.1 %"), (0.002, 0.006, "0.3 %"), (0.006, 0.02, "1 %"))
BANDS += ((0.02, 0.06, "3 %"), (0.06, 1.0, "10 %"))
SAME = 0.5
"""Jaccard overlap of rows from which a named trigger is the planted one."""
SEEN = frozenset({*(f"copy{i}" for i in range(14)), *(f"lab{i}" for i in range(37))})
"""Corpora that the rules of the trace were made with, or that were looked at meanwhile."""
WORLDS = [*range(37, 45)]
"""Worlds of the lab."""
LEAST = 0.0006
"""Prevalence from which the goals hold: the bands of 0.1 % and more."""


class Remembering:
    """An embedder that keeps what it has embedded: the copies of a mixture share most attributes.

    Query attributes get a constant: a trace over an index of the local extractor never reads their vectors.
    """

    def __init__(self, inner) -> None:
        self.inner, self.name, self.dim = inner, inner.name, inner.dim
        self.known: dict[str, np.ndarray] = {}

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        new = list(dict.fromkeys(text for text in texts if text not in self.known))
        told = [text for text in new if not text.startswith("The query ")]
        if told:
            self.known.update(zip(told, self.inner.embed(told), strict=True))
        unit = np.eye(1, self.dim, dtype=np.float32)[0]
        return np.stack([self.known.get(text, unit) for text in texts])


def built(corpus: Corpus, out: Path) -> Index:
    """Index a corpus, unless that is done."""
    out.mkdir(parents=True, exist_ok=True)
    data = out / f"{corpus.name}.parquet"
    if not data.exists() or pq.read_table(data) != corpus.table:
        pq.write_table(corpus.table, data)
    started = time.monotonic()
    build_index(data, out / corpus.name)
    print(
        f"{corpus.name}: {len(corpus.table):,} rows indexed, {time.monotonic() - started:.0f} s", flush=True
    )
    return Index.open(out / corpus.name)


def scored(corpus: Corpus, index: Index, neighbours: Neighbours | None, queries: Sequence[int]) -> list[dict]:
    """One record a case, number of failing queries and method."""
    ids, records = np.array(corpus.table["id"].to_pylist()), []
    for case, q, answers in cases(corpus, index, neighbours, queries):
        trigger, planted = np.isin(ids, list(case.trigger_ids)), np.isin(ids, list(case.planted_ids))
        about = {"corpus": corpus.name, "case": case.name, "kind": case.kind, "behaviour": case.behaviour}
        about |= {"queries": q, "prevalence": float(trigger.mean()), "rows": int(trigger.sum())}
        for method, answer in (answers or {"ours": Answer()}).items():
            records.append({**about, "method": method, **_judged(answer, case, trigger, planted)})
    return records


def _judged(answer: Answer, case: Case, trigger: np.ndarray, planted: np.ndarray) -> dict:
    """Hold an answer against what was planted."""
    overlaps = [jaccard(mask, trigger) for mask in answer.masks]
    right = [
        overlap >= SAME or _says(text, case) for overlap, text in zip(overlaps, answer.texts, strict=True)
    ]
    rows = answer.rows if answer.rows is not None else np.zeros(len(planted))
    hit = float(rows[planted].sum())
    return {
        "top1": any(right[:1]),
        "top3": any(right),
        "recall": hit / max(int(planted.sum()), 1),
        "precision": hit / float(rows.sum()) if rows.sum() else None,
        "named": answer.named,
        "texts": answer.texts,
        "overlap": [round(overlap, 3) for overlap in overlaps],
    }


def _says(text: str, case: Case) -> bool:
    """Whether a trigger's text is the planted phrase, or names words of the planted topic and no others."""
    if case.phrase is not None and (text == case.phrase or text.casefold().endswith(f"'{case.phrase}'")):
        return True
    shown = set(re.findall(r"'([^']+)'", text)) if text.endswith("or the like") else set()
    return len(shown) > 2 and shown <= case.words


def share(records: list[dict], what: str) -> str:
    """A rate with its interval."""
    measured = rate(sum(each[what] for each in records), len(records))
    if measured.value is None:
        return "–"
    low, high = measured.interval.low, measured.interval.high
    return f"{measured.value:4.0%} [{low:.0%}, {high:.0%}] ({sum(e[what] for e in records)}/{len(records)})"


def table(records: list[dict], queries: int) -> None:
    """Print every method's accuracy, and ours by band and kind."""
    by_method = defaultdict(list)
    for each in records:
        if each["queries"] == queries:
            by_method[each["method"]].append(each)
    print(f"\n{queries} failing quer{'y' if queries == 1 else 'ies'}; plants of 0.1 % and more")
    for method, every in by_method.items():
        often = [each for each in every if each["prevalence"] >= LEAST]
        recall = np.mean([each["recall"] for each in often])
        said = f"top 1 {share(often, 'top1'):28} top 3 {share(often, 'top3'):28} recall {recall:.2f}"
        print(f"  {method:36} {said}")
    mine = by_method["ours"]
    for low, high, name in BANDS:
        some = [each for each in mine if low <= each["prevalence"] < high]
        print(f"  ours at {name:28} top 1 {share(some, 'top1'):28} top 3 {share(some, 'top3')}")
    for kind in ("lexical", "structural", "topical"):
        some = [each for each in mine if each["kind"] == kind]
        print(f"  ours, {kind:30} top 1 {share(some, 'top1'):28} top 3 {share(some, 'top3')}")
    for each in mine:
        if not each["top1"]:
            found = list(zip(each["texts"], each["overlap"], strict=True))
            print(f"    missed {each['corpus']} {each['case']} ({each['rows']:,} rows): {found}")


def halves(name: str, records: list[dict], controls: list[dict], queries: Sequence[int]) -> None:
    """Print the tables of the corpora that were in sight when the rules were made, and of the others."""
    for fresh in (False, True):
        some, null = ([r for r in each if is_fresh(r) == fresh] for each in (records, controls))
        if not some:
            continue
        print(f"\n== {name}: {'fresh' if fresh else 'seen while the rules were made'}")
        for q in queries:
            table(some, q)
        if null:
            print(f"  shuffled control: names a trigger in {share(null, 'named')}")
            for each in null:
                if each["named"]:
                    print(f"    {each['corpus']} {each['case']} {each['queries']}: {each['texts'][:1]}")


def is_fresh(record: dict) -> bool:
    """Say whether a record is of a corpus that no rule was made with."""
    return record["corpus"].removesuffix("-shuffled") not in SEEN


def run(name: str, corpora: Iterable[Corpus], args: argparse.Namespace, out: Path) -> dict:
    """Trace all cases of some corpora, planted and shuffled."""
    records, controls = [], []
    for corpus in corpora:
        index = built(corpus, out)
        started = time.monotonic()
        neighbours = None if args.ours else Neighbours(corpus, embedding.open_embedder("minilm"))
        records += scored(corpus, index, neighbours, args.queries)
        print(f"{corpus.name}: traced, {time.monotonic() - started:.0f} s", flush=True)
        if not args.no_control:
            null = corpus.shuffled()
            controls += scored(null, built(null, out), None, args.queries)
    halves(name, records, controls, args.queries)
    return {"cases": records, "control": controls}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, help="mixture with id, source, prompt, response; without: the lab alone"
    )
    parser.add_argument("--out", type=Path, help="where indexes and results stay; without: nowhere")
    parser.add_argument(
        "--copies",
        type=int,
        nargs="*",
        default=[*range(16)],
        help="copies of the mixture, ten plants each",
    )
    parser.add_argument(
        "--worlds", type=int, nargs="*", default=WORLDS, help="worlds of the lab, nine plants each"
    )
    parser.add_argument(
        "--queries", type=int, nargs="*", default=[1, 12], help="failing queries of a case, at most 12"
    )
    parser.add_argument("--ours", action="store_true", help="leave the other methods out")
    parser.add_argument("--no-control", action="store_true", help="leave the shuffled control out")
    args = parser.parse_args()
    started = time.monotonic()
    remembering = Remembering(embedding.open_embedder("minilm"))
    embedding.open_embedder = lambda spec="minilm": remembering
    with tempfile.TemporaryDirectory() as temporary:
        out, results = args.out or Path(temporary), {}
        if args.data and args.copies:
            mixture = pq.read_table(args.data)
            copies = (planted_copy(mixture, COPIES[seed], seed) for seed in args.copies)
            results["mixture"] = run("the mixture", copies, args, out)
        if args.worlds:
            results["lab"] = run("the lab", map(lab_world, args.worlds), args, out)
        if args.out:
            (out / "attribution.json").write_text(json.dumps(results, ensure_ascii=False, indent=1), "utf-8")
    print(f"\n{time.monotonic() - started:.0f} s; statistics compared: {', '.join(NAMES)}")


if __name__ == "__main__":
    main()
