"""Measure the shape of the code: python -m benchmarks.code [REVISION ...]

Without a revision the working tree is measured; with some, each beside it, read from git. Counted are `app.py`, `ui`
and `pipelines`; nothing is imported or run.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import statistics
import subprocess
import tarfile
import tempfile
import tokenize
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
HUBS = {"Studio", "Worker", "Engine"}
FAMILY_HOMES = ("families", "backends")  # where questions about a family belong
FAMILY_QUESTION = re.compile(r"\bfamily\.(stock|name)\b|\.family (==|!=|in) ")
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Source:
    """One file: its place, its text and its syntax tree."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def module(self) -> str:
        parts = self.path.with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def read_tree(root: Path) -> list[Source]:
    """Every source file of the program under a checkout."""
    paths = [path for folder in ("ui", "pipelines") for path in sorted((root / folder).rglob("*.py"))]
    paths.append(root / "app.py")
    texts = [(path, path.read_text(encoding="utf-8")) for path in paths]
    return [Source(path.relative_to(root), text, ast.parse(text)) for path, text in texts]


def code_lines(source: Source) -> list[str]:
    """Lines of code without indentation: no blank lines, comments or docstrings."""
    skipped = set()
    for node in ast.walk(source.tree):
        if isinstance(node, (ast.Module, ast.ClassDef, *FUNCTIONS)) and ast.get_docstring(node) is not None:
            skipped |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    lines = source.text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    kept = (line.strip() for number, line in enumerate(lines, 1) if number not in skipped)
    return [line for line in kept if line]


def functions(sources: list[Source]) -> list[ast.FunctionDef]:
    """Every function and method."""
    return [node for source in sources for node in ast.walk(source.tree) if isinstance(node, FUNCTIONS)]


def signature_of(function: ast.FunctionDef) -> str:
    """Annotations of parameters and result, as text."""
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    found = [ast.unparse(one.annotation) for one in every if one.annotation is not None]
    return " ".join([*found, ast.unparse(function.returns) if function.returns is not None else ""])


def imported(source: Source, known: set[str]) -> set[str]:
    """Modules of the program that a file imports when it is imported itself."""
    package = source.module if source.path.name == "__init__.py" else source.module.rpartition(".")[0]
    found = set()
    for node in source.tree.body:
        if isinstance(node, ast.ImportFrom):
            above = package.split(".")[:len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, node.module] if node.module else above)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                found.add(full if full in known else base)
    return found & known - {source.module}


def circles(sources: list[Source]) -> int:
    """How many files import each other in a circle, deferred imports aside."""
    known = {source.module for source in sources}
    ahead = {source.module: imported(source, known) for source in sources}

    def reaches(start: str) -> bool:
        seen, waiting = set(), set(ahead[start])
        while waiting:
            module = waiting.pop()
            if module == start:
                return True
            if module not in seen:
                seen.add(module)
                waiting |= ahead[module]
        return False

    return sum(map(reaches, ahead))


def public_methods(sources: list[Source]) -> str:
    """The hubs with their public methods."""
    found = []
    for source in sources:
        for node in source.tree.body:
            if isinstance(node, ast.ClassDef) and node.name in HUBS and "demo" not in source.path.parts:
                names = [child.name for child in node.body if isinstance(child, FUNCTIONS)]
                found.append(f"{node.name} {sum(not name.startswith('_') for name in names)} of {len(names)}")
    return ", ".join(sorted(found))


def family_questions(sources: list[Source]) -> int:
    """Comparisons and attribute questions about a family outside of families and backends."""
    return sum(len(FAMILY_QUESTION.findall("\n".join(code_lines(source)))) for source in sources
               if not set(FAMILY_HOMES) & set(source.path.parts))


def measure(sources: list[Source]) -> dict[str, str]:
    """Every figure by its name."""
    lines = [line for source in sources for line in code_lines(source)]
    made = functions(sources)
    lengths = [function.end_lineno - function.lineno + 1 for function in made]
    file_lengths = [len(source.text.splitlines()) for source in sources]
    comprehensions = sum(isinstance(node, COMPREHENSIONS) for source in sources for node in ast.walk(source.tree))
    loose = Counter(source.path.parts[0] for source in sources if len(source.path.parts) == 2)
    typed = sum(function.returns is not None for function in made)
    with_any = sum("Any" in signature_of(function) for function in made)
    longest_file = max(sources, key=lambda source: len(source.text.splitlines()))
    longest_function = max(made, key=lambda function: function.end_lineno - function.lineno)
    return {
        "files": str(len(sources)),
        "loose files": ", ".join(f"{name} {count}" for name, count in sorted(loose.items())),
        "lines of a file, median": f"{statistics.median(file_lengths):g}",
        "longest file": f"{max(file_lengths)} ({longest_file.path})",
        "lines of a function, median": f"{statistics.median(lengths):g}",
        "longest function": f"{max(lengths)} ({longest_function.name})",
        "lines of code": f"{len(lines):,}",
        "characters of a line of code": f"{statistics.mean(map(len, lines)):.1f}",
        "comprehensions per 100 lines of code": f"{100 * comprehensions / len(lines):.1f}",
        "typed returns": f"{100 * typed / len(made):.1f} %",
        "functions with Any in their signature": f"{100 * with_any / len(made):.1f} %",
        "files in import circles": str(circles(sources)),
        "questions about a family elsewhere": str(family_questions(sources)),
        "public methods": public_methods(sources),
    }


def packages(sources: list[Source]) -> dict[str, int]:
    """How many files lie in each package."""
    return dict(sorted(Counter(str(source.path.parent) for source in sources).items()))


def read_revision(revision: str) -> list[Source]:
    """The source files as git keeps them at a revision."""
    packed = subprocess.run(["git", "archive", revision, "app.py", "ui", "pipelines"], cwd=ROOT, check=True,
                            capture_output=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(folder, filter="data")
        return read_tree(Path(folder))


def main() -> None:
    """Print the figures, a column a tree, and the files of each package of the working tree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revisions", nargs="*", help="git revisions to set beside the working tree")
    trees = {revision: read_revision(revision) for revision in parser.parse_args().revisions}
    trees["working tree"] = read_tree(ROOT)
    columns = {name: measure(sources) for name, sources in trees.items()}
    wide = max(map(len, columns["working tree"]))
    print(" " * wide, *(f"{name[:12]:>40}" for name in columns))
    for row in columns["working tree"]:
        print(f"{row:<{wide}}", *(f"{column[row]:>40}" for column in columns.values()))
    print("\nfiles in each package:")
    for name, count in packages(trees["working tree"]).items():
        print(f"{count:4}  {name}")


if __name__ == "__main__":
    main()
