"""The viewer over real run directories, asked as a browser asks."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from starlette.testclient import TestClient

from undertow.errors import UsageError
from undertow.records import Interval, Rate
from undertow.stats.intervals import difference_by_intervals
from undertow.view.server import build_viewer

EMPTY = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta"}


class Page(HTMLParser):
    """Elements with their attributes, links with their words, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.links: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag == "a":
            self.links.append((dict(attrs).get("href") or "", ""))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, "every element is closed where it was opened"

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if "a" in self.open and self.links:
            self.links[-1] = (self.links[-1][0], self.links[-1][1] + data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page(client: TestClient, path: str, status: int = 200) -> Page:
    answer = client.get(path)
    assert answer.status_code == status, (path, answer.text[-500:])
    return Page(answer.text)


def crawl(client: TestClient, most: int = 14) -> Iterator[tuple[str, Page]]:
    """Every page that links lead to, at most so many of each kind."""
    waiting = ["/", "/findings", "/samples", "/compare?first=search&second=later", "/finding?run=search&n=1"]
    known = set(waiting)
    while waiting:
        path = waiting.pop(0)
        if path.startswith("/report"):
            assert client.get(path).status_code == 200
            continue
        shown = page(client, path)
        yield path, shown
        for href in dict.fromkeys(href for href, _ in shown.links if href.startswith("/")):
            kind = urlsplit(href).path
            if href not in known and sum(urlsplit(k).path == kind for k in known) < most:
                known.add(href)
                waiting.append(href)


def test_every_link_leads_to_a_page_with_one_heading_and_landmarks(client):
    kinds = set()
    for path, shown in crawl(client):
        kinds.add(urlsplit(path).path)
        assert len(shown.all("h1")) == 1, path
        assert len(shown.all("main")) == 1
        assert shown.all("html")[0]["lang"] == "en"
        assert all(nav.get("aria-label") for nav in shown.all("nav"))
        assert not {"script", "style", "iframe", "img", "object"} & {tag for tag, _ in shown.elements}
        assert not [name for _, attributes in shown.elements for name in attributes if name.startswith("on")]
        assert all(words.strip() for href, words in shown.links), f"{path}: a link without words"
        skip = next(href for href, _ in shown.links)
        assert skip == "#main"
    assert kinds == {"/", "/run", "/findings", "/finding", "/rows", "/row", "/samples", "/sample", "/compare"}


@pytest.mark.parametrize("path", ["/", "/findings", "/samples", "/compare"])
def test_every_field_of_a_form_has_its_label(client, path):
    shown = page(client, path)
    labelled = {label["for"] for label in shown.all("label")}
    fields = [attributes["id"] for tag in ("select", "input") for attributes in shown.all(tag)]
    assert fields
    assert set(fields) == labelled
    assert all(form["method"] == "get" for form in shown.all("form"))


def test_a_finding_leads_to_its_training_row_in_two_clicks_and_back(client):
    run = page(client, "/run?run=search")
    first = next(href for href, words in run.links if href.startswith("/finding?") and "feature 1 " in words)
    finding = page(client, first)
    assert "feature 1" in finding.text
    second = next(href for href, _ in finding.links if href.startswith("/row?"))
    row = page(client, second)
    name = parse_qs(urlsplit(second).query)["id"][0]
    assert f"Row {name}" in row.text
    assert "What holds for its query" in row.text
    back = [href for href, words in row.links if words == "code-1"]
    assert back
    assert "feature 1" in page(client, back[0]).text


def test_a_findings_page_says_all_that_the_folder_knows_of_it(client):
    text = page(client, "/finding?run=search&id=code-1").text
    for said in (
        "The response is code", "55 of 80", "1 of 80", "Minimal trigger", "What it looks like",
        "All 199 rows", "Why these rows", "20 rows of 200", "fixed", "Paired difference -72 points",
        "Verified in verified",
    ):  # fmt: skip
        assert said in text, said


def test_the_card_of_a_demo_is_reached_from_its_table(client):
    run = page(client, "/run?run=demo")
    link = next(href for href, words in run.links if words == "rebuttal")
    text = page(client, link).text
    assert "77 of 80" in text
    assert "Planted:" in text


def test_filters_keep_what_fits(client):
    assert "5 runs" not in page(client, "/?verb=surf").text
    assert "2 runs" in page(client, "/?verb=surf").text
    assert "2 runs" in page(client, "/?rubric=code&model=openai%3Amodel").text
    assert "No run here that fits" in page(client, "/?verb=surf&status=failed").text
    rejected = page(client, "/findings?verdict=rejected&words=FEATURE+57")
    assert "2 findings" in rejected.text, "feature 57 of both searches"
    assert "confirmed" not in {words for _, words in rejected.links}


def test_lists_are_paged_and_pages_stay_small(client):
    first = client.get("/findings")
    assert "1–50 of 120 findings" in Page(first.text).text
    shown = page(client, "/findings?page=3")
    assert "101–120 of 120 findings" in shown.text
    assert [words for _, words in shown.links if words in ("more", "earlier")] == ["earlier"]
    assert len(client.get("/samples").content) < 250_000
    assert "no findings here, 120 in all" in page(client, "/findings?page=99999").text
    assert "1–50 of" in page(client, "/findings?page=-4").text


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("words=%25", 0), ("words=_", 0), ("words='; DROP TABLE x; --", 0), ("words=%00", 0),
        ("outcome=failed", 7), ("finding=code-4", 6), ("words=TIMEOUT", 0), ("outcome=nonsense", 360),
        ("words=word1&finding=nobody", 0),
    ],
)  # fmt: skip
def test_search_takes_words_as_they_are(client, query, count):
    text = page(client, f"/samples?run=search&{query}").text
    assert f"{count} sample" in text


