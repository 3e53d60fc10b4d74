"""Tables: the same rows are the same examples, in whatever form they come."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

import aejax
from aejax import load
from aejax.cli import main
from tiny import refusal

ROWS = 40
COLUMNS = {
    "height": np.linspace(-1.0, 1.0, ROWS),
    "count": np.arange(ROWS),
    "open": np.arange(ROWS) % 2 == 0,
}
WORDS = np.array(["oak", "ash", "elm"])[np.arange(ROWS) % 3]
X = np.stack(list(COLUMNS.values()), axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    table = pa.table({**COLUMNS, "label": WORDS})
    csv.write_csv(table, folder / "t.csv")
    csv.write_csv(table, folder / "t.tsv", csv.WriteOptions(delimiter="\t"))
    parquet.write_table(table, folder / "t.parquet")
    np.savez(folder / "t.npz", x=X, label=WORDS)
    return folder


class Frame:
    """What is used of a data frame of pandas or polars."""

    def __init__(self, columns):
        self.columns, self._columns = list(columns), columns

    def __getitem__(self, name):
        return self._columns[name]

    def to_numpy(self):
        return np.stack([np.asarray(column, object) for column in self._columns.values()], axis=1)


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.parquet"])
def test_a_table_is_the_array_of_its_columns(folder, name):
    for of_table, of_array in zip(load(folder / name, ("train", "test")), load(folder / "t.npz", ("train", "test"))):
        assert of_table.classes == ("ash", "elm", "oak")
        assert of_table.fingerprint == of_array.fingerprint


def test_a_data_frame_is_the_same_table(folder):
    (of_frame,) = load(Frame({**COLUMNS, "label": WORDS}), ("all",))
    (of_table,) = load(folder / "t.csv", ("all",))
    assert of_frame.fingerprint == of_table.fingerprint
    (paired,) = load((Frame(COLUMNS), WORDS), ("all",))
    np.testing.assert_array_equal(paired.arrays["x"], of_frame.arrays["x"])


def test_a_table_without_classes_has_none(tmp_path):
    csv.write_csv(pa.table(COLUMNS), tmp_path / "t.csv")
    train, test = load(tmp_path / "t.csv")
    assert train.classes is None
    assert (train.shape, train.size + test.size) == ((3,), ROWS)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a,b\n1,red\n2,blue\n", "columns that are not numeric: b;"),
        ("a,b\n1,\n2,3\n", "nan"),
        ("label\nred\nblue\n", "no column of numbers"),
        ("a,a\n1,2\n3,4\n", "several columns called a"),
        ("a,b\n1,2\n3\n", "cannot be read as a table"),
        ("", "cannot be read as a table"),
    ],
)
def test_what_is_no_table_of_numbers_is_refused(tmp_path, text, told):
    file = tmp_path / "t.csv"
    file.write_text(text)
    message = refusal(load, file)
    assert told in message
    assert "t.csv" in message


def test_a_run_on_a_table_encodes_a_table(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    unit = {name: np.abs(np.asarray(column, float)) / ROWS for name, column in COLUMNS.items()}
    csv.write_csv(pa.table({**unit, "label": WORDS}), tmp_path / "unit.csv")
    quick = ["--steps", "3", "--hidden", "4", "--latent", "2", "--batch-size", "8", "--no-evaluate"]
    assert main(["train", "dae", "--data", "unit.csv", *quick, "--run", "run"]) == 0
    assert "rows of numbers of 3" in capsys.readouterr().err
    assert main(["encode", "run", "unit.csv", "codes.npy"]) == 0
    assert np.load("codes.npy").shape == (ROWS, 2)


def test_each_column_of_a_table_is_evaluated_by_name_in_its_own_units(tmp_path, monkeypatch):
    pd = pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"height": 170 + 8 * rng.normal(size=90), "label": ["a", "b", "c"] * 30, "weight": rng.normal(size=90)}
    )
    frame.loc[3:6, "weight"] = np.nan
    frame.to_csv("people.csv", index=False)
    flags = ["--missing", "mask", "--standardize", "zscore", "--steps", "30", "--evaluate", "quick", "--no-verbose"]
    assert main(["train", "tabular", "--data", "people.csv", *flags, "--run", "run"]) == 0
    run = aejax.open_run("run", with_data=True)
    assert list(run.experiment.train.found.columns) == ["height", "weight"]
    rows = json.loads(Path("run/eval.json").read_text())["columns"]["columns"]
    assert [row["column"] for row in rows] == ["height", "weight"]
    x = aejax.data.open_split(aejax.data.read_as("people.csv:test", {"missing": "mask"}))
    values, restored = np.asarray(x.arrays["x"], np.float64), run.reconstruct(run.experiment.test)
    np.testing.assert_allclose(rows[0]["mean"], values[:, 0].mean(), rtol=1e-5)
    np.testing.assert_allclose(rows[0]["sd"], values[:, 0].std(), rtol=1e-4)
    error = np.sqrt(np.mean((values[:, 0] - restored[:, 0]) ** 2))
    np.testing.assert_allclose(rows[0]["rmse"], error, rtol=1e-3)
    np.testing.assert_allclose(rows[0]["r2"], 1 - error**2 / values[:, 0].var(), atol=1e-3)
    assert "Columns of the test split" in Path("run/report.html").read_text()
    assert main(["encode", "run", "people.csv", "codes.csv"]) == 0


def test_a_table_is_inspected_by_column(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [f"{i},{'' if i == 4 else 2 * i}" for i in range(12)]
    Path("t.csv").write_text("\n".join(["first,second", *rows]) + "\n")
    assert main(["data", "inspect", "t.csv", "--missing", "mask"]) == 0
    out = capsys.readouterr().out
    assert "column first: " in out
    assert re.search(r"column second: .*, 1 missing", out)
    assert "nan" not in out


def test_a_column_of_bytes_is_refused(tmp_path):
    parquet.write_table(pa.table({"a": [1.0, 2.0], "label": [b"\x8a", b"\xff"]}), tmp_path / "t.parquet")
    assert "has bytes in its column label" in refusal(load, str(tmp_path / "t.parquet"))
