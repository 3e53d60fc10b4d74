"""Odd data files, by Hypothesis: each is read, or refused in one line; nothing is executed, and nothing hangs."""

import io
import os
import pickle
import shutil
import signal
import struct
import warnings
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from command import _executed, aejax
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

EXAMPLES = 500
SECONDS = 10


class Prepared(NamedTuple):
    folder: Path
    base: dict[str, bytes]


class Trap:
    """What would be executed if it were unpickled."""

    def __reduce__(self):
        return os.system, ("touch executed",)


def prepare(folder: Path) -> Prepared:
    from aejax.data import load

    load("digits")
    train = ["--steps", "4", "--hidden", "8", "--latent", "2", "--no-evaluate", "--no-verbose"]
    np.save("rows.npy", np.random.default_rng(0).random((30, 4), np.float32))
    assert aejax("train", "ae", *train, "--data", "rows.npy", "--run", "rows")[0] == 0
    return Prepared(folder, whole_files())


def whole_files() -> dict[str, bytes]:
    """Suffix -> the bytes of an intact file."""
    rng = np.random.default_rng(0)
    x, rows = rng.integers(0, 255, (12, 6, 5, 3), np.uint8), rng.random((12, 4))
    found = {}
    for suffix, fmt in {
        ".png": "PNG",
        ".jpg": "JPEG",
        ".gif": "GIF",
        ".tif": "TIFF",
        ".bmp": "BMP",
        ".webp": "WEBP",
        ".ppm": "PPM",
        ".tga": "TGA",
        ".jp2": "JPEG2000",
    }.items():
        out = io.BytesIO()
        Image.fromarray(x[0]).save(out, fmt)
        found[suffix] = out.getvalue()
    out = io.BytesIO()
    np.save(out, rows)
    found[".npy"] = out.getvalue()
    for save, name in ((np.savez, ".npz"), (np.savez_compressed, ".npz.")):
        out = io.BytesIO()
        save(out, x=x, label=np.arange(12) % 3)
        found[name] = out.getvalue()
    table = "a,b,label\n" + "".join(f"{i},{i / 3},{'xyz'[i % 3]}\n" for i in range(12))
    found[".csv"], found[".tsv"] = table.encode(), table.replace(",", "\t").encode()
    import pyarrow as pa
    from pyarrow import parquet

    out = io.BytesIO()
    parquet.write_table(pa.table({"a": rows[:, 0], "b": rows[:, 1], "label": list("xyz" * 4)}), out)
    found[".parquet"] = out.getvalue()
    out = io.BytesIO()
    np.save(out, np.array([Trap(), Trap()], object), allow_pickle=True)
    found[".npy."] = out.getvalue()
    found[".png."] = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(executed) (w) file\n"
    found[".npy.."] = pickle.dumps(Trap())
    return found


def drawn(rng: np.random.Generator) -> list:
    return [int(rng.integers(2**32))]


# --- strategies

sides = st.one_of(st.integers(0, 6), st.sampled_from([-1, 1, 2**31, 2**32 + 1, 2**62, 2**63, 2**64, 10**9]))
shapes = st.lists(sides, max_size=5).map(tuple)
descrs = st.sampled_from(
    [
        "<f4",
        "<f8",
        ">f4",
        "<f2",
        "|u1",
        "|b1",
        "<i8",
        "<i4",
        "<u8",
        "<c8",
        "|O",
        "|V8",
        "<U3",
        "<U99999999",
        "|S4",
        "<M8[s]",
        "<m8",
        "nonsense",
        "<f16",
    ]
)
tails = st.one_of(
    st.binary(max_size=200),
    st.integers(0, 4000).map(bytes),
    st.integers(0, 400).map(lambda n: np.arange(n, dtype="<f4").tobytes()),
)


