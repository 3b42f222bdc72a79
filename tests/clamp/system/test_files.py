"""Files that appear whole or not at all, and folders with one holder."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clamp.system.files import is_locked, locked, written


def test_the_content_appears_when_the_block_ends(tmp_path: Path) -> None:
    file, scratch = tmp_path / "out.bin", tmp_path / "scratch"
    scratch.mkdir()
    file.write_bytes(b"old")
    with written(file, scratch) as stream:
        stream.write(b"new")
        assert file.read_bytes() == b"old"
        assert [path.suffix for path in scratch.iterdir()] == [".tmp"]
        assert all(path.name.startswith(".") for path in scratch.iterdir())  # what packs a folder leaves such out
    assert file.read_bytes() == b"new"
    assert not list(scratch.iterdir())


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    file = tmp_path / "out.bin"
    file.write_bytes(b"old")

    def write_half() -> None:
        with written(file) as stream:
            stream.write(b"half")
            raise error

    with pytest.raises(error):
        write_half()
    assert [path.name for path in tmp_path.iterdir()] == ["out.bin"]
    assert file.read_bytes() == b"old"


def test_a_file_that_need_not_last_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with written(tmp_path / "a", durable=False) as stream:
        stream.write(b"a")
    assert (tmp_path / "a").read_bytes() == b"a"
    assert not synced
    with written(tmp_path / "b"):
        pass
    assert len(synced) == 2  # the content, and the name


def test_a_folder_is_held_once_and_seen_as_held(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    assert not is_locked(folder)
    with locked(folder):
        assert is_locked(folder)
        assert is_locked(folder)  # asking takes nothing from the holder
        with pytest.raises(BlockingIOError), locked(folder, wait=False):
            pass
        assert is_locked(folder)
    assert not is_locked(folder)
    with locked(folder, wait=False):
        pass


_HOLDER = """\
import os, sys, time
from pathlib import Path
from clamp.system.files import locked
with locked(Path(sys.argv[1]), wait=False):
    if os.fork() == 0:
        print(os.getpid(), flush=True)
    time.sleep(60)
"""


def test_a_fork_that_outlives_a_killed_holder_keeps_nobody_out(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    fork = int(holder.stdout.readline())
    try:
        assert is_locked(tmp_path)
        holder.kill()
        holder.wait()
        os.kill(fork, 0)  # lives
        with locked(tmp_path, wait=False):
            pass
    finally:
        os.kill(fork, signal.SIGKILL)
        holder.stdout.close()


def test_a_fork_that_ends_leaves_the_holder_what_it_holds(tmp_path: Path) -> None:
    with locked(tmp_path):
        process = multiprocessing.get_context("fork").Process(target=str)
        process.start()
        process.join()
        assert is_locked(tmp_path)
