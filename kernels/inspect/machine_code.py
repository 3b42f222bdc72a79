"""The instructions in compiled kernels, as NVIDIA's disassembler names them; it comes inside Triton's package."""

from __future__ import annotations

import re
import struct
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

_INSTRUCTION = re.compile(r"^\s*/\*([0-9a-f]+)\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_]*)", re.MULTILINE)


def instruction_counts(cubins: Sequence[bytes], arch: int) -> list[Counter[str]]:
    """How often each instruction, without its modifiers, stands in each of `cubins`, all of one architecture.

    They are disassembled together: to start the disassembler takes ten times as long as a kernel's instructions do.
    """
    codes = [b"".join(_code_sections(cubin)) for cubin in cubins]
    ends = list(accumulate(map(len, codes)))
    counts: list[Counter[str]] = [Counter() for _ in cubins]
    current = 0
    for address, name in _INSTRUCTION.findall(_disassemble(b"".join(codes), arch)):
        while int(address, 16) >= ends[current]:
            current += 1
        counts[current][name] += 1
    return counts


def resources(cubin: bytes) -> dict[str, int]:
    """What a kernel occupies: REG registers and STACK bytes a thread, and more."""
    from triton import knobs

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = _output(knobs.nvidia.cuobjdump.path, "-res-usage", file.name)
    return {name: int(value) for name, value in re.findall(r"\b([A-Z]+):(\d+)", usage)}


def _code_sections(cubin: bytes) -> Iterator[bytes]:
    """The contents of an ELF64 file's .text sections."""
    (headers,) = struct.unpack_from("<Q", cubin, 0x28)
    size, number, names = struct.unpack_from("<HHH", cubin, 0x3A)
    sections = [struct.unpack_from("<II4Q", cubin, headers + index * size) for index in range(number)]
    for name, _type, _flags, _address, offset, length in sections:
        if cubin.startswith(b".text.", sections[names][4] + name):
            yield cubin[offset : offset + length]


def _disassemble(code: bytes, arch: int) -> str:
    from triton import knobs

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "code")
        path.write_bytes(code)
        # Triton compiles for the instructions that only this architecture has, from 9.0 on.
        return _output(knobs.nvidia.nvdisasm.path, "--binary", f"SM{arch}{'a' if arch >= 90 else ''}", path)


def _output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
