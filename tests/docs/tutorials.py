"""Tutorials as programs: a block of ``sh`` is run, a block of ``text`` after it is what it prints.

A line ``<!-- varies: REGEX -->`` before a ``text`` block names parts of it that may be anything, ``…`` stands
for what was left out. Numbers may differ by 0.15 or 20 %: they hang on the machine that trained the model.

``make tutorials`` runs all of them (``tutorials.py NAME …``: some) and writes anew what they show, where that
is no longer what is printed; lines that were cut by hand must be cut again then.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "servers"))
import fault_server

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "tutorials"
ORDER = ("audit_api_model", "trace_in_your_mix", "fix_and_verify", "audit_preference_pairs",
         "scale_out_on_ray")  # fmt: skip
"""The third and the last go on in the folder of the first."""
BLOCK = re.compile(
    r"^(?:<!-- varies: (?P<varies>[^\n]*) -->\n)?```(?P<kind>sh|text)\n(?P<body>.*?)^```$", re.M | re.S
)
BOX = re.compile(r"[\u2500-\u257f]+")
NUMBER = r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?"
SERVED = "127.0.0.1:8000"


@dataclass(frozen=True)
class Step:
    commands: str
    shown: str | None
    """``None``: nothing is said about the output."""
    varies: str | None = None


def steps(text: str) -> Iterator[Step]:
    blocks = list(BLOCK.finditer(text))
    for block, after in zip(blocks, [*blocks[1:], None], strict=True):
        if block["kind"] == "sh":
            told = after if after and after["kind"] == "text" else None
            yield Step(block["body"], told and told["body"], told and told["varies"])


def run(commands: str, folder: Path, port: int) -> str:
    """Run in ``folder`` against the server at ``port``; what is written, without the folder's name."""
    own = {"COLUMNS": "160", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    script = commands.replace(SERVED, f"127.0.0.1:{port}")
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder, env={**os.environ, **own, "PATH": path}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert ran.returncode == 0, f"{commands}\n{ran.stdout}\n{ran.stderr}"
    told = ran.stdout.replace(f"{folder}/", "").replace(f"127.0.0.1:{port}", SERVED)
    return "".join(line.rstrip() + "\n" for line in told.splitlines())


def difference(shown: str, got: str, varies: str | None = None) -> str:
    """Say where ``got`` is not what is shown; an empty text where it is."""
    flat, found = (" ".join(BOX.sub(" ", text).split()) for text in (shown, got))
    piece = re.compile(rf"(?P<any>…{f'|{varies}' if varies else ''})|(?P<number>{NUMBER})|(?P<gap> )")
    pattern, numbers, at = "", [], 0
    for part in piece.finditer(flat):
        pattern += re.escape(flat[at : part.start()])
        pattern += {"any": ".*?", "number": f"({NUMBER})", "gap": " "}[part.lastgroup or "any"]
        numbers += [part.group()] if part.lastgroup == "number" else []
        at = part.end()
    matched = re.fullmatch(pattern + re.escape(flat[at:]), found)
    if not matched:
        return f"shown: {flat}\nfound: {found}"
    pairs = zip(numbers, matched.groups(), strict=True)
    return ", ".join(f"{a} is {b}" for a, b in pairs if not _near(_value(a), _value(b)))


def _value(number: str) -> float:
    return float(number.replace(",", "").rstrip("."))


def _near(a: float, b: float) -> bool:
    return abs(a - b) <= max(0.15, 0.2 * max(abs(a), abs(b)))


def refresh(path: Path, folder: Path, port: int) -> int:
    """Run a tutorial and write what it prints over what is no longer printed; how many blocks that was."""
    text, at, changed, printed = path.read_text(encoding="utf-8"), 0, 0, ""
    while block := BLOCK.search(text, at):
        at = block.end()
        if block["kind"] == "sh":
            printed = run(block["body"], folder, port)
        elif difference(block["body"], printed, block["varies"]):
            text = text[: block.start("body")] + printed + text[block.end("body") :]
            at += len(printed) - len(block["body"])
            changed += 1
    path.write_text(text, encoding="utf-8")
    return changed


def made(place: Path) -> Path:
    """Make data and models below ``place``, by the example that the tutorials name."""
    run(f"python {ROOT / 'examples/tutorial.py'} my-audit", place, 0)
    return (place / "my-audit").resolve()


@contextlib.contextmanager
def served(folder: Path) -> Iterator[int]:
    """Serve the models of ``folder`` in another process; yields the port."""
    with fault_server.running(str(folder / "models"), script=str(ROOT / "examples/serve.py")) as url:
        yield int(url.rpartition(":")[2])


def order() -> list[str]:
    """Name the tutorials that can be run here."""
    return [name for name in ORDER if not name.endswith("ray") or importlib.util.find_spec("ray")]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        folder = made(Path(temporary))
        with served(folder) as port:
            for name in sys.argv[1:] or order():
                print(name, refresh(PAGES / f"{name}.md", folder, port), "blocks written anew", flush=True)
