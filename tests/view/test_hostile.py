"""Untrusted text in every place of every page of the viewer: no element, attribute or address is new."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from html import unescape
from pathlib import Path
from urllib.parse import urlsplit

from starlette.testclient import TestClient

from undertow.text import whole_text
from undertow.view.server import build_viewer

KINDS = {"/", "/run", "/findings", "/finding", "/rows", "/row", "/samples", "/sample", "/compare"}
FOLDERS = (
    '<img src=x onerror=alert("1")>',
    "a' onmouseover='b",
    "\u202egnp\x1b[31m",
    "=1+1 & b=c#d?e%2e%2e",
    "..x ",
)


def crawled(client: TestClient, most: int) -> dict[str, list[str]]:
    """HTML of the pages of each kind, at most so many of one, in the order in which links are met."""
    waiting = ["/", "/findings", "/samples", "/compare?first=search&second=later", "/finding?run=search&n=1"]
    known, pages = set[str](), dict[str, list[str]]()
    while waiting:
        path = waiting.pop(0)
        kind = urlsplit(path).path
        if path in known or len(pages.setdefault(kind, [])) >= most:
            continue
        known.add(path)
        answer = client.get(path)
        assert answer.status_code == 200, (path, answer.text[-300:])
        pages[kind].append(answer.text)
        waiting += [unescape(link) for link in re.findall(r'<a [^>]*href="(/[^"#]*)"', answer.text)]
    return pages


def folder_of(root: Path, planting, say: Callable[[int], str], names: tuple[str, ...]) -> TestClient:
    planting.plant(root, samples=120, findings=59, rows=130, say=say)
    for name in names:
        shutil.copytree(root / "later", root / name)
    return TestClient(build_viewer(root), base_url="http://127.0.0.1:8420")


def test_no_page_gains_an_element_attribute_or_address(tmp_path, planting, payloads):
    texts = [whole_text(text) for text in payloads.PAYLOADS]
    hostile = folder_of(tmp_path / "hostile", planting, lambda i: texts[i % len(texts)], FOLDERS)
    plain = folder_of(
        tmp_path / "plain", planting,
        lambda i: f"w{i % len(texts):02d}" + "w" * (len(texts[i % len(texts)]) - 3),
        tuple(f"folder {i}" for i in range(len(FOLDERS))),
    )  # fmt: skip
    bad, good = crawled(hostile, 8), crawled(plain, 8)
    assert set(bad) == set(good) == KINDS
    for kind in sorted(KINDS):
        for html in bad[kind]:
            skeleton = payloads.Skeleton(html)
            assert skeleton.comments == 0
            assert not payloads.HIDDEN.search(html.replace("\n", "")), kind
            for address in skeleton.addresses:
                parts = urlsplit(address)
                ours = (parts.scheme, parts.netloc, parts.path) == ("", "", parts.path)
                known = address in ("data:,", "#main", "/style.css") or address.startswith(
                    ("light", "width=")
                )
                assert known or (ours and parts.path in KINDS), address
        made = [set(payloads.Skeleton(html).elements) for html in bad[kind]]
        usual = set.union(*(set(payloads.Skeleton(html).elements) for html in good[kind]))
        assert set.union(*made) <= usual, kind


def test_one_finding_and_one_row_are_the_same_page_whatever_they_say(tmp_path, planting, payloads):
    """Payload by payload the counts are equal too."""
    texts = [whole_text(text) for text in payloads.PAYLOADS]
    pages = []
    for name, say in (
        ("hostile", lambda i: texts[i % len(texts)]),
        ("plain", lambda i: f"w{i % len(texts):02d}" + "w" * (len(texts[i % len(texts)]) - 3)),
    ):
        client = folder_of(tmp_path / name, planting, say, ())
        paths = [f"/finding?run=search&n={n}" for n in range(1, 59, 4)]
        paths += ["/samples?run=search", "/findings", "/?verb=surf", "/compare?first=search&second=later"]
        pages.append([payloads.Skeleton(client.get(path).text) for path in paths])
    for hostile, plain in zip(*pages, strict=True):
        assert hostile.elements == plain.elements


def test_a_hostile_question_is_only_text(client, payloads):
    usual = payloads.Skeleton(client.get("/samples?words=nothing+like+it").text)
    nowhere = payloads.Skeleton(client.get("/nope").text)
    for text in payloads.PAYLOADS:
        asked = {"words": whole_text(text), "outcome": whole_text(text), "finding": whole_text(text)}
        answer = client.get("/samples", params=asked)
        assert answer.status_code == 200
        page = payloads.Skeleton(answer.text)
        assert page.elements == usual.elements, text
        assert not payloads.HIDDEN.search(answer.text.replace("\n", ""))
        for path, name in (("/run", "run"), ("/row", "index")):
            refused = client.get(path, params={name: asked["words"]})
            assert refused.status_code == 404
            assert payloads.Skeleton(refused.text).elements == nowhere.elements


def test_a_megabyte_in_every_text_stays_a_page(tmp_path, planting, payloads):
    planting.plant(tmp_path, samples=4, findings=2, rows=4, say=lambda i: payloads.LONG if i == 1 else "")
    client = TestClient(build_viewer(tmp_path), base_url="http://127.0.0.1:8420")
    paths = ["/", "/findings", "/samples", "/run?run=search", "/finding?run=search&n=1", "/run?run=trace"]
    paths += ["/sample?run=search&file=samples.parquet&n=1", "/compare?first=search&second=later"]
    for path in paths:
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert len(answer.content) < 400_000, path
        assert "<b><b>" not in answer.text
