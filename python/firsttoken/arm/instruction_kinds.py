"""What an A64 instruction word is, as far as it tells which kernels ran.

Read from the words themselves: the disassembler in the emulator is older than some of these instructions. Encodings
are those of the Arm Architecture Reference Manual for A-profile (DDI 0487), chapter C4.1, "A64 instruction set encoding".
"""

from collections.abc import Iterable

import numpy as np

# Kind -> (mask, value) pairs; a word is of the kind where ``word & mask == value`` for one of them.
PATTERNS = {
    # 4 products of int8 into each int32: SDOT, UDOT, USDOT (vectors), and by element with SUDOT
    "sdot": (
        (0x9FE0FC00, 0x0E809400),
        (0xBFE0FC00, 0x0E809C00),
        (0x9FC0F400, 0x0F80E000),
        (0xBFC0F400, 0x0F80F000),
        (0xBFC0F400, 0x0F00F000),
    ),
    # 8 products of int8 into each int32: SMMLA, UMMLA, USMMLA
    "smmla": ((0xDFE0FC00, 0x4E80A400), (0xFFE0FC00, 0x4E80AC00)),
    # widening products of int8 or int16: SMULL, SMLAL (vectors and by element), for cores without the above
    "smull": ((0xBF20FC00, 0x0E20C000), (0xBF20FC00, 0x0E208000), (0xBF00F400, 0x0F00A000), (0xBF00F400, 0x0F002000)),
    # multiply and add in FP16, 8 lanes: FMLA (vectors and by element)
    "fmla.8h": ((0xFFE0FC00, 0x4E400C00), (0xFFC0F400, 0x4F001000)),
    # in FP32, 4 lanes
    "fmla.4s": ((0xFFE0FC00, 0x4E20CC00), (0xFFC0F400, 0x4F801000)),
}
LOADS = "loads"
KINDS = (*PATTERNS, LOADS)


def is_kind(words: np.ndarray, kind: str) -> np.ndarray:
    """Returns a boolean for each uint32 word: whether it is an instruction of ``kind``."""
    if kind == LOADS:
        return is_load(words)
    found = np.zeros(len(words), bool)
    for mask, value in PATTERNS[kind]:
        found |= words & np.uint32(mask) == np.uint32(value)
    return found


def is_load(words: np.ndarray) -> np.ndarray:
    """Whether each word loads from memory: single registers, pairs, literals, exclusives, and structures (LD1 to LD4)."""
    size, vector, top = words >> 30, words >> 26 & 1 == 1, words >> 27 & 7
    load_bit, operation = words >> 22 & 1 == 1, words >> 22 & 3
    structures = (words & 0xBE000000 == 0x0C000000) & load_bit
    exclusives = (words & 0x3F000000 == 0x08000000) & load_bit
    literals = (words & 0x3B000000 == 0x18000000) & ((size != 3) | vector)
    pairs = (top == 5) & (words >> 25 & 1 == 0) & load_bit
    # opc: 0 stores, 2 with the largest size is a prefetch (or, in vectors, a store of 128 bits)
    registers = (top == 7) & (words >> 25 & 1 == 0) & np.where(vector, load_bit, (operation != 0) & ~((size == 3) & (operation == 2)))
    # the atomic read-modify-writes share the place of the single registers: bits 24, 21 and 11:10 set them apart
    atomics = (words & 0x3F200C00) == 0x38200000
    return structures | exclusives | literals | pairs | (registers & ~atomics)


def count_kinds(words: Iterable[int], counts: Iterable[int]) -> dict[str, int]:
    """Sums ``counts`` of instruction words by kind."""
    words, counts = np.array(list(words), np.uint32), np.array(list(counts), np.uint64)
    return {kind: int(counts[is_kind(words, kind)].sum()) for kind in KINDS}
