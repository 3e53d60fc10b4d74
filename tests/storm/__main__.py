"""A storm of kills, damage and strange input: python tests/storm [KIND ...] [--minutes 5] [--seed 0] [--table FILE.md]

Each case is drawn from the seed and its own number, so that `--only NUMBER` plays it again. A case that fails is reduced: parts
of it are left out as long as it still fails.
"""

import argparse
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
WORKERS = 2


class Kind(NamedTuple):
    """A kind of case."""

    about: str
    whole: int
    """Cases in a whole storm."""
    share: float
    """Part of the time of a short storm."""
    each: int = 1
    """Inputs in one case."""
    seconds: float = 60.0
    """Longest time without a word from a case."""


KINDS = {
    "kills": Kind("runs, groups and pairs of processes killed, and resumed to the same bits", 300, 0.7, seconds=240),
    "signals": Kind("Ctrl-C, SIGTERM and SIGHUP at any moment: one line, exit code 128 + n", 120, 0.06),
    "tampering": Kind("files of runs changed: refused in one line, or the same result", 500, 0.1, seconds=120),
    "arguments": Kind("odd arguments of every experiment: trained, or refused in one line", 2000, 0.08, seconds=120),
    "files": Kind("odd data files: read, or refused in one line", 20_000, 0.06, each=500, seconds=600),
}


class Tally(NamedTuple):
    cases: int
    failures: list[str]
    outcomes: dict[str, int]
    seconds: float


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="tests/storm", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "kinds", nargs="*", choices=[[], *KINDS], metavar="KIND", help=f"one of {', '.join(KINDS)}; by default all"
    )
    parser.add_argument("--minutes", type=float, help="stop after this time; by default every case is played")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="play one case, here")
    parser.add_argument(
        "--table", type=Path, help="a Markdown file, in which the table between its markers is replaced"
    )
    wanted = parser.parse_args()
    kinds = wanted.kinds or list(KINDS)
    if wanted.only is not None:
        return subprocess.call([*worker(kinds[0], wanted.seed, 0, 1), "--only", str(wanted.only)])
    rows = {}
    total = sum(KINDS[name].share for name in kinds)
    for name in kinds:
        seconds = None if wanted.minutes is None else 60 * wanted.minutes * KINDS[name].share / total
        rows[name] = tally = play(name, wanted.seed, seconds)
        print(
            f"{name}: {tally.cases * KINDS[name].each} in {tally.seconds:.0f} s, {tally.outcomes}, {len(tally.failures)} failures"
        )
        for failure in tally.failures:
            print(f"  {failure}")
    if wanted.table is not None:
        write_table(wanted.table, rows, wanted.seed)
    return 1 if any(tally.failures for tally in rows.values()) else 0


def play(name: str, seed: int, seconds: float | None) -> Tally:
    """Plays the cases of one kind in several processes; one that hangs or dies is replaced."""
    kind, began = KINDS[name], time.monotonic()
    cases = kind.whole // kind.each
    players = [Player(name, seed, i, cases) for i in range(WORKERS)]
    failures: list[str] = []
    outcomes: dict[str, int] = {}
    done = 0
    while any(player.going for player in players):
        for player in players:
            for event in player.events(kind.seconds):
                if "failure" in event:
                    replay = f"python tests/storm {name} --seed {seed} --only {event['case']}"
                    failures.append(f"{replay}: {event['failure']}")
                done += 1
                for outcome, n in event["outcomes"].items():
                    outcomes[outcome] = outcomes.get(outcome, 0) + n
        if seconds is not None and time.monotonic() - began > seconds:
            for player in players:
                player.stop()
            break
    return Tally(done, failures, outcomes, time.monotonic() - began)


class Player:
    """A process that plays every WORKERS-th case."""

    def __init__(self, name: str, seed: int, first: int, cases: int) -> None:
        self._name, self._seed, self._next, self._cases = name, seed, first, cases
        self.going = first < cases
        if self.going:
            self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [*worker(self._name, self._seed, self._next, self._cases)], stdout=subprocess.PIPE, env=environment()
        )
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._process.stdout, selectors.EVENT_READ)
        self._heard, self._rest = time.monotonic(), b""

    def stop(self) -> None:
        if self.going:
            self._process.kill()
            self._process.wait()
            self.going = False

    def events(self, seconds: float) -> Iterator[dict]:
        """What has been played since the last call."""
        if not self.going:
            return
        assert self._process.stdout is not None
        if self._selector.select(0.05):
            content = self._process.stdout.read() or b""
            self._heard = time.monotonic()
            *lines, self._rest = (self._rest + content).split(b"\n")
            for line in lines:
                event = json.loads(line)
                if "case" in event:
                    self._next = event["case"] + WORKERS
                    yield event
        code = self._process.poll()
        hangs = time.monotonic() - self._heard > seconds
        if code is None and not hangs:
            return
        if code == 0:
            self.going = False
            return
        self.stop()
        how = f"no answer within {seconds:.0f} s" if hangs else f"the process died with {code}"
        yield {"case": self._next, "failure": how, "outcomes": {}}
        self._next += WORKERS
        self.going = self._next < self._cases
        if self.going:
            self._start()


def worker(name: str, seed: int, first: int, cases: int) -> list[str]:
    return [sys.executable, str(HERE / "worker.py"), name, str(seed), str(first), str(cases)]


def environment() -> dict[str, str]:
    """Programs that are compiled quickly."""
    flags = "--xla_backend_optimization_level=1 --xla_cpu_use_fusion_emitters=false"
    return {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}


def write_table(file: Path, rows: dict[str, Tally], seed: int) -> None:
    """Puts rows into the table between the markers; those of kinds that were not played stay."""
    begin, end = "<!-- storm -->", "<!-- end of storm -->"
    before, rest = file.read_text().split(begin)
    inside, after = rest.split(end)
    written = {
        line.split(":")[0].strip("| "): line for line in inside.splitlines() if line.startswith("| ") and ":" in line
    }
    for name, tally in rows.items():
        shown = ", ".join(f"{n} {outcome}" for outcome, n in sorted(tally.outcomes.items(), key=lambda pair: -pair[1]))
        n, day = tally.cases * KINDS[name].each, time.strftime("%Y-%m-%d")
        about = f"{name}: {KINDS[name].about}"
        written[name] = (
            f"| {about} | {n} | {len(tally.failures)} | {tally.seconds:.0f} | {shown} | seed {seed}, {day} |"
        )
    lines = ["| | cases | failures | seconds | outcomes | |", "|---|---|---|---|---|---|"]
    lines += [written[name] for name in KINDS if name in written]
    file.write_text("\n".join([f"{before}{begin}", "", *lines, "", f"{end}{after}"]))


if __name__ == "__main__":
    sys.exit(main())
