"""Instructions are counted for the kernel whose code they stand in."""

from __future__ import annotations

import pytest

from kernels.inspect import machine_code


def test_instructions_belong_to_the_code_they_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    listing = """
        /*0000*/                   LDC R1, c[0x0][0x37c] ;
        /*0010*/              @!P0 STL.64 [R1+0x8], R2 ;
        /*0020*/               @P0 BRA `(.L_x_1) ;
        /*0030*/              @UP1 STL [R1], R4 ;
        .L_x_1:
        /*0040*/                   EXIT ;
    """
    monkeypatch.setattr(machine_code, "_code_sections", lambda cubin: [cubin[:16], cubin[16:]])
    monkeypatch.setattr(machine_code, "_disassemble", lambda code, arch: listing if len(code) == 80 else "")
    counts = machine_code.instruction_counts([bytes(32), b"", bytes(48)], 90)
    assert counts == [{"LDC": 1, "STL": 1}, {}, {"BRA": 1, "STL": 1, "EXIT": 1}]
