"""What the documents cite is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CITED = re.compile(r"`((?:src|tests|docs|benchmarks|examples)/[\w./-]+\.\w+)(?:::(\w+))?`")


@pytest.mark.parametrize("name", ["paper_index.md", "architecture.md"])
def test_every_cited_file_and_test_exists(name):
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    cited = CITED.findall(text)
    assert len(cited) > 5
    for file, test in cited:
        path = ROOT / file
        assert path.is_file(), file
        if test:
            assert re.search(rf"^(?:async )?def {test}\(", path.read_text(encoding="utf-8"), re.M), (
                f"{file}::{test}"
            )


def test_links_between_documents_lead_somewhere():
    for document in (ROOT / "docs").glob("*.md"):
        for target in re.findall(r"\]\(([\w./-]+\.md)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).is_file(), f"{document.name}: {target}"
