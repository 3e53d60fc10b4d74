"""The command that searches for hyperparameters: sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_type_hints

from aejax.cli.flags import parse
from aejax.cli.start import reading, start
from aejax.cli.training import conclude_group, cores, default_directory, given_and_source, named_experiment, spelled_out
from aejax.cli.varying import seeds_from, space_of
from aejax.training.search import search
from aejax.training.settings import Settings

USAGE = """usage: aejax sweep NAME|FILE.py --space lr=1e-4..1e-2:log latent=4..64 hidden=256,512x256 [--trials N] [--flag ...]

Optuna proposes values of the experiment's arguments, and the monitored term on the validation split judges them, lowest best.
The directory holds a group of runs per trial; `aejax resume` continues the search. `aejax sweep dae --help` lists all flags.
"""


def sweep(args: list[str]) -> int:
    if args and args[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    file, module, function = named_experiment("sweep", args)

    def flags(
        space: tuple[str, ...] = (),
        trials: int = 20,
        seeds: int = 1,
        run: Path | None = None,
        evaluate: Literal["full", "quick", "none"] = "full",
        overwrite: bool = False,
    ) -> None:
        """
        Args:
            space: The arguments to search over: NAME=LOW..HIGH for a number, NAME=LOW..HIGH:log on a logarithmic scale, or
                NAME=VALUE,VALUE,… for anything, as in --space lr=1e-4..1e-2:log latent=4..64 hidden=256,512x256.
            trials: Number of trials.
            seeds: Number of seeds, from --seed on, that every trial trains in one program; their mean counts.
            run: Directory of the search; by default a folder in runs/.
            evaluate: Evaluate the best trial and write its report, as in `aejax train`.
            overwrite: Replace the directory if it exists.
        """

    arguments, wanted, how, chosen = parse(
        f"aejax sweep {args[0]}",
        [function, flags, reading, Settings],
        spelled_out(args[1:]),
        description=module.__doc__ or "",
    )
    settings = Settings(**chosen)
    space = space_of(wanted["space"], arguments, get_type_hints(function))
    seeds = seeds_from(arguments["seed"], wanted["seeds"])
    automatic = 1 if len(seeds) == 1 else cores()
    start(automatic if settings.devices is None else settings.devices, settings.deterministic)
    directory = wanted["run"] or default_directory(file, arguments, f"{wanted['trials']}trials")
    given, source = given_and_source(file, module, arguments, how)
    best = search(
        function, given, space, directory, wanted["trials"], seeds, settings, source, overwrite=wanted["overwrite"]
    )
    conclude_group(directory, best, wanted["evaluate"])
    return 0
