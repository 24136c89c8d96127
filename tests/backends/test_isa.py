"""Which packed weights a CPU takes, by what the system says of it."""

import pytest

from firsttoken.backends import isa
from firsttoken.backends.isa import arm_isa, host_flags, host_isa, names, x86_isa

DOT, I8MM, SME = 1 << 20, 1 << 13, 1 << 23


def test_arm_cpus_by_their_capabilities():
    assert [arm_isa(*bits) for bits in ((0, 0), (DOT, 0), (DOT, I8MM), (DOT, I8MM | SME))] == list(isa.ARM)


def test_x86_cpus_by_their_flags():
    assert x86_isa({"avx2", "avx512bw", "avx512_vnni", "amx_int8"}) == "x86-amx"
    assert x86_isa({"avx2", "avx512bw", "avx512_vnni"}) == "x86-avx512vnni"
    assert x86_isa({"avx2", "avx_vnni"}) == "x86-avxvnni" and x86_isa({"avx2"}) == "x86-avx2" and x86_isa({"sse4_1"}) == "x86-sse"


def test_a_flag_counts_where_all_cores_have_it(monkeypatch, tmp_path):
    facts = tmp_path / "cpuinfo"
    facts.write_text("processor : 0\nflags\t\t: sse avx2\n\nprocessor : 1\nflags\t\t: sse\n")
    monkeypatch.setattr(isa, "CPU_FACTS", facts)
    assert host_flags() == {"sse"}
    monkeypatch.setattr(isa, "CPU_FACTS", tmp_path / "none")
    assert host_flags() == set()


@pytest.mark.parametrize("name", ["dotprod", "i8mm", "armv8", "sme"])
def test_this_machine_can_pack_for(name):
    assert name in names() and host_isa() in names() and len(names()) == len(set(names()))
