"""``--fresh`` never empties, and never writes into, what a verb was told to read."""

import json

import pytest

from undertow.cli import main
from undertow.store.run import file_hash

VERBS = {
    "fix, data": ["fix", "--data", "{file}", "--concept", "a=b"],
    "fix, folder": ["fix", "--data", "{run}", "--concept", "a=b"],
    "fix, run": ["fix", "{run}", "--data", "{other}"],
    "fix, scores": ["fix", "--data", "{other}", "--scores", "{file}", "--concept", "a"],
    "index": ["index", "{file}"],
    "prefs": ["prefs", "{file}"],
    "prefs, probe": ["prefs", "{other}", "--model", "{other}", "--probe", "one={file}"],
    "train sft": ["train", "sft", "--data", "{file}", "--model", "{other}"],
    "train dpo": ["train", "dpo", "--data", "{other}", "--model", "{run}"],
    "surf": ["surf", "--target", "local:{run}", "--attributes", "{other}", "--rubric", "code"],
    "verify": ["verify", "local:{other}", "local:{other}", "--run", "{run}"],
}


CASES = [
    (verb, where)
    for verb, argv in VERBS.items()
    for where in ("is", "holds", "lies in")
    if where != "lies in" or any("{run}" in part for part in argv)  # nothing lies in a file
]


@pytest.mark.parametrize(("verb", "where"), CASES)
def test_fresh_leaves_every_input_alone(verb, where, tmp_path, monkeypatch, capsys):
    folder, other = tmp_path / "top" / "run", tmp_path / "other"
    (folder / "within").mkdir(parents=True)
    other.mkdir()
    ours = json.dumps({"tool": "undertow", "verb": "fix", "status": "complete", "config": {}, "inputs": {}})
    for each in (folder, folder.parent, folder / "within"):
        for name in ("config.json", "manifest.json"):
            (each / name).write_text(ours)
    (folder / "data.parquet").write_bytes(b"PAR1 rows PAR1")
    paths = {"run": folder, "file": folder / "data.parquet", "other": other}
    argv = [part.format(**paths) for part in VERBS[verb]]
    out = {"is": folder, "holds": folder.parent, "lies in": folder / "within"}[where]
    if where != "lies in" and any("{file}" in part for part in VERBS[verb]):
        where = "holds"
    monkeypatch.chdir(tmp_path)
    before = file_hash(tmp_path)
    assert main([*argv, "--out", str(out.relative_to(tmp_path)), "--fresh"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"{where} the input {folder}" in line
    assert file_hash(tmp_path) == before


def test_a_folder_beside_the_input_may_be_emptied(tmp_path, capsys):
    """The guard is about overlap alone: texts that are no paths, and neighbours, pass it."""
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "p", "chosen": "a b", "rejected": "c"}\n' * 1)
    argv = ["fix", "--data", str(tmp_path / "pairs.jsonl"), "--concept", "x=" + "y|" * 3000 + "b"]
    argv += ["--how", "downweight", "--out", str(tmp_path / "out"), "--strength", "0.5"]
    assert main(argv) == 0
    assert main([*argv, "--fresh"]) == 0
    assert "1 rows before, 1 after, 1 of them changed" in capsys.readouterr().out
