"""The import rules hold: every import of every module is looked at, those inside functions too."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "diffusers", "transformers", "peft", "accelerate", "torchvision")
VALUES = ("requests", "events", "errors", "settings", "metadata", "jobs")
PRIMITIVES = ("device", "generation.samplers", "images", "families", "checkpoints", "prompts")
LIFETIME = ("models.cache", "jobs", "studio")


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


def test_the_reader_sees_relative_deferred_and_typing_imports():
    source = ("from . import device\nfrom .errors import ModelError\nimport torch.nn\n"
              "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import gradio\n"
              "def f():\n    from ..ui import tab\n")
    found = [(one.module, one.deferred) for one in imports_of(ROOT / "pipelines" / "x.py", source)]
    assert found == [("pipelines.machine.device", False), ("pipelines.errors.ModelError", False), ("torch.nn", False),
                     ("typing.TYPE_CHECKING", False), ("gradio", True), ("ui.tab", True)]
    inner = list(imports_of(ROOT / "pipelines" / "families" / "__init__.py", "from ..errors import ModelError"))
    assert inner[0].module == "pipelines.errors.ModelError"


def test_the_page_never_imports_the_heavy_libraries_or_reaches_for_app(imports):
    assert not [str(one) for one in imports if one.inside("ui") and one.of(*HEAVY, "app", "sqlalchemy")]


def test_the_engine_never_imports_the_page(imports):
    assert not [str(one) for one in imports if one.inside("pipelines") and one.of("gradio", "fastapi", "ui", "app")]


def test_values_and_jobs_import_no_torch(imports):
    modules = [f"pipelines.{name}" for name in VALUES]
    assert not [str(one) for one in imports if one.inside(*modules) and one.of(*HEAVY)]


def test_values_import_only_values(imports):
    modules = [f"pipelines.{name}" for name in VALUES if name != "jobs"]
    assert not [str(one) for one in imports if one.inside(*modules) and one.of("pipelines") and not one.of(*modules)]


def test_primitives_import_neither_work_nor_what_has_a_lifetime(imports):
    modules = [f"pipelines.{name}" for name in PRIMITIVES]
    above = [f"pipelines.{name}" for name in ("generation.generate", *LIFETIME)]
    assert not [str(one) for one in imports if one.inside(*modules) and one.of(*above)]


def test_work_does_not_know_the_cache_the_queue_or_the_studio(imports):
    above = [f"pipelines.{name}" for name in LIFETIME]
    assert not [str(one) for one in imports if one.inside("pipelines.generation") and one.of(*above)]


def test_cache_and_queue_import_neither_work_nor_studio(imports):
    assert not [str(one) for one in imports if one.inside("pipelines.models.cache", "pipelines.queue.jobs")
                and one.of("pipelines.generation.generate", "pipelines.studio.studio")]


def test_only_the_application_and_the_engine_itself_build_the_studio(imports):
    assert not [str(one) for one in imports if one.of("pipelines.studio.studio")
                and one.inside("pipelines") and not one.inside("pipelines.studio.studio")]


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
    reached, waiting = set(), {"pipelines", "pipelines.studio.studio", "pipelines.library.checkpoints", "pipelines.machine.device"}
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
