"""The floors of the house: a file imports only from floors below its own, and within a package there is no circle."""

import ast
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

FLOORS = [
    {"errors", "files", "signals", "supervision", "keys", "described", "types", "collectives", "kernels", "optimizers"},
    {"nets", "data"},
    {"objective"},
    {"models", "runs", "figures"},
    {"training", "evaluation", "onnx"},
    {"samplers", "exchange", "reports", "sklearn"},
    {"cli", "__init__"},
    {"__main__"},
]
FLOOR = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
GROUND = [
    "errors",
    "files",
    "signals",
    "supervision",
    "keys",
    "described",
    "types",
    "collectives",
    "kernels",
    "optimizers",
]
"""Rooms of the lowest floor, which may import those before them."""


ROOT = Path(__file__).parent.parent
MODULES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for file in (ROOT / "aejax").rglob("*.py")
}


def imports(file: Path) -> set[str]:
    """Every module that the file imports, at its top or within a function."""
    modules = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            # Of a package whose modules alone are taken, its own `__init__` is not used.
            modules |= names if names <= MODULES else {node.module, *names}
    return modules


def module_of(file: Path, root: Path) -> str:
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def graph(root: Path) -> dict[str, set[str]]:
    """Module of the package -> the modules of the package that it imports."""
    files = {module_of(file, root): file for file in sorted((root / "aejax").rglob("*.py"))}
    return {module: (imports(file) & files.keys()) - {module} for module, file in files.items()}


def test_imports_go_down(root):
    for module, imported in graph(root).items():
        room = module.split(".")[1] if "." in module else "__init__"
        assert room in FLOOR, f"{module} stands on no floor: add it to FLOORS"
        for other in imported:
            below = other.split(".")[1] if "." in other else "__init__"
            if below == room:
                continue
            lower = FLOOR[below] < FLOOR[room]
            grounded = below in GROUND and room in GROUND and GROUND.index(below) < GROUND.index(room)
            assert lower or grounded, f"{module} imports {other}, which is not below it"


def test_no_circle_of_imports(root):
    """Within packages too: a module is reached again by none of those that it imports. A package's own `__init__`, which gives
    the names of its modules, counts only where it is imported from within by name."""
    remaining = {module: set(imported) for module, imported in graph(root).items()}
    while remaining:
        free = {module for module, imported in remaining.items() if not imported & remaining.keys()}
        assert free, f"a circle among {', '.join(sorted(remaining))}"
        remaining = {module: imported for module, imported in remaining.items() if module not in free}


def test_no_file_is_too_long(root):
    """A file can be read from top to bottom, a family at one sitting. Examples in docstrings do not count."""
    for file in (root / "aejax").rglob("*.py"):
        most = 200 if file.parent.name == "models" else 400
        lines = len(re.sub(r"\n +Example:\n(.+\n)+?(?= *(\n|\"\"\"))", "", file.read_text()).splitlines())
        assert lines <= most, f"{file} has {lines} lines, more than {most}"


def test_every_import_is_declared(root):
    """In dependencies, or in an extra where it is imported if it is there; the benchmarks' peers come with their own."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    everywhere = project["dependencies"]
    extras = ("tensorboard", "trackio", "wandb", "mlflow", "export", "onnx", "sweep")
    optional = [r for extra in extras for r in project["optional-dependencies"][extra]]
    distributions = packages_distributions()
    for folder, requirements in (("aejax", everywhere + optional), ("experiments", everywhere)):
        declared = {_normal(re.match(r"[\w.-]+", requirement)[0]) for requirement in requirements}
        for file in sorted((root / folder).rglob("*.py")):
            if "benchmarks" in file.parts:
                continue
            beside = {sibling.stem for sibling in file.parent.glob("*.py")}
            for package in {module.split(".")[0] for module in imports(file)} - {
                "aejax",
                *sys.stdlib_module_names,
                *beside,
            }:
                # A package of an extra that is not installed here is known by its name.
                found = {_normal(d) for d in distributions.get(package, [])} or {
                    d for d in declared if d.startswith(_normal(package))
                }
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
