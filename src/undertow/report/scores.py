"""Score by iteration, from the samples a search kept."""

from __future__ import annotations

from pathlib import Path

from undertow.report.charts import IterationScore

_NEEDED = {"iteration", "score"}


def iteration_scores(samples: Path) -> tuple[IterationScore, ...]:
    """Read mean and best score of each iteration of the search; empty where they are not recorded.

    Samples without a score (failures) and samples of the confirmation (``phase`` other than ``search``) are
    in no mean.
    """
    if not samples.is_file():
        return ()
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    names = set(pq.read_schema(samples).names)
    if not names >= _NEEDED:
        return ()
    kept = pq.read_table(samples, columns=sorted(names & {*_NEEDED, "phase"}))
    if "phase" in names:
        kept = kept.filter(pc.equal(kept["phase"], "search"))
    kept = kept.filter(pc.and_(pc.is_valid(kept["score"]), pc.is_valid(kept["iteration"])))
    grouped = kept.group_by("iteration").aggregate([("score", "mean"), ("score", "max"), ("score", "count")])
    scores, best = [], 0.0
    for row in grouped.sort_by("iteration").to_pylist():
        best = max(best, float(row["score_max"]))
        scores.append(
            IterationScore(int(row["iteration"]), float(row["score_mean"]), best, int(row["score_count"]))
        )
    return tuple(scores)
