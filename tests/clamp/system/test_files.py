"""Files that appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from clamp.system.files import written


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
