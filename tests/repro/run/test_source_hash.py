"""What changes a source hash and what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from repro.run import source_hash
from repro.run.source_hash import TRAINING, imported_modules, syntax

SOURCE = '''
def f(x: int = 1) -> int:
    """Says what."""
    return [x, "a"][0]
class C:
    """Says why."""
    y = None
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Says what.", "Says more."),
        ('    """Says why."""\n', ""),
        ("[0]", "[0]  # the first"),
        ('return [x, "a"][0]', "return (\n        [x, 'a']\n        [0]\n    )"),
        ("\ndef", '\n"""Module."""\ndef'),
    ],
)
def test_words_and_layout_do_not_count(old: str, new: str) -> None:
    assert old in SOURCE
    assert syntax(SOURCE.replace(old, new)) == syntax(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("= 1", "= 2"),
        ("= 1", "= True"),
        ("[0]", "[-0]"),
        ("[x,", "(x,)  + (x,"),
        ('"a"', '"b"'),
        ('"a"', 'b"a"'),
        ("y = None", "y = ..."),
        ("y = None", "y: None"),
        ("x: int", "x"),
        ("def f", "async def f"),
        ("return", '"""Not a docstring."""; return'),
    ],
)
def test_code_counts(old: str, new: str) -> None:
    changed = SOURCE.replace(old, new).replace('(x,)  + (x, "a"]', '(x, "a")')
    assert syntax(changed) != syntax(SOURCE)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two small packages in place of the real ones."""
    files = {
        "clamp/__init__.py": "",
        "clamp/training/train.py": "import kernels\nfrom clamp.data import load\nfrom clamp import model\n",
        "clamp/model.py": "def f():\n    from kernels.fast import op\n",
        "clamp/data/__init__.py": "from .files import load\n",
        "clamp/data/files.py": "def load(): ...\n",
        "clamp/inference/forward.py": "from clamp import model\n",
        "kernels/__init__.py": "TYPE_CHECKING = False\nif TYPE_CHECKING:\n    from kernels.norm import norm\n",
        "kernels/norm.py": "def f():\n    import kernels.fused\n",
        "kernels/fused.py": "import triton\nimport kernels.blocks\n",
        "kernels/blocks.py": "",
        "kernels/fast.py": "import kernels.tiles.small\n",
        "kernels/tiles/__init__.py": "",
        "kernels/tiles/small.py": "",
        "kernels/bench.py": "import kernels\n",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(source_hash, "package_folder", lambda package: tmp_path / package)
    return tmp_path


def test_it_covers_what_training_imports_wherever_the_import_stands(packages: Path) -> None:
    anywhere = {
        "clamp", "clamp.training.train", "clamp.model", "clamp.data", "clamp.data.files",
        "kernels", "kernels.norm", "kernels.fast", "kernels.tiles", "kernels.tiles.small",
    }  # fmt: skip
    assert set(imported_modules(TRAINING, triton=False)) == anywhere
    assert set(imported_modules(TRAINING, triton=True)) == anywhere | {"kernels.fused", "kernels.blocks"}


@pytest.mark.parametrize("name", ["kernels/fused.py", "kernels/blocks.py"])
def test_triton_counts_only_where_it_runs(packages: Path, name: str) -> None:
    on_cpu, on_gpu = source_hash.todays_hashes()
    with (packages / name).open("a") as file:
        file.write("y = 2\n")
    assert source_hash.todays_hashes()[0] == on_cpu
    assert source_hash.todays_hashes()[1] != on_gpu


def test_a_gpu_is_one_that_torch_can_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_cpu, on_gpu = source_hash.todays_hashes()
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    for driver, usable, expected in (
        (tmp_path, True, on_gpu),
        (tmp_path, False, on_cpu),
        (tmp_path / "no", True, on_cpu),
    ):
        monkeypatch.setattr(source_hash, "_GPU_DRIVERS", (str(driver),))
        monkeypatch.setattr("torch.cuda.is_available", lambda usable=usable: usable)
        assert source_hash.source_hash() == expected


def test_an_interpreted_kernel_counts(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_cpu, on_gpu = source_hash.todays_hashes()
    monkeypatch.setattr(source_hash, "_has_gpu", lambda: False)
    for interprets, expected in (("0", on_cpu), ("1", on_gpu)):
        monkeypatch.setenv("TRITON_INTERPRET", interprets)
        assert source_hash.source_hash() == expected


@pytest.mark.parametrize("name", ["clamp/inference/forward.py", "kernels/bench.py", "kernels/new.py", "clamp/notes.md"])
def test_tools_beside_training_do_not_count(packages: Path, name: str) -> None:
    before = source_hash.source_hash()
    (packages / name).write_text("y = 2\n")
    assert source_hash.source_hash() == before


@pytest.mark.parametrize(
    "name", ["clamp/training/train.py", "clamp/data/files.py", "kernels/norm.py", "kernels/tiles/small.py"]
)
def test_every_module_of_training_counts(packages: Path, name: str) -> None:
    before = source_hash.source_hash()
    with (packages / name).open("a") as file:
        file.write("y = 2\n")
    assert source_hash.source_hash() != before


def test_a_new_import_and_a_new_name_count(packages: Path) -> None:
    seen = {source_hash.source_hash()}
    (packages / "clamp/model.py").write_text("import clamp.inference.forward\n")
    seen.add(source_hash.source_hash())
    (packages / "clamp/inference/forward.py").rename(packages / "clamp/infer.py")
    (packages / "clamp/model.py").write_text("import clamp.infer\n")
    seen.add(source_hash.source_hash())
    assert len(seen) == 3


def test_the_real_closure_holds_the_operators_and_the_model() -> None:
    modules = imported_modules(TRAINING, triton=False)
    assert {
        "clamp.training.train",
        "clamp.fusion",
        "clamp.data.synthetic",
        "kernels.attention.api",
        "kernels.reference",
    } <= set(modules)
    assert not any("bench" in name for name in modules)
    assert "kernels.attention.forward" in imported_modules(TRAINING, triton=True).keys() - modules.keys()
