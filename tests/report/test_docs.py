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


def test_every_row_of_the_paper_index_names_code_and_a_test_and_says_what_was_measured():
    rows = [
        line
        for line in (ROOT / "docs/paper_index.md").read_text(encoding="utf-8").splitlines()
        if line[:1] == "|"
    ]
    assert len(rows) > 60
    for row in rows:
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]
        assert len(cells) == 5, row
        assert all(cells), row
        if cells[0] not in ("paper", "post", "---"):
            assert CITED.search(cells[2]), row
            assert CITED.search(cells[3]) or cells[3] in ("untested", "no test of its own"), row


def test_links_between_documents_lead_somewhere():
    for document in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        text = document.read_text(encoding="utf-8")
        for target, anchor in re.findall(r"\]\((?!https?:)([\w./-]+)(?:#([\w-]+))?\)", text):
            there = document.parent / target
            assert there.exists(), f"{document.name}: {target}"
            if anchor:
                heads = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.M)
                assert anchor in {re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads}, (
                    anchor
                )


def test_the_index_leads_to_every_page():
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        name = str(page.relative_to(ROOT / "docs"))
        assert name == "index.md" or f"({name})" in index, name