def test_search_finds_a_word_whatever_its_case(client, folder):
    from undertow.store.tables import read_table

    table = read_table(folder / "search" / "samples.parquet")
    word = table["response"][5].as_py().split()[0]
    rows = table.to_pylist() + read_table(folder / "search" / "confirm_samples.parquet").to_pylist()
    n = sum(any(word in (row[key] or "") for key in ("prompt", "response", "reason")) for row in rows)
    text = page(client, f"/samples?run=search&words={word.upper()}").text
    assert f"{n} sample" in text
    assert word in text


def test_two_runs_are_compared_with_the_difference_of_their_intervals(client):
    text = page(client, "/compare?first=search&second=later").text

    def said(hits: int) -> Rate:
        from undertow.stats.intervals import wilson

        interval = wilson(hits, 80)
        assert isinstance(interval, Interval)
        return Rate(hits, 80, interval)

    found = difference_by_intervals(said(56), said(32))
    assert found.interval is not None
    assert f"{100 * found.value:+.0f} points" in text
    assert f"[{100 * found.interval.low:+.0f}, {100 * found.interval.high:+.0f}]" in text
    assert "prompts at random" in page(client, "/compare?first=search&second=later&page=2").text


def test_what_only_one_run_measured_has_no_difference(client):
    text = page(client, "/compare?first=search&second=demo").text
    assert "not measured" in text
    assert "not known" in text
    assert "+0 points" not in text
    page(client, "/compare?first=search&second=index", 422)


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "evil.example:8420", "", "0.0.0.0",
     "127.0.0.1@evil.example", "[::2]", "169.254.1.1"],
)  # fmt: skip
def test_a_foreign_host_is_refused(client, host):
    for path in ("/", "/run?run=search", "/style.css", "/report?run=search"):
        answer = client.get(path, headers={"host": host})
        assert answer.status_code == 400
        assert "code" not in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1:8420", "localhost", "localhost:9000", "[::1]:8420"])
def test_the_names_of_this_machine_are_answered(client, host):
    assert client.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_only_reading_is_answered(client, method):
    assert client.request(method, "/").status_code == 405
    assert client.request(method, "/run?run=search").status_code == 405


OUTSIDE = (
    "..",
    "../",
    "/etc",
    "search/..",
    "search/../../",
    "%2e%2e",
    "file:///etc/passwd",
    "search\x00",
    "~",
)


@pytest.mark.parametrize("path", OUTSIDE)
def test_nothing_outside_of_the_folder_is_reached(client, path):
    for kind in ("run", "report", "finding", "rows", "samples"):
        assert client.get(f"/{kind}", params={"run": path, "n": "1"}).status_code == 404
    asked = {"run": "search", "file": f"{path}/passwd", "n": "1"}
    assert client.get("/sample", params=asked).status_code == 404
    assert "root:" not in client.get("/" + quote(path)).text


def test_a_run_with_a_link_out_of_the_folder_is_left_out(tmp_path, planting):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for place in (inside, outside):
        place.mkdir()
        planting.plant(place, samples=20, findings=2, rows=10)
    (outside / "secret.json").write_text('[{"id": "a secret"}]')
    os.remove(inside / "later" / "findings.json")
    os.symlink(outside / "secret.json", inside / "later" / "findings.json")
    os.symlink(outside / "search", inside / "away")
    client = TestClient(build_viewer(inside), base_url="http://localhost")
    text = page(client, "/").text
    assert "later: findings.json leads out of the folder" in text
    for at in ("later", "away"):
        assert client.get("/run", params={"run": at}).status_code == 404