@st.composite
def npy(draw: st.DrawFn) -> bytes:
    """A .npy whose header says what it likes."""
    header = draw(
        st.one_of(
            st.builds(lambda d, f, s: str({"descr": d, "fortran_order": f, "shape": s}), descrs, st.booleans(), shapes),
            st.text(max_size=60),
            st.sampled_from(
                [
                    "{'descr': [('a', '<f4'), ('b', 'O')], 'fortran_order': False, 'shape': (2,)}",
                    "(" * 3000,
                    "{'descr': '<f4'}",
                    "__import__('os').system('touch executed')",
                ]
            ),
        )
    )
    version = draw(st.sampled_from([b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00"]))
    content = header.encode("utf-8", "replace") + b"\n"
    length = struct.pack("<H" if version[0] == 1 else "<I", len(content) % 65536)
    return b"\x93NUMPY" + version + length + content + draw(tails)


@st.composite
def npz(draw: st.DrawFn) -> bytes:
    names = st.sampled_from(
        [
            "x",
            "label",
            "y",
            "x_train",
            "x_test",
            "label_train",
            "label_test",
            "factors",
            "state",
            "length",
            "label_names",
            "mask",
            "../x",
            "",
            "é",
        ]
    )
    members = draw(st.lists(st.tuples(names, npy(), st.sampled_from([0, 8, 12, 14])), max_size=4))
    out = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(out, "w") as file:  # of names that are given twice
        for name, content, how in members:
            file.writestr(zipfile.ZipInfo(f"{name}.npy"), content, compress_type=how)
    return mutated(out.getvalue(), draw(mutations)) if draw(st.booleans()) else out.getvalue()


arrays = st.one_of(
    st.tuples(
        st.sampled_from([np.uint8, np.float32, np.float64, np.int64, bool]), st.lists(st.integers(0, 4), max_size=4)
    ).map(lambda p: np.zeros(p[1], p[0])),
    st.lists(st.integers(-3, 3 * 10**9), max_size=6).map(lambda v: np.array(v, np.int64)),
    st.lists(st.floats(width=32), max_size=6).map(lambda v: np.array(v, np.float32)),
    st.lists(st.text(max_size=3), max_size=6).map(lambda v: np.array(v, str)),
)


@st.composite
def meant(draw: st.DrawFn) -> bytes:
    """A .npz of honest arrays that do not fit each other."""
    names = st.sampled_from(
        [
            "x",
            "label",
            "y",
            "x_train",
            "x_test",
            "label_train",
            "factors",
            "state",
            "length",
            "label_names",
            "factor_names",
            "extra",
        ]
    )
    out = io.BytesIO()
    np.savez(out, **{name: draw(arrays) for name in draw(st.sets(names, max_size=4))})
    return out.getvalue()


cells = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.floats().map(str),
    st.text(max_size=4),
    st.sampled_from(["", "NA", '"', '"a,b"', "\0", "1e999", "2024-01-01", "true", "0x1"]),
)
tables = st.lists(st.lists(cells, max_size=4).map(",".join), max_size=6).map(
    lambda lines: "\n".join(lines).encode("utf-8", "replace")
)
headed = st.lists(st.lists(st.integers(0, 9).map(str), min_size=2, max_size=2).map(",".join), max_size=6).map(
    lambda lines: ("a,label\n" + "\n".join(lines)).encode()
)

mutations = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "insert", "remove", "repeat"]),
        st.floats(0, 1),
        st.binary(min_size=1, max_size=6),
    ),
    max_size=4,
)


def mutated(content: bytes, changes: list[tuple[str, float, bytes]]) -> bytes:
    for how, where, what in changes:
        place = min(int(where * len(content)), max(0, len(content) - 1))
        if how == "flip" and content:
            content = content[:place] + bytes([content[place] ^ (what[0] or 1)]) + content[place + 1 :]
        elif how == "cut":
            content = content[:place]
        elif how == "insert":
            content = content[:place] + what + content[place:]
        elif how == "remove":
            content = content[:place] + content[place + len(what) :]
        elif how == "repeat":
            content = content[:place] + content[place : place + 50] * what[0] + content[place:]
    return content


def png(width: int, height: int, depth: int, color: int, rows: bytes) -> bytes:
    part = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")


pngs = st.builds(
    png,
    st.sampled_from([0, 1, 5, 70_000, 2**31 - 1]),
    st.sampled_from([0, 1, 6, 70_000, 2**31 - 1]),
    st.sampled_from([1, 2, 4, 8, 16, 3]),
    st.sampled_from([0, 2, 3, 4, 6, 5]),
    st.binary(max_size=300),
)
readings = st.fixed_dictionaries(
    {},
    optional={
        "stream": st.booleans(),
        "image_size": st.sampled_from([None, -1, 0, 1, 4, 9]),
        "image_channels": st.sampled_from([None, 1, 2, 3, 4]),
        "image_crop": st.sampled_from(["center", "random", "stretch"]),
        "standardize": st.sampled_from(["none", "minmax", "zscore"]),
        "missing": st.sampled_from(["refuse", "mask"]),
    },
)


