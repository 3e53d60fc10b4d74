"""Sweeps over arguments that shape the program, and searches: they resume to the bits they would have had."""

import json
from pathlib import Path

import pytest

import aejax
from aejax.cli import main
from aejax.models import autoencoder
from aejax.nets import MLP
from aejax.objective import bernoulli
from aejax.runs.directory import finished_in, read_config, read_sweep
from aejax.training.callbacks import pruning
from aejax.training.search import Range, search
from tiny import refusal

SMALL = ["--batch-size", "16", "--log-every", "5", "--save-every", "5", "--steps", "10"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def digests(directory):
    """Name of a run -> digest of its result."""
    runs = finished_in(Path(directory))
    return {str(run.relative_to(directory)): json.loads((run / "result.json").read_text())["digest"] for run in runs}


def killed_before(monkeypatch, module, folder):
    """The next group that would be trained in a folder of this name is not: the process is killed before."""
    train_group = module.train_group

    def train(function, arguments, chosen, together, directory, *more):
        if directory.name == folder:
            raise KeyboardInterrupt
        return train_group(function, arguments, chosen, together, directory, *more)

    monkeypatch.setattr(module, "train_group", train)


SWEPT = ["train", "ae", *SMALL, "--sweep", "hidden=6,8x4", "lr=1e-2,1e-3", "--seeds", "2", "--latent", "3"]


def test_a_sweep_trains_every_combination_and_resumes_to_the_same_bits(monkeypatch, capsys, tmp_path):
    import aejax.training.grids

    assert main([*SWEPT, "--evaluate", "quick", "--run", "whole"]) == 0
    out = capsys.readouterr().out
    runs = digests("whole")
    groups = ["hidden6", "hidden8x4"]
    members = ["lr0.01-seed0", "lr0.01-seed1", "lr0.001-seed0", "lr0.001-seed1"]
    assert list(runs) == [f"{group}/{member}" for group in groups for member in members]
    assert len(set(runs.values())) == 8
    for run in runs:
        shapes = aejax.open_run(Path("whole") / run).state.params["encoder"]
        widths = [shapes[name]["kernel"].shape[1] for name in sorted(shapes) if name.startswith("dense")]
        assert run.split("/")[0] == "hidden" + "x".join(map(str, widths[:-1]))

    # The ranking is by the mean over seeds on the validation split, and names the best run.
    summary = json.loads(Path("whole/summary.json").read_text())["settings"]
    best = min(summary, key=lambda setting: setting["metrics"]["validation/nll"]["mean"])["varied"]
    first = next(line for line in out.splitlines() if line.startswith("1. "))
    assert f"hidden {'x'.join(map(str, best['hidden']))}, lr {best['lr']:g}" in first
    assert len(summary) == 4
    assert Path("whole/report.html").exists()

    killed_before(monkeypatch, aejax.training.grids, "hidden8x4")
    assert main([*SWEPT, "--no-evaluate", "--run", "cut"]) == 130
    assert len(digests("cut")) == 4
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert main(["resume", "cut", "--no-evaluate"]) == 0
    assert digests("cut") == runs
    capsys.readouterr()
    assert main(["verify", "cut"]) == 0
    assert capsys.readouterr().out.count("same digest") == 8
    assert main(["evaluate", "cut", "--quick"]) == 0


def test_the_config_of_a_swept_run_is_that_of_its_own_command():
    assert main(["train", "ae", *SMALL, "--sweep", "latent=2,3", "--hidden", "4", "--no-evaluate", "--run", "s"]) == 0
    config = read_config(Path("s/latent3/seed0"))
    assert config["member"] == {"latent": 3, "seed": 0}
    assert config["source"]["arguments"]["latent"] == 3


SEARCH = ["sweep", "dae", *SMALL, "--trials", "3", "--seeds", "2"]
SPACE = ["--space", "lr=1e-4..1e-1:log", "latent=2..6", "hidden=6,8x4", "rate=0..0.5"]


def test_an_interrupted_search_has_the_trials_that_it_would_have_had(monkeypatch, capsys, tmp_path):
    import aejax.training.search

    assert main([*SEARCH, *SPACE, "--run", "whole", "--evaluate", "quick"]) == 0
    out = capsys.readouterr().out
    varied = [read_config(run)["member"] for run in finished_in(Path("whole"))]
    for member in varied:
        assert 1e-4 <= member["lr"] <= 1e-1
        assert member["latent"] in range(2, 7)
        assert 0 <= member["rate"] <= 0.5
        assert member["hidden"] in ([6], [8, 4])
    assert len({tuple(map(str, member.values())) for member in varied}) == 6
    best = out.split("1. ")[1].split("  ")[1].split()[0]
    assert best in out
    assert Path(best, "eval.json").exists()
    assert sum((run / "eval.json").exists() for run in finished_in(Path("whole"))) == 2

    killed_before(monkeypatch, aejax.training.search, "trial0002")
    assert main([*SEARCH, *SPACE, "--run", "cut", "--no-evaluate"]) == 130
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert main(["resume", "cut", "--no-evaluate"]) == 0
    assert digests("cut") == digests("whole")
    assert main(["resume", "cut", "--no-evaluate", "--trials", "4"]) == 0
    assert list(digests("cut"))[:6] == list(digests("whole"))
    assert len(digests("cut")) == 8


def test_a_trial_that_diverges_counts_as_the_worst(capsys):
    assert main(["sweep", "ae", *SMALL, "--trials", "3", "--space", "lr=1e38,1e-3", "--no-evaluate", "--run", "s"]) == 0
    captured = capsys.readouterr()
    assert "diverged" in captured.err
    assert {read_config(run)["member"]["lr"] for run in finished_in(Path("s"))} == {1e-3}
    assert len(read_sweep(Path("s"))["groups"]) == 3


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train", "ae", "--sweep", "latent=2,x"], "'x' is not one of its values (int)"),
        (["train", "ae", "--sweep", "width=2,3"], "no argument width to vary"),
        (["train", "ae", "--sweep", "latent=2,2"], "latent has a value twice"),
        (["train", "dae", "--sweep", "likelihood=bernoulli,gauss"], "'gauss' is not one of its values (bernoulli"),
        (["train", "ae", "--sweep", "hidden=0,4"], "each number in hidden must be at least 1"),
        (["sweep", "ae"], "write for example --space"),
        (["sweep", "ae", "--space", "lr=1e-2..1e-4"], "from a lower to a higher number"),
        (["sweep", "ae", "--space", "lr=0..1:log"], "with log from above 0"),
        (["sweep", "ae", "--space", "hidden=2..4"], "write LOW..HIGH or LOW..HIGH:log for a number"),
        (["sweep", "ae", "--space", "latent=4"], "at least two different values"),
        (["sweep", "dae", "--space", "rate=0..1.5"], "masking(rate=1.5)"),
        (["sweep", "ae", "--space", "seed=1,2"], "write --seeds N"),
        (["sweep", "ae", "--trials", "0", "--space", "lr=1e-4..1e-2"], "--trials 0: it must be at least 1"),
        (["sweep"], "which experiment?"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_one_line(args, message, capsys):
    assert main([*args, "--run", "refused"] if len(args) > 1 else args) == 2
    assert message in capsys.readouterr().err
    assert not Path("refused").exists()


def test_the_test_split_does_not_choose():
    train, test = aejax.load("digits")
    model = autoencoder(MLP((16,), 8), MLP((16,), train.shape), bernoulli())
    arguments = {"data": "digits", "lr": 1e-3, "seed": 0, "steps": 1, "batch_size": 16}

    def without_validation(data, lr, seed, steps, batch_size):
        return aejax.fit(model, (train, test), lr, batch_size, steps, seed)

    message = refusal(search, without_validation, arguments, {"lr": Range(1e-4, 1e-2)}, Path("refused"), 2)
    assert "has no validation split, and the test split must not choose" in message
    assert not Path("refused").exists()


def test_optuna_prunes_a_run_through_the_callback():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    splits = aejax.load("digits", aejax.usual_splits("digits"))
    pruner = optuna.pruners.ThresholdPruner(upper=30.0)
    study = optuna.create_study(sampler=optuna.samplers.GridSampler({"lr": [1e-6, 1e-2]}, seed=0), pruner=pruner)

    def objective(trial):
        lr = trial.suggest_float("lr", 1e-6, 1e-2)
        model = autoencoder(MLP((16,), 8), MLP((16,), splits[0].shape), bernoulli())
        experiment = aejax.fit(model, splits, lr, steps=60)
        settings = aejax.Settings(save_every=20, verbose=False)
        run = aejax.train(experiment, f"runs/{trial.number}", settings, callbacks=[pruning(trial, "nll")])
        steps, nll = run.history["validation"]["nll"]
        trial.set_user_attr("steps", int(steps[-1]))
        if trial.should_prune():
            raise optuna.TrialPruned
        return float(nll[-1])

    study.optimize(objective, 2)
    by_lr = {trial.params["lr"]: trial for trial in study.trials}
    assert by_lr[1e-6].state.name == "PRUNED"
    assert by_lr[1e-6].user_attrs["steps"] == 20
    assert by_lr[1e-2].state.name == "COMPLETE"
    assert by_lr[1e-2].user_attrs["steps"] == 60
