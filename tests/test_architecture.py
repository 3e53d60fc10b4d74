"""The floors of the house: a file imports only from floors below its own."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

FLOORS = [
    {"errors"},
    {"types", "keys", "collectives", "activity", "arguments"},
    {"corrupt", "likelihoods", "nets"},
    {"penalties", "bottlenecks", "posteriors", "rates", "quantize", "gaps"},
    {"priors", "couplings"},
    {"models"},
    {"step", "data", "checkpoint", "experiment", "processes", "metrics_log", "progress", "signals", "flags"},
    {"directory"},
    {"run"},
    {"loop", "cost"},
    {"train", "evaluate", "vmapped"},
    {"members", "summary", "samplers"},
    {"study"},
    {"report"},
    {"cli", "__init__"},
    {"__main__"},
]
FLOOR = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}


def imports(file: Path) -> set[str]:
    """Every module that the file imports, at its top or within a function."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_imports_go_down(root):
    for file in sorted((root / "aejax").rglob("*.py")):
        room = file.relative_to(root / "aejax").parts[0].removesuffix(".py")
        assert room in FLOOR, f"{file} stands on no floor: add it to FLOORS"
        for module in imports(file):
            parts = module.split(".")
            if parts[0] == "aejax" and len(parts) > 1 and parts[1] in FLOOR and parts[1] != room:
                assert FLOOR[parts[1]] < FLOOR[room], f"{file.name} imports {module}, which is not below it"


def test_every_import_is_declared(root):
    """In dependencies, or in an extra where it is imported if it is there; the benchmarks' peers come with their own."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    everywhere, optional = project["dependencies"], project["optional-dependencies"]["tensorboard"]
    distributions = packages_distributions()
    for folder, requirements in (("aejax", everywhere + optional), ("experiments", everywhere)):
        declared = {_normal(re.match(r"[\w.-]+", requirement)[0]) for requirement in requirements}
        for file in sorted((root / folder).rglob("*.py")):
            if "benchmarks" in file.parts:
                continue
            for package in {module.split(".")[0] for module in imports(file)} - {"aejax", *sys.stdlib_module_names}:
                found = {_normal(d) for d in distributions.get(package, [])}
                assert found & declared, f"{file.name} imports {package}: declare it in pyproject.toml"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_models_know_nothing_of_training_data_or_files(root):
    for file in (root / "aejax" / "models").glob("*.py"):
        for module in imports(file):
            assert module.split(".")[0] not in ("optax", "tensorflow_datasets", "orbax"), (
                f"{file.name} imports {module}"
            )


def test_experiments_use_the_public_rooms_only(root):
    for file in (root / "experiments").glob("*.py"):
        for module in imports(file):
            assert "._" not in module, f"{file.name} imports {module}"
