"""Does training do what the audit of its pairs said? Audit, train, ask both models, compare.

    python examples/predicted.py OUT [--seeds 1]

The lab's preference set: bold, emoji, tables and goblins rewarded everywhere, praise on physics, links on
sensitive topics, two decoys, one concept that rides on length. Prints what ``undertow prefs check`` prints
for each seed. Resumes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from preference_runs import Arm, ask, fresh, save

from undertow.lab.build import cache_folder
from undertow.lab.pairs import draw_pairs, write_pairs
from undertow.lab.preference_worlds import SENTENCES, plain, worlds_start
from undertow.preference.check import check_prediction
from undertow.preference.config import PrefsConfig
from undertow.preference.run import audit_preferences

PAIRS, PROMPTS, MAX_TOKENS = 2_000, 800, 90


def main() -> None:
    """Run all seeds and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    start = worlds_start(cache_folder())
    for seed in range(args.seeds):
        root = args.out / f"seed-{seed}"
        world = draw_pairs("paper", seed, PAIRS, per_prompt=1, sentences=SENTENCES)
        asked = set(world.table["prompt"].to_pylist())
        prompts = [p for p in fresh(lambda rng: plain(rng)[0], 2 * PROMPTS, "held out") if p not in asked]
        data = root / "pairs.parquet"
        if not data.is_file():
            write_pairs(root, world)
        audit_preferences(data, root / "audit", PrefsConfig(embedding=False))
        before = root / "start.parquet"
        if not before.is_file():
            ask(start, prompts[:PROMPTS], before, MAX_TOKENS)
        arm = Arm(root / "dpo", data, None, start, seed)
        arm.answers(prompts[:PROMPTS], MAX_TOKENS)
        found = check_prediction(
            before, root / "dpo" / "answers.parquet", root / "audit", root / "dpo" / "model"
        )
        save(root / "check.json", found)
        print(f"seed {seed}: margin {found['margin']}, {found['pairs']} answers")
        print(f"  audit       {found['audit']}\n  length only {found['length_only']}", flush=True)
        for each in sorted(found["concepts"], key=lambda c: -abs(c["observed"]))[:12]:
            low, high = each["interval"]
            print(f"  {each['name']:24} predicted {each['predicted']:+.3f} length {each['length_only']:+.3f} "
                  f"observed {each['observed']:+.3f} [{low:+.3f}, {high:+.3f}]", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
