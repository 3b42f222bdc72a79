"""A digest of the code that made a result: what must be the same for the result to be the same.

It covers the modules of ours that the work imports, directly or through others, wherever in them the import stands.
Tools beside them (benchmarks, prediction on a corpus) can grow without a finished run growing stale. Modules in Triton
count only where Triton runs: what they hold cannot have touched a result made on a CPU.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

TRAINING = "clamp.training.train"

_GPU_DRIVERS = ("/proc/driver/nvidia", "/dev/dxg")  # the latter in WSL
_PACKAGES = ("clamp", "kernels", "repro")
_MAY_HAVE_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def source_hash(start: str = TRAINING, gpu: bool | None = None) -> str:
    """16 hex digits of what module `start` does on this machine, or on one with (without) a GPU."""
    has_gpu = _has_gpu() if gpu is None else gpu
    return hash_of(start, triton=os.environ.get("TRITON_INTERPRET") == "1" or has_gpu)


def _has_gpu() -> bool:
    if not any(Path(driver).exists() for driver in _GPU_DRIVERS):
        return False  # known without torch, whose import takes longer than all that `status` does
    import torch

    return torch.cuda.is_available()


def todays_hashes() -> tuple[str, str]:
    """What training does today, without Triton (on a CPU) and with it (on a GPU)."""
    return hash_of(TRAINING, triton=False), hash_of(TRAINING, triton=True)


def hash_of(start: str, *, triton: bool) -> str:
    """16 hex digits of module `start` and what it imports of ours; comments, docstrings and layout do not count."""
    digest = hashlib.sha256()
    for name, file in sorted(imported_modules(start, triton=triton).items()):
        digest.update(f"{name}\n{_module(name, file).syntax}".encode())
    return digest.hexdigest()[:16]


def imported_modules(start: str, *, triton: bool) -> dict[str, Path]:
    """Module `start` and all of ours that it imports, however indirectly: dotted name -> file.

    Without `triton`, modules that import Triton are left out, and what only they import.
    """
    found: dict[str, Path] = {}
    waiting = [start]
    while waiting:
        name = waiting.pop()
        file = None if name in found else _file_of(name)
        if file is not None:
            imports = _module(name, file).imports
            if triton or "triton" not in imports:
                found[name] = file
                waiting += imports
    return found


class _Module(NamedTuple):
    """What counts of a module."""

    imports: tuple[str, ...]
    syntax: str


def _module(name: str, file: Path) -> _Module:
    state = file.stat()
    return _parsed(name, file, state.st_mtime_ns, state.st_size)


@cache  # by its state on disk: a run's process inherits what the one that started it has read
def _parsed(name: str, file: Path, _mtime_ns: int, _size: int) -> _Module:
    source = file.read_text(encoding="utf-8")
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    return _Module(tuple(dict.fromkeys(_imports_of(source, package))), syntax(source))


def _file_of(module: str) -> Path | None:
    """Its source; None for what is no module of ours, such as a function that `from x import f` names."""
    package, *rest = module.split(".")
    if package not in _PACKAGES:
        return None
    path = package_folder(package).joinpath(*rest)
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


def package_folder(package: str) -> Path:
    """Where a top-level package lies; it is found without being imported."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations)))


def _imports_of(source: str, package: str) -> Iterator[str]:
    """Every name that could be a module: the packages above it, itself, and what is taken from it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[: k + 1]) for k in range(len(parts)))


def syntax(source: str) -> str:
    """The syntax tree of a module as text, without docstrings; the same text under Python 3.11 and 3.12."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, _MAY_HAVE_DOCSTRING) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    parts: list[str] = []
    _write(tree, parts.append)
    return "".join(parts)


def _write(node: object, write: Callable[[str], object]) -> None:
    if isinstance(node, ast.AST):
        write(f"{type(node).__name__}(")
        for name, value in ast.iter_fields(node):
            # An empty field says nothing, and newer Pythons add fields that older code leaves empty.
            if value is not None and value != []:
                write(f"{name}=")
                _write(value, write)
        write(")")
    elif isinstance(node, list):
        write("[")
        for item in node:
            _write(item, write)
            write(",")
        write("]")
    else:
        write(repr(node))
