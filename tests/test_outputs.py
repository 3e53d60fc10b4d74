"""What encode, reconstruct and sample write: the same numbers in any form, rows and images under the names of their files."""

import numpy as np
import pytest
from PIL import Image
from pyarrow import csv, parquet

from aejax.cli import main

QUICK = ["--steps", "2", "--hidden", "4", "--batch-size", "8", "--no-evaluate", "--no-verbose"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve images in two class folders, and runs on them."""
    folder = tmp_path_factory.mktemp("outputs")
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / "photos" / name).mkdir(parents=True)
        for i in range(6):
            Image.fromarray(rng.integers(0, 256, (4, 5), np.uint8)).save(folder / "photos" / name / f"{name}{i}.png")
    photos = ["--data", str(folder / "photos")]
    assert main(["train", "dae", *photos, *QUICK, "--latent", "3", "--run", str(folder / "dae")]) == 0
    assert main(["train", "vae", *photos, *QUICK, "--latent", "2", "--run", str(folder / "vae")]) == 0
    return folder


NAMES = [f"{name}/{name}{i}.png" for name in ("cat", "dog") for i in range(6)]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_codes_in_a_table_are_those_of_the_array_under_their_files_names(folder, suffix, tmp_path):
    run, photos, out = str(folder / "dae"), str(folder / "photos"), tmp_path / f"codes.{suffix}"
    assert main(["encode", run, photos, str(tmp_path / "codes.npy")]) == 0
    assert main(["encode", run, photos, str(out)]) == 0
    delimiter = csv.ParseOptions(delimiter="\t" if suffix == "tsv" else ",")
    table = parquet.read_table(out) if suffix == "parquet" else csv.read_csv(out, parse_options=delimiter)
    assert table.column("file").to_pylist() == NAMES
    codes = np.stack([table.column(str(i)).to_numpy() for i in range(3)], axis=1)
    np.testing.assert_allclose(codes, np.load(tmp_path / "codes.npy"), rtol=1e-6)


def test_reconstructions_in_a_folder_are_those_of_the_array(folder, tmp_path):
    run, photos = str(folder / "dae"), str(folder / "photos")
    assert main(["reconstruct", run, photos, str(tmp_path / "x.npy")]) == 0
    assert main(["reconstruct", run, photos, str(tmp_path / "restored")]) == 0
    assert sorted(file.name for file in (tmp_path / "restored").iterdir()) == [n.replace("/", "-") for n in NAMES]
    for name, image in zip(NAMES, np.load(tmp_path / "x.npy")):
        pixels = np.asarray(Image.open(tmp_path / "restored" / name.replace("/", "-")))
        np.testing.assert_array_equal(pixels, np.round(255 * image[:, :, 0]))


def test_samples_in_a_folder_are_numbered_and_replaced_whole(folder, tmp_path):
    run, out = str(folder / "vae"), tmp_path / "samples"
    assert main(["sample", run, str(out), "--n", "12"]) == 0
    assert sorted(file.name for file in out.iterdir()) == [f"{i:02}.png" for i in range(12)]
    assert main(["sample", run, str(out), "--n", "3"]) == 2
    assert main(["sample", run, str(out), "--n", "3", "--overwrite"]) == 0
    assert sorted(file.name for file in out.iterdir()) == ["0.png", "1.png", "2.png"]
    (out / "notes.txt").touch()
    assert main(["sample", run, str(out), "--overwrite"]) == 2
    assert (out / "notes.txt").exists()


def test_what_a_folder_of_images_cannot_hold_is_refused(folder, tmp_path, capsys):
    assert main(["encode", str(folder / "dae"), str(folder / "photos"), str(tmp_path / "codes")]) == 2
    assert "a folder holds images" in capsys.readouterr().err
    assert main(["encode", str(folder / "dae"), str(folder / "photos"), str(tmp_path / "codes.txt")]) == 2
    assert "the output is a .npy, .csv, .tsv, .parquet file, or a folder" in capsys.readouterr().err


@pytest.mark.parametrize(("scale", "shift", "stored"), [(1.0, 0.0, np.uint8), (2.0, -1.0, np.float32)])
def test_signals_in_a_folder_are_wav_files(tmp_path, scale, shift, stored):
    """Of bytes as 8 bits, around 128; of numbers from −1 to 1 as they are."""
    from scipy.io import wavfile

    signals = scale * np.random.default_rng(0).random((12, 32, 1), np.float32) + shift
    signals[0, :2, 0] = shift, scale + shift
    np.save(tmp_path / "signals.npy", signals)
    run, out = tmp_path / "run", tmp_path / "restored"
    flags = ["--hidden", "4", "--latent", "2", "--steps", "2", "--batch-size", "8", "--no-evaluate", "--no-verbose"]
    assert main(["train", "conv_vae", "--data", str(tmp_path / "signals.npy"), *flags, "--run", str(run)]) == 0
    source = str(tmp_path / "signals.npy")
    assert main(["reconstruct", str(run), source, str(out), "--sample-rate", "8000"]) == 0
    assert main(["reconstruct", str(run), source, str(tmp_path / "x.npy")]) == 0
    expected = np.clip(np.load(tmp_path / "x.npy")[:, :, 0], shift, scale + shift)
    for i in range(12):
        rate, samples = wavfile.read(out / f"{i:02}.wav")
        assert (rate, samples.dtype) == (8000, stored)
        np.testing.assert_allclose(samples / (255 if stored == np.uint8 else 1), expected[i], atol=0.002)
