"""Instruction words are told apart as the assembler of the machine's own compiler encodes them."""

import os
import re
import subprocess

import numpy as np
import pytest

from firsttoken.arm.build import compiler_libraries
from firsttoken.arm.instruction_kinds import KINDS, count_kinds, is_kind

ASSEMBLY = {
    "sdot": """sdot v0.4s, v1.16b, v2.16b; sdot v0.2s, v1.8b, v2.8b; sdot v0.4s, v1.16b, v31.4b[3]; udot v0.4s, v1.16b, v2.16b
               udot v0.4s, v1.16b, v2.4b[1]; usdot v0.4s, v1.16b, v2.16b; usdot v0.4s, v1.16b, v2.4b[2]; sudot v0.4s, v1.16b, v2.4b[2]""",
    "smmla": "smmla v0.4s, v1.16b, v2.16b; ummla v0.4s, v1.16b, v2.16b; usmmla v31.4s, v1.16b, v22.16b",
    "smull": """smull v0.8h, v1.8b, v2.8b; smull2 v0.8h, v1.16b, v2.16b; smlal v0.4s, v1.4h, v2.4h; smlal v0.4s, v1.4h, v2.h[3]
                smlal2 v0.4s, v1.8h, v2.h[7]; smull v0.4s, v1.4h, v2.h[3]; smlal2 v0.8h, v1.16b, v2.16b""",
    "fmla.8h": "fmla v0.8h, v1.8h, v2.8h; fmla v0.8h, v1.8h, v2.h[7]; fmla v31.8h, v31.8h, v15.h[0]",
    "fmla.4s": "fmla v0.4s, v1.4s, v2.4s; fmla v0.4s, v1.4s, v31.s[3]",
    "loads": """ldr x0, [x1]; ldr w0, [x1, #4]!; ldr x0, [x1, x2, lsl #3]; ldr x0, [x1], #8; ldrb w0, [x1]; ldrsb x0, [x1]; ldrsw x0, [x1, #4]
                ldr q0, [x1, #16]; ldr h0, [x1]; ldr b0, [x1]; ldr s0, [x1], #4; ldur q0, [x1, #-16]; ldp x0, x1, [x2]; ldp q0, q1, [x2], #32
                ldnp x0, x1, [x2]; ldpsw x0, x1, [x2]; ldr x0, .; ldr q0, .; ldrsw x0, .; ld1 {v0.4s}, [x0]; ld1 {v0.4s, v1.4s}, [x0], #32
                ld1r {v0.4s}, [x0], #4; ld1 {v0.s}[1], [x0]; ld2 {v0.4s, v1.4s}, [x0]; ld4 {v0.16b-v3.16b}, [x0]; ldxr x0, [x1]; ldar x0, [x1]""",
    "": """str x0, [x1]; strb w0, [x1]; str q0, [x1, #16]; str q0, [x1], #16; str b0, [x1]; stp x0, x1, [x2]; stp q0, q1, [x2]; stnp x0, x1, [x2]
           st1 {v0.4s}, [x0]; st4 {v0.16b-v3.16b}, [x0]; stlr x0, [x1]; stxr w3, x0, [x1]; prfm pldl1keep, [x0]; prfm pldl1keep, [x0, x1]
           prfm pldl1keep, .; ldadd x0, x1, [x2]; swp x0, x1, [x2]; fmla v0.2s, v1.2s, v2.2s; fmla v0.4h, v1.4h, v2.4h; fmla v0.2d, v1.2d, v2.2d
           fmls v0.4s, v1.4s, v2.4s; fmls v0.8h, v1.8h, v2.8h; fmul v0.4s, v1.4s, v2.s[1]; fmul v0.8h, v1.8h, v2.8h; fadd v0.8h, v1.8h, v2.8h
           mla v0.4s, v1.4s, v2.4s; umull v0.8h, v1.8b, v2.8b; umlal v0.4s, v1.4h, v2.h[1]; smlsl v0.4s, v1.4h, v2.4h; bfdot v0.4s, v1.8h, v2.8h
           bfmmla v0.4s, v1.8h, v2.8h; fcvtn v0.4h, v1.4s; add x0, x1, x2; add v0.4s, v1.4s, v2.4s; mov x0, #1; b .; bl .; ret; nop; svc #0""",
}  # fmt: skip


@pytest.mark.parametrize("kind", ASSEMBLY)
def test_words_are_what_the_assembler_says(kind, emulated_arm, tmp_path):
    compiler = emulated_arm / "compiler"
    environment = {**os.environ, "LD_LIBRARY_PATH": compiler_libraries(compiler)}
    (tmp_path / "a.s").write_text(f".arch armv8.6-a+fp16+dotprod+i8mm+bf16\n{ASSEMBLY[kind].replace(';', chr(10))}\n")
    subprocess.run([compiler / "usr/bin/aarch64-linux-gnu-as", tmp_path / "a.s", "-o", tmp_path / "a.o"], env=environment, check=True)
    listing = subprocess.run(
        [compiler / "usr/bin/aarch64-linux-gnu-objdump", "-d", tmp_path / "a.o"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.findall(r"^\s+[0-9a-f]+:\t([0-9a-f]{8}) \t(.*)$", listing.stdout, re.MULTILINE)
    assert len(found) == len(re.split(r"[;\n]", ASSEMBLY[kind]))
    for word, text in found:
        told = [name for name in KINDS if is_kind(np.array([int(word, 16)], np.uint32), name)[0]]
        assert told == ([kind] if kind else []), text


def test_counts_are_summed_by_kind():
    sdot, fmla_8h, load, add = 0x4E829420, 0x4E420C20, 0xF9400020, 0x8B020020
    counts = count_kinds([sdot, fmla_8h, load, add, sdot ^ 1], [5, 7, 11, 1000, 2])
    assert counts == {"sdot": 7, "smmla": 0, "smull": 0, "fmla.8h": 7, "fmla.4s": 0, "loads": 11}
