package dev.firsttoken.core.weights

import java.io.File
import java.io.IOException

/**
 * Which kernels XNNPACK takes on a CPU, as [name]: weights packed for one name are of no use to another; the names are those of python/firsttoken/backends/isa.py.
 * [key] tells CPUs of one name apart, for what is remembered of them.
 */
data class CpuKind(val name: String, val key: String) {
    companion object {
        private val X86 = listOf("x86-amx" to "amx_int8", "x86-avx512vnni" to "avx512_vnni", "x86-avx512" to "avx512bw", "x86-avxvnni" to "avx_vnni", "x86-avx2" to "avx2")
        private const val DOT_PRODUCT = 1L shl 20 // asm/hwcap.h: of HWCAP, the others of HWCAP2
        private const val I8MM = 1L shl 13
        private const val SME = 1L shl 23

        /** This machine's; [capability] gives HWCAP and, with true, HWCAP2. */
        fun here(capability: (Boolean) -> Long): CpuKind =
            when (val machine = System.getProperty("os.arch")) {
                "aarch64", "arm64" -> arm(capability(false), capability(true))
                "amd64", "x86_64" -> x86(flags(cpuFacts()))
                else -> CpuKind(machine, machine)
            }

        fun arm(hwcap: Long, hwcap2: Long): CpuKind {
            val name = when {
                hwcap2 and SME != 0L -> "sme"
                hwcap2 and I8MM != 0L -> "i8mm"
                else -> if (hwcap and DOT_PRODUCT != 0L) "dotprod" else "armv8"
            }
            return CpuKind(name, "$name-${hwcap.toString(16)}-${hwcap2.toString(16)}")
        }

        fun x86(flags: Set<String>): CpuKind {
            val name = X86.firstOrNull { (_, flag) -> flag in flags }?.first ?: "x86-sse"
            return CpuKind(name, "$name-${Integer.toHexString(flags.sorted().joinToString(" ").hashCode())}")
        }

        /** The flags that all cores of an x86 CPU have, by the text of /proc/cpuinfo. */
        fun flags(facts: String): Set<String> =
            facts.lines().filter { it.substringBefore(':').trim() == "flags" }.map { it.substringAfter(':').trim().split(' ').toSet() }.reduceOrNull(Set<String>::intersect).orEmpty()

        private fun cpuFacts(): String =
            try {
                File("/proc/cpuinfo").readText()
            } catch (hidden: IOException) {
                ""
            }
    }
}