def test_duckdb_itself_reads_nothing_outside(folder, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    from undertow.view.tables import Tables

    pq.write_table(pa.table({"a": [1]}), tmp_path / "outside.parquet")
    tables = Tables(folder)
    inside = str(folder / "search" / "samples.parquet")
    assert tables.ask("SELECT count(*) AS n FROM read_parquet(?)", [inside]) == [{"n": 300}]
    for question in ("SELECT * FROM read_parquet(?)", "SELECT * FROM read_text(?)"):
        with pytest.raises(UsageError, match="ermission"):
            tables.ask(question, [str(tmp_path / "outside.parquet")])
    with pytest.raises(UsageError):
        tables.ask("SET enable_external_access = true")


def test_every_answer_forbids_scripts_frames_and_foreign_loads(client):
    for path in ("/", "/nope", "/run?run=nope", "/style.css", "/run?run=search"):
        policy = client.get(path).headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'self'; img-src data:;"), path
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
    report = client.get("/report?run=search")
    assert report.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert report.headers["x-content-type-options"] == "nosniff"


def test_a_broken_file_of_a_run_is_one_line_and_the_others_stay(tmp_path, planting):
    planting.plant(tmp_path, samples=20, findings=2, rows=10)
    (tmp_path / "search" / "findings.json").write_text("[{")
    (tmp_path / "later" / "samples.parquet").write_bytes(b"PAR1 nothing")
    client = TestClient(build_viewer(tmp_path), base_url="http://localhost")
    assert "not JSON" in page(client, "/run?run=search", 422).text
    assert "cannot be shown" in page(client, "/samples?run=later", 422).text
    page(client, "/run?run=trace")


def test_a_run_that_ends_meanwhile_is_seen(tmp_path, planting, monkeypatch):
    monkeypatch.setattr("undertow.view.folder._SECONDS", 0.0)
    client = TestClient(build_viewer(tmp_path), base_url="http://localhost")
    assert "No run here." in page(client, "/").text
    planting.plant(tmp_path, samples=20, findings=2, rows=10)
    assert "6 runs" in page(client, "/").text


def test_without_the_extra_there_is_one_line(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    with pytest.raises(UsageError, match=re.escape("pip install 'undertow[view]'")):
        build_viewer(folder)


def started(folder: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "undertow", "view", str(folder), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_verb_serves_on_loopback_until_it_is_interrupted(folder):
    server = started(folder, "--port", "0")
    try:
        assert server.stdout is not None
        address = server.stdout.readline().split()[0]
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
        with urllib.request.urlopen(address, timeout=20) as answer:
            assert b"search" in answer.read()
        request = urllib.request.Request(address, headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError, match="400"):
            urllib.request.urlopen(request, timeout=20)
        port = urlsplit(address).port
        taken = started(folder, "--port", str(port))
        _, told = taken.communicate(timeout=60)
        assert taken.returncode == 2
        assert told.count("\n") == 1
        assert f"--port {port}" in told
    finally:
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=20)
    assert server.returncode == 0, errors
    assert errors == ""


def test_the_port_is_on_loopback_alone(folder):
    from undertow.view.server import _bound

    with _bound(0) as listening:
        assert listening.getsockname()[0] == "127.0.0.1"
        assert listening.family is socket.AF_INET


def test_a_tenth_of_the_size_answers_far_below_the_bound(tmp_path, planting):
    planting.plant(tmp_path, samples=10_000, findings=50, rows=10_000)
    client = TestClient(build_viewer(tmp_path), base_url="http://127.0.0.1")
    for name, path in planting.PAGES.items():
        best = min(_milliseconds(client, path) for _ in range(4))
        assert best < planting.BOUND_MS, name


def _milliseconds(client: TestClient, path: str) -> float:
    began = time.perf_counter()
    assert client.get(path).status_code == 200, path
    return 1000 * (time.perf_counter() - began)


def test_of_two_copies_the_nearer_index_is_taken(tmp_path, planting):
    planting.plant(tmp_path / "z", samples=20, findings=2, rows=10)
    shutil.copytree(tmp_path / "z", tmp_path / "z" / "a")
    client = TestClient(build_viewer(tmp_path), base_url="http://localhost")
    for place in ("z", "z/a"):
        links = [href for href, _ in page(client, f"/run?run={place}/trace").links]
        index = [href for href in links if href.endswith("index")]
        assert f"/run?run={quote(place, safe='')}%2Findex" in index
        assert len(index) == 1