def play(prepared: Prepared, parts: list) -> dict[str, int]:
    outcomes: Counter[str] = Counter()
    base = st.sampled_from(sorted(prepared.base)).flatmap(
        lambda suffix: mutations.map(lambda changes: (suffix.rstrip("."), mutated(prepared.base[suffix], changes)))
    )
    source = st.one_of(
        base,
        base,
        npy().map(lambda content: (".npy", content)),
        npz().map(lambda content: (".npz", content)),
        meant().map(lambda content: (".npz", content)),
        tables.map(lambda content: (".csv", content)),
        headed.map(lambda content: (".csv", content)),
        pngs.map(lambda content: (".png", content)),
    )
    beside = st.one_of(
        st.none(), st.none(), st.sampled_from(["loop", "fifo", "split", "class", "metadata", "self"]), tables
    )

    @seed(parts[0])
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
        report_multiple_bugs=False,
    )
    @given(source, beside, readings, st.integers(0, 40), st.integers(0, 3))
    def one(file, other, reading, through, verb):
        outcomes[read(prepared, file, other, reading, through, verb)] += 1

    one()
    return dict(outcomes)


def read(prepared: Prepared, file: tuple[str, bytes], other: object, reading: dict, through: int, verb: int) -> str:
    """What came of reading a file: alone, or for images in a folder with something beside it."""
    suffix, content = file
    shutil.rmtree("given", ignore_errors=True)
    os.mkdir("given")
    path = Path("given", f"a{suffix}")
    path.write_bytes(content)
    if suffix not in (".npy", ".npz", ".csv", ".tsv", ".parquet"):
        add(other, prepared)
        path = path.parent
    signal.signal(signal.SIGALRM, _took_too_long)
    signal.alarm(SECONDS)
    try:
        if through == 0:
            return by_command(path, verb)
        return by_function(path, reading)
    finally:
        signal.alarm(0)
        assert not os.path.exists("executed"), "something was executed"


def _took_too_long(signum: int, frame: object) -> None:
    raise TimeoutError(f"it took more than {SECONDS} s")


def by_function(path: Path, reading: dict) -> str:
    from aejax import UsageError, load
    from aejax.data import open_split, take

    _executed.clear()
    refused = ""
    try:
        standardized = reading.get("standardize", "none") != "none"
        data = load(path, ("all",), **reading)[0] if standardized else open_split(path, reading)
        batch = take(data, np.arange(min(2, data.size)))
    except UsageError as error:
        refused = str(error)
    assert not _executed, _executed
    if not refused:
        assert batch["x"].shape[1:] == data.shape
        return "read"
    assert refused.isprintable(), repr(refused)
    assert len(refused) < 2000, refused
    return "refused"


def by_command(path: Path, verb: int) -> str:
    verbs = [
        ["encode", "rows", path, "out.npy", "--overwrite"],
        ["reconstruct", "rows", path, "out.npy", "--overwrite"],
        ["impute", "rows", path, "out.npy", "--overwrite"],
        [
            "train",
            "ae",
            "--data",
            path,
            "--steps",
            "1",
            "--hidden",
            "4",
            "--latent",
            "2",
            "--run",
            "new",
            "--overwrite",
            "--no-evaluate",
            "--no-verbose",
        ],
    ]
    code, _ = aejax(*verbs[verb])
    return f"command {'did it' if code == 0 else 'refused it'}"


def add(other: object, prepared: Prepared) -> None:
    """Something beside an image in its folder."""
    folder = Path("given")
    whole = prepared.base[".png"]
    if isinstance(other, bytes):
        (folder / "metadata.csv").write_bytes(other)
    elif other == "loop":
        (folder / "b.png").symlink_to("b.png")
        (folder / "c").symlink_to("../given")
    elif other == "self":
        (folder / "train").symlink_to(".")
    elif other == "fifo":
        os.mkfifo(folder / "b.png")
    elif other == "metadata":
        (folder / "metadata.csv").write_text("file_name,label,size\na.png,3000000000,2\n")
    elif other in ("split", "class"):
        inner = folder / ("train" if other == "split" else "\x1b[31mred")
        inner.mkdir()
        (inner / "b.png").write_bytes(whole)
