"""The package shares its name with one of the Hugging Face hub's, which must bother neither side."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import kernels

ROOT = Path(kernels.__file__).parents[1]


def run_python(source: str) -> str:
    """Run `source` in the repository's root, where `import kernels` finds this package first."""
    result = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_transformers_does_not_take_this_package_for_the_hubs() -> None:
    source = """
from transformers.utils import is_kernels_available
assert is_kernels_available() is False
from transformers import RobertaModel
import kernels
print(RobertaModel.__name__, kernels.__version__)
"""
    assert run_python(source) == "RobertaModel 0.1.0"


def test_importing_the_package_imports_nothing_else() -> None:
    source = """
import sys
before = set(sys.modules)
import kernels
hasattr(kernels, "nothing"), dir(kernels), kernels.__version__
print(sorted(set(sys.modules) - before))
kernels.info_nce
print("torch" in sys.modules)
"""
    assert run_python(source).splitlines() == ["['kernels']", "True"]


@pytest.mark.parametrize("name", ["get_kernel", "has_kernel", "kernelize", "LayerRepository", "Mode"])
def test_the_hubs_names_say_which_package_this_is(name: str) -> None:
    with pytest.raises(ImportError, match=rf"^{name} belongs to Hugging Face's distribution `kernels`"):
        getattr(kernels, name)
    with pytest.raises(ImportError, match="this package of the same name is clamp-repro's"):
        exec(f"from kernels import {name}")


def test_other_names_are_attribute_errors() -> None:
    for name in ("nothing", "__wrapped__", "__all_the_rest__"):
        with pytest.raises(AttributeError, match=f"module 'kernels' has no attribute '{name}'"):
            getattr(kernels, name)
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        exec("from kernels import nothing")


def test_public_names_are_functions_that_are_listed_and_pickle() -> None:
    public = [name for name in kernels.__all__ if name != "__version__"]
    assert public == ["cross_attention", "gated_residual_norm", "grouped_info_nce", "info_nce"]
    assert set(kernels.__all__) <= set(dir(kernels))
    for name in public:
        function = getattr(kernels, name)
        assert function.__name__ == name
        assert vars(kernels)[name] is function  # looked up once
        assert pickle.loads(pickle.dumps(function)) is function


def test_no_submodule_shadows_a_public_name() -> None:
    assert not {path.stem for path in Path(kernels.__file__).parent.glob("*.py")} & set(kernels.__all__)
