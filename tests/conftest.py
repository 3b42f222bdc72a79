"""What every test gets: one thread, a fixed seed, deterministic torch, and no way to the model hub."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Their few tests wait for processes of their own. Begun last, one worker would wait while the others had nothing to do.
_BEGIN_WITH = ("test_interrupt.py", "test_local_engine.py", "test_tune.py", "test_cli.py", "test_bench.py")


def pytest_configure() -> None:
    # Before torch is imported, and inherited by the processes that tests start.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what deterministic matrix products on CUDA need

    import torch

    if not torch.cuda.is_available():
        # Before triton is imported: its kernels then run, interpreted, on CPU tensors.
        os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in _BEGIN_WITH)
    gpu_items = [item for item in items if "gpu" in item.keywords]
    if not gpu_items:
        return
    import torch

    if not torch.cuda.is_available():
        for item in gpu_items:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def _deterministic_torch() -> Iterator[None]:
    """One thread (results depend on their number), seed 0, and an error from any operator that is not deterministic.

    In this mode torch also fills uninitialised memory with NaN, so that reading it shows.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(0)
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of twitter2015/ and twitter2017/, which the project does not ship; skips where it is absent."""
    root = Path(os.environ.get("CLAMP_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not (root / "twitter2015" / "train.json").is_file():
        pytest.skip(f"needs the Twitter-2015/2017 annotations: set CLAMP_DATA to their folder (looked in {root})")
    return root
