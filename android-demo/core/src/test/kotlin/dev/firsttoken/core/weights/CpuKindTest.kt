package dev.firsttoken.core.weights

import org.junit.Assert.assertEquals
import org.junit.Assert.assertNotEquals
import org.junit.Test

/** The names of python/firsttoken/backends/isa.py. */
class CpuKindTest {
    private val dotProduct = 1L shl 20
    private val i8mm = 1L shl 13
    private val sme = 1L shl 23

    @Test fun ofArm() {
        assertEquals("armv8", CpuKind.arm(0xff, 0).name)
        assertEquals("dotprod", CpuKind.arm(dotProduct, 0).name)
        assertEquals("i8mm", CpuKind.arm(dotProduct, i8mm).name)
        assertEquals("sme", CpuKind.arm(dotProduct, i8mm or sme).name)
        assertEquals("i8mm is a bit of the second word, and not of the first", "armv8", CpuKind.arm(i8mm or sme, 0).name)
        assertNotEquals("two CPUs of one name", CpuKind.arm(dotProduct, 0).key, CpuKind.arm(dotProduct or 1, 0).key)
    }

    @Test fun ofX86() {
        val facts = "processor\t: 0\nflags\t\t: fpu avx2 avx512bw avx512_vnni\nvmx flags\t: amx_int8\n\nprocessor\t: 1\nflags\t\t: avx2 fpu avx512bw\n"
        assertEquals("what all cores have", setOf("fpu", "avx2", "avx512bw"), CpuKind.flags(facts))
        assertEquals("x86-avx512", CpuKind.x86(CpuKind.flags(facts)).name)
        assertEquals("x86-sse", CpuKind.x86(CpuKind.flags("")).name)
        assertEquals("x86-amx", CpuKind.x86(setOf("avx2", "amx_int8", "avx512_vnni")).name)
    }
}
