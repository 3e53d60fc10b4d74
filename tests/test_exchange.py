"""A run that is exported and imported is the same model, and a folder that is damaged or foreign is refused."""

import json
import shutil

import numpy as np
import pytest
from safetensors import numpy as safetensors

from aejax.cli import main
from aejax.exchange import export_run, import_run
from aejax.runs.opening import open_run
from tiny import refusal

QUICK = ["--steps", "3", "--batch-size", "16", "--no-verbose"]
RUNS = {
    "dae": ["--hidden", "8", "--latent", "4"],
    "vae": ["--hidden", "8", "--latent", "2"],
    "vqvae": ["--codes", "8", "--width", "4", "--hidden", "4", "--blocks", "0", "--no-evaluate"],
}


@pytest.fixture(scope="module", params=RUNS)
def exported(request, tmp_path_factory):
    """A run and its exported folder."""
    folder = tmp_path_factory.mktemp("exchange")
    run, out = folder / request.param, folder / f"{request.param}-shared"
    assert main(["train", request.param, *QUICK, *RUNS[request.param], "--run", str(run)]) == 0
    assert main(["export", str(run), str(out)]) == 0
    return run, out


def test_an_imported_run_is_the_same_model(exported, tmp_path):
    run, folder = exported
    assert main(["import", str(folder), str(tmp_path / "imported")]) == 0
    ours, theirs = open_run(run, with_data=True), open_run(tmp_path / "imported", with_data=True)
    np.testing.assert_array_equal(theirs.encode("digits:test[:20]"), ours.encode("digits:test[:20]"))
    np.testing.assert_array_equal(theirs.reconstruct("digits:test[:20]"), ours.reconstruct("digits:test[:20]"))
    assert main(["verify", str(tmp_path / "imported")]) == 0


def test_a_model_without_samples_says_how_it_generates(exported, tmp_path, capsys):
    run, _ = exported
    hints = {"dae": "--fit-mixture 10", "vqvae": f"aejax train vq_prior --parent {run}"}
    if run.name in hints:
        assert main(["sample", str(run), str(tmp_path / "samples.npy")]) == 2
        assert hints[run.name] in capsys.readouterr().err


def test_the_weights_are_named_by_their_path(exported):
    run, folder = exported
    weights = safetensors.load_file(folder / "weights.safetensors")
    params = open_run(run).params
    assert {name.split("/")[1] for name in weights if name.startswith("params/")} <= set(params)
    first = next(iter(params["decoder"]))
    np.testing.assert_array_equal(weights[f"params/decoder/{first}/kernel"], params["decoder"][first]["kernel"])


def test_the_card_has_the_command_the_numbers_and_the_pictures(exported):
    run, folder = exported
    card = (folder / "README.md").read_text()
    assert f"aejax train {run.name}" in card
    if (run / "eval.json").exists():
        assert (
            "![reconstruction](figures/reconstruction.png)" in card or "![restoration](figures/restoration.png)" in card
        )
        assert "| reconstruction MSE, per dimension |" in card
    for picture in [line.split("(")[1].rstrip(")") for line in card.splitlines() if line.startswith("![")]:
        assert (folder / picture).exists()


def test_what_is_damaged_or_foreign_is_refused(exported, tmp_path):
    run, folder = exported
    weights = safetensors.load_file(folder / "weights.safetensors")
    name = next(iter(weights))

    def of(change):
        copy = shutil.copytree(folder, tmp_path / str(len(list(tmp_path.iterdir()))))
        change(copy)
        return refusal(import_run, copy, tmp_path / "imported")

    def rewritten(changed):
        return lambda copy: safetensors.save_file(changed, copy / "weights.safetensors")

    assert "other numbers" in of(rewritten({**weights, name: weights[name] + 1}))
    assert f"lacks {name}" in of(rewritten({n: w for n, w in weights.items() if n != name}))
    assert "holds params/more" in of(rewritten({**weights, "params/more": np.zeros(2, np.float32)}))
    assert f"holds {name} as float64" in of(rewritten({**weights, name: weights[name].astype(np.float64)}))
    assert "cannot be read" in of(lambda copy: (copy / "weights.safetensors").write_bytes(b"no"))
    assert "cannot be read" in of(lambda copy: (copy / "weights.safetensors").unlink())
    assert "not that of a run exported" in of(lambda copy: (copy / "config.json").write_text(json.dumps({"format": 7})))
    assert "not an empty folder" in refusal(export_run, open_run(run), folder)
    assert "choose another run directory" in refusal(import_run, folder, run)
