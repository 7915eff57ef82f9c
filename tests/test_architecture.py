"""The import rules hold: every import of every module is looked at, those inside functions and for types too."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks import code

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "diffusers", "transformers", "peft", "accelerate", "torchvision")
LONGEST_FILE, LONGEST_FUNCTION = 300, 80  # lines
MOST_WITH_ANY = 0.05  # of all functions
VALUES = {"errors", "events", "settings", "requests"}
PRIMITIVES = {*VALUES, "machine", "families", "prompts", "images", "library", "queue"}

# What a package may import, of its own side. A module named with its package is allowed alone. `ui` may import any of
# `pipelines`; never the other way round.
MAY_IMPORT = {
    "pipelines.errors": set(),
    "pipelines.events": set(),
    "pipelines.passwords": {"errors"},
    "pipelines.settings": {"errors", "passwords"},
    "pipelines.requests": {"errors"},
    "pipelines.machine": {"errors"},
    "pipelines.diffusion": {"errors"},
    "pipelines.queue": {"errors", "events", "requests"},
    "pipelines.families": {"errors"},
    "pipelines.prompts": {"errors", "requests", "families", "machine.locks"},
    "pipelines.images": {"errors", "requests"},
    "pipelines.metadata": {"errors", "requests", "settings", "images.files", "images.slots"},
    "pipelines.library": {"errors", "settings", "families", "images", "machine.locks"},
    "pipelines.downloads": {"errors", "families", "library"},
    "pipelines.adapters": {"errors", "requests", "families", "library", "prompts"},
    "pipelines.models": {"errors", "settings", "machine", "families", "library", "adapters.layer_names"},
    "pipelines.generation": {*VALUES, "machine", "queue.control", "diffusion", "families", "prompts", "images",
                             "models"},
    "pipelines.sweeps": {"errors", "requests", "metadata", "prompts"},
    "pipelines.history": {"errors", "events", "metadata", "machine.locks"},
    "pipelines.training": {*PRIMITIVES, "diffusion", "metadata", "adapters", "models", "generation"},
    "pipelines.lab": {*PRIMITIVES, "diffusion", "metadata", "adapters", "models", "generation", "training.dataset",
                      "demo"},
    "pipelines.engine": {*PRIMITIVES - {"families"}, "adapters", "models", "generation", "training.dataset", "lab"},
    "pipelines.studio": {*PRIMITIVES - {"machine"}, "metadata", "downloads", "adapters", "generation", "sweeps",
                         "history", "training", "lab", "engine", "demo.words"},
    "pipelines.demo": {"diffusion"},
    "ui.tooltips": set(),
    "ui.language": {"tooltips"},
    "ui.wiring": {"language"},
    "ui.static": {"tooltips"},
    "ui.visitors": {"language"},
    "ui.results": {"language", "wiring", "visitors"},
    "ui.tab": {"wiring", "forms", "results", "tabs"},
    "ui.preferences": {"language", "wiring", "tab"},
    "ui.forms": {"language", "wiring", "visitors", "tab", "results", "preferences"},
    "ui.rest": {"wiring", "visitors"},
    "ui.queue_panel": {"language", "wiring", "visitors", "results", "preferences"},
    "ui.server": {"language", "static", "wiring", "visitors"},
    "ui.run": {"wiring", "visitors", "tab", "forms", "results"},
    "ui.tabs": {"language", "wiring", "visitors", "tab", "forms", "results", "run"},
    "ui.shell": {"language", "wiring", "visitors", "tab", "forms", "results", "run", "rest", "preferences",
                 "queue_panel", "server.public_link"},
}


@dataclass(frozen=True)
class Import:
    """One import statement. deferred: it stands inside a function and runs only when that is called."""

    importer: str
    module: str
    line: int
    deferred: bool

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.module}"

    def of(self, *packages: str) -> bool:
        return any(self.module == package or self.module.startswith(package + ".") for package in packages)

    def inside(self, *packages: str) -> bool:
        return any(self.importer == package or self.importer.startswith(package + ".") for package in packages)


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path, source: str | None = None) -> Iterator[Import]:
    """Imports with absolute names; `from x import y` counts as x.y, so that a submodule is seen."""
    name = name_of(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    tree = ast.parse(source if source is not None else path.read_text(encoding="utf-8"))

    def walk(node: ast.AST, deferred: bool, typing: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            inside = deferred or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            only_types = typing or (isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"))
            if isinstance(child, ast.Import):
                yield from (Import(name, alias.name, child.lineno, inside or typing) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                above = package.split(".")[:len(package.split(".")) - child.level + 1] if child.level else []
                base = ".".join([*above, child.module] if child.module else above)
                yield from (Import(name, f"{base}.{alias.name}", child.lineno, inside or typing)
                            for alias in child.names)
            yield from walk(child, inside, only_types)

    yield from walk(tree, False, False)


def sources() -> list[Path]:
    return [path for folder in ("ui", "pipelines") for path in sorted((ROOT / folder).rglob("*.py"))] + [
        path for path in [ROOT / "app.py"] if path.exists()]


@pytest.fixture(scope="module")
def imports() -> list[Import]:
    return [one for path in sources() for one in imports_of(path)]


def package_of(module: str) -> str:
    """The row of the table that a module belongs to."""
    return ".".join(module.split(".")[:2])


def test_the_reader_sees_relative_deferred_and_typing_imports():
    source = ("from . import device\nfrom .errors import ModelError\nimport torch.nn\n"
              "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import gradio\n"
              "def f():\n    from ..ui import tab\n")
    found = [(one.module, one.deferred) for one in imports_of(ROOT / "pipelines" / "x.py", source)]
    assert found == [("pipelines.device", False), ("pipelines.errors.ModelError", False), ("torch.nn", False),
                     ("typing.TYPE_CHECKING", False), ("gradio", True), ("ui.tab", True)]
    inner = list(imports_of(ROOT / "pipelines" / "families" / "__init__.py", "from ..errors import ModelError"))
    assert inner[0].module == "pipelines.errors.ModelError"


def test_the_table_knows_every_package_and_no_other():
    packages = {package_of(name_of(path)) for path in sources()} - {"app", "ui", "pipelines"}
    assert packages == set(MAY_IMPORT)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_the_table_allows(imports, package):
    side = package.split(".")[0]
    allowed = [f"{side}.{name}" for name in MAY_IMPORT[package]]
    assert not [str(one) for one in imports if one.inside(package) and one.of(side) and one.module != side
                and not one.of(package, *allowed)]


def test_every_row_of_the_table_is_used(imports):
    unused = [f"{package}: {name}" for package, names in MAY_IMPORT.items() for name in sorted(names)
              if not any(one.inside(package) and one.of(f"{package.split('.')[0]}.{name}") for one in imports)]
    assert not unused


def test_the_page_never_imports_the_heavy_libraries_or_reaches_for_app(imports):
    assert not [str(one) for one in imports if one.inside("ui") and one.of(*HEAVY, "app", "sqlalchemy")]


def test_the_engine_never_imports_the_page(imports):
    assert not [str(one) for one in imports if one.inside("pipelines") and one.of("gradio", "fastapi", "ui", "app")]


def test_values_queue_and_what_is_kept_import_no_torch(imports):
    modules = [f"pipelines.{name}" for name in (*VALUES, "queue", "metadata", "sweeps", "history", "downloads")]
    assert not [str(one) for one in imports if one.inside(*modules) and one.of(*HEAVY)]


def test_only_the_studio_builds_the_cache_and_the_queue(imports):
    lifetime = ("pipelines.models.cache.PipelineCache", "pipelines.queue.jobs.JobQueue")
    assert not [str(one) for one in imports if one.of(*lifetime) and not one.inside("pipelines.studio")]


@pytest.mark.parametrize("package", ["ui.tabs", "pipelines.families"])
def test_a_tab_never_imports_a_tab_nor_a_family_a_family(imports, package):
    folder = ROOT / Path(*package.split("."))
    shared = {"pipelines.families.family"}
    siblings = {f"{package}.{info.stem}" for info in folder.iterdir()
                if info.stem != "__init__" and (info.is_dir() or info.suffix == ".py")} - shared
    for sibling in siblings:
        assert not [str(one) for one in imports if one.inside(sibling) and one.of(*siblings - {sibling})]


def test_nothing_heavy_is_imported_with_the_package(imports):
    early = [one for one in imports if not one.deferred]
    reached = set()
    waiting = {"pipelines", "pipelines.studio.studio", "pipelines.library.checkpoints", "pipelines.machine.device"}
    known = {name_of(path) for path in sources()}
    while waiting:
        module = waiting.pop()
        reached.add(module)
        for one in early:
            if one.importer == module:
                assert not one.of(*HEAVY), str(one)
                target = one.module if one.module in known else one.module.rpartition(".")[0]
                waiting |= ({target} & known) - reached
    assert "pipelines.errors" in reached


def test_the_page_imports_with_torch_blocked():
    code = ("import sys\nfor name in ('torch', 'diffusers', 'transformers'): sys.modules[name] = None\n"
            "import ui.shell, pipelines.studio.studio")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_tests_mirror_the_tree():
    """Every folder of tests stands for one of the program, so that a module's tests are found beside its name."""
    folders = {path.parent.relative_to(ROOT / "tests") for side in ("pipelines", "ui")
               for path in (ROOT / "tests" / side).rglob("test_*.py")}
    assert not sorted(str(folder) for folder in folders if not (ROOT / folder).is_dir())


def test_files_and_functions_are_read_in_one_sitting():
    long_files, long_functions = [], []
    for path in sources():
        text = path.read_text(encoding="utf-8")
        if len(text.splitlines()) > LONGEST_FILE:
            long_files.append(str(path.relative_to(ROOT)))
        for node in ast.walk(ast.parse(text)):
            is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            if is_function and node.end_lineno - node.lineno + 1 > LONGEST_FUNCTION:
                long_functions.append(f"{path.relative_to(ROOT)}: {node.name}")
    assert not long_files and not long_functions


def test_signatures_say_what_they_take():
    """Any stands where nothing better can be said: what a stranger's JSON holds, or what a library hands through."""
    made = code.functions(code.read_tree(ROOT))
    assert sum("Any" in code.signature_of(function) for function in made) <= MOST_WITH_ANY * len(made)
