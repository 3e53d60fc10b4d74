"""Files of finished runs are changed; commands then refuse them in one line, or give what they gave before."""

import json
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
from command import aejax

SMALL = ["--steps", "12", "--save-every", "4", "--log-every", "3", "--hidden", "8", "--latent", "2", "--no-verbose"]
COMMANDS = ["encode", "reconstruct", "resume", "report", "evaluate", "verify", "train over it", "parent"]
JUNK = [
    b"",
    b"5",
    b"[]",
    b"null",
    b'"text"',
    b"{",
    b"\xff\xfe\x00",
    b"[" * 3000,
    b"{}",
    b"\0" * 100,
    b'{"step": 1}',
    b"NaN",
]
VALUES = [None, True, -1, 0, 1.5, 1e308, "", "text", [], {}, [1], {"a": 1}, 2**70, "../../etc", "\x1b[31mred"]


class Prepared(NamedTuple):
    folder: Path
    expected: dict[str, object]


def prepare(folder: Path) -> Prepared:
    assert aejax("train", "ae", *SMALL, "--run", "run", "--evaluate", "quick")[0] == 0
    assert aejax("train", "ae", *SMALL, "--seeds", "2", "--run", "group", "--no-evaluate")[0] == 0
    assert aejax("export", "run", "exported")[0] == 0
    expected: dict[str, object] = {}
    for name in ("run", "group/seed1"):
        expected[name] = outputs(name)
    return Prepared(folder, expected)


def outputs(run: str) -> dict[str, object]:
    """What a run gives: its codes and its digest."""
    aejax("encode", run, "digits:test[:20]", "codes.npy", "--overwrite")
    return {"codes": np.load("codes.npy"), "digest": json.loads(Path(run, "result.json").read_text())["digest"]}


def drawn(rng: np.random.Generator) -> list:
    """A target, a command, and one to three changes of files."""
    target = str(rng.choice(["run", "run", "group", "exported"]))
    changes = [
        [
            str(rng.choice(["flip", "cut", "grow", "junk", "field", "remove", "swap", "folder", "loop"])),
            rng.random(3).tolist(),
        ]
        for _ in range(rng.choice([1, 1, 1, 2, 3]))
    ]
    return [[target, str(rng.choice(COMMANDS))], *changes]


def play(prepared: Prepared, parts: list) -> dict[str, int]:
    (target, verb), *changes = parts
    for left in ("cut", "imported", "child"):
        shutil.rmtree(left, ignore_errors=True)
    shutil.copytree(target, "cut", symlinks=True)
    for how, where in changes:
        change(Path("cut"), how, where)
    if target == "exported":
        code, _ = aejax("import", "cut", "imported")
        if code == 0:
            same(prepared, "run", "imported")
        return {"imported" if code == 0 else "refused": 1}
    member = "cut" if target == "run" else "cut/seed1"
    name = "run" if target == "run" else "group/seed1"
    if verb in ("encode", "reconstruct"):
        code, _ = aejax(verb, member, "digits:test[:20]", "other.npy", "--overwrite")
        if code == 0 and verb == "encode":
            np.testing.assert_array_equal(np.load("other.npy"), prepared.expected[name]["codes"])
    elif verb == "train over it":
        code, _ = aejax("train", "ae", *SMALL, "--run", "cut", "--overwrite", "--no-evaluate")
    elif verb == "parent":
        code, _ = aejax("train", "ae", *SMALL, "--run", "child", "--start-from", member, "--no-evaluate")
    else:
        flags = {"resume": ["--no-evaluate"], "evaluate": ["--quick"]}.get(verb, [])
        of = member if verb == "report" else "cut"
        code, _ = aejax(verb, of, *flags)
        if code == 0 and verb == "resume":
            same(prepared, name, member)
    return {"as before" if code == 0 else "refused": 1}


def same(prepared: Prepared, name: str, run: str) -> None:
    """A run that a command left as complete gives what it gave before."""
    found = outputs(run)
    assert found["digest"] == prepared.expected[name]["digest"], "another digest"
    np.testing.assert_array_equal(found["codes"], prepared.expected[name]["codes"])


def change(folder: Path, how: str, where: list[float]) -> None:
    files = sorted(
        path for path in folder.rglob("*") if path.is_file() and not path.is_symlink() and path.name != ".lock"
    )
    names = [path for path in files if path.suffix in (".json", ".jsonl")]
    first = names if how == "field" or where[2] < 0.4 else files  # half of the files are of checkpoints
    if not first:
        return
    file = first[int(where[0] * len(first))]
    content = file.read_bytes()
    place = int(where[1] * len(content))
    if how == "flip" and content:
        file.write_bytes(content[:place] + bytes([content[place] ^ (1 << int(8 * where[2]))]) + content[place + 1 :])
    elif how == "cut":
        file.write_bytes(content[:place])
    elif how == "grow":
        file.write_bytes(content[:place] + os.urandom(64) + content[place:])
    elif how == "junk":
        file.write_bytes(JUNK[int(where[2] * len(JUNK))])
    elif how == "field" and file.suffix == ".json":
        alter(file, where)
    elif how == "remove":
        file.unlink()
    elif how == "swap":
        other = files[int(where[1] * len(files))]
        file.write_bytes(other.read_bytes())
    elif how == "folder":
        file.unlink()
        file.mkdir()
    elif how == "loop":
        file.unlink()
        file.symlink_to(file.name)


def alter(file: Path, where: list[float]) -> None:
    """Another value in a field of a JSON file, wherever it is."""
    try:
        content = json.loads(file.read_text())
    except ValueError:
        return
    fields: list[tuple] = []

    def visit(value: object) -> None:
        if isinstance(value, (dict, list)):
            for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
                fields.append((value, key))
                visit(inner)

    visit(content)
    if fields:
        holder, key = fields[int(where[1] * len(fields))]
        holder[key] = VALUES[int(where[2] * len(VALUES))]
        file.write_text(json.dumps(content))
