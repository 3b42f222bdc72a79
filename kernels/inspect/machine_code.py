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
from typing import NamedTuple

MATRIX = ("HGMMA", "HMMA", "UTCHMMA")

_INSTRUCTION = re.compile(r"^\s*/\*([0-9a-f]+)\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_]*)(?:\.\S*)?([^;]*)", re.MULTILINE)
_TARGET = re.compile(r"\b0x([0-9a-f]+)\s*$")


class Instruction(NamedTuple):
    """Its address in the kernel's code, its name without modifiers, and where it branches to."""

    address: int
    name: str
    target: int | None


class Loop(NamedTuple):
    """A loop that has no other one in it: the addresses of its first and of its last instruction, a branch back."""

    first: int
    last: int
    counts: Counter[str]


def listings(cubins: Sequence[bytes], arch: int) -> list[list[Instruction]]:
    """The instructions of each of `cubins`, all of one architecture, in the order of their addresses.

    They are disassembled together: to start the disassembler takes ten times as long as a kernel's instructions do.
    """
    codes = [b"".join(_code_sections(cubin)) for cubin in cubins]
    ends = list(accumulate(map(len, codes)))
    found: list[list[Instruction]] = [[] for _ in cubins]
    current = 0
    for place, name, operands in _INSTRUCTION.findall(_disassemble(b"".join(codes), arch)):
        address = int(place, 16)
        while address >= ends[current]:
            current += 1
        begin = ends[current] - len(codes[current])
        target = _TARGET.search(operands) if name == "BRA" else None
        found[current].append(Instruction(address - begin, name, int(target[1], 16) - begin if target else None))
    return found


def counts(listing: Sequence[Instruction]) -> Counter[str]:
    """How often each instruction stands in a kernel's code."""
    return Counter(instruction.name for instruction in listing)


def loops(listing: Sequence[Instruction]) -> list[Loop]:
    """The innermost loops, in the order of the code. A branch to itself, which ends a kernel's code, is none."""
    ranges = {(one.target, one.address) for one in listing if one.target is not None and one.target < one.address}
    innermost = sorted(
        outer
        for outer in ranges
        if not any(outer[0] <= inner[0] and inner[1] <= outer[1] and inner != outer for inner in ranges)
    )
    return [
        Loop(first, last, Counter(one.name for one in listing if first <= one.address <= last))
        for first, last in innermost
    ]


def main_loop(listing: Sequence[Instruction]) -> Loop | None:
    """The innermost loop with the most matrix instructions or, where none has one, the longest."""
    return max(
        loops(listing),
        key=lambda loop: (sum(loop.counts[name] for name in MATRIX), loop.counts.total()),
        default=None,
    )


def instructions_after(listing: Sequence[Instruction], loop: Loop) -> int:
    """How many stand behind a loop, without those that fill up the end of the code."""
    return sum(one.address > loop.last and one.name not in ("NOP", "BRA") for one in listing)


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
