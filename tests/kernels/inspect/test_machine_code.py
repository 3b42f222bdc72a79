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
    counts = [machine_code.counts(listing) for listing in machine_code.listings([bytes(32), b"", bytes(48)], 90)]
    assert counts == [{"LDC": 1, "STL": 1}, {}, {"BRA": 1, "STL": 1, "EXIT": 1}]


def test_the_main_loop_is_an_innermost_one_with_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses count from the kernel's own beginning, though it is disassembled behind another."""
    listing = """
        /*0000*/                   EXIT ;
        /*0010*/                   MUFU.EX2 R1, R2 ;
        /*0020*/                   HGMMA.64x128x16.F32.BF16 R24, gdesc[UR4], R24 ;
        /*0030*/                   FADD R1, R1, R2 ;
        /*0040*/              @!P0 BRA 0x20 ;
        /*0050*/                   STG.E desc[UR4][R2.64], R1 ;
        /*0060*/                   FADD R1, R1, R2 ;
        /*0070*/               @P1 BRA P2, 0x60 ;
        /*0080*/               @P0 BRA 0x10 ;
        /*0090*/                   EXIT ;
        /*00a0*/                   BRA 0xa0;
    """
    monkeypatch.setattr(machine_code, "_code_sections", lambda cubin: [cubin])
    monkeypatch.setattr(machine_code, "_disassemble", lambda code, arch: listing)
    second = machine_code.listings([bytes(16), bytes(160)], 90)[1]
    assert [(loop.first, loop.last) for loop in machine_code.loops(second)] == [(0x10, 0x30), (0x50, 0x60)]
    main = machine_code.main_loop(second)
    assert main.counts == {"HGMMA": 1, "FADD": 1, "BRA": 1}
    assert machine_code.instructions_after(second, main) == 3
    assert machine_code.main_loop(machine_code.listings([bytes(16), bytes(160)], 90)[0]) is None
