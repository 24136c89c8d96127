package dev.firsttoken.demo.phone

import dev.firsttoken.core.measure.Cpu
import java.io.File
import java.io.IOException

/** Facts from the kernel's files under [root]; the vendor decides which of them an app may read. */
class SystemFiles(private val root: File) {
    fun cpu(): Cpu {
        val lines = text("proc/cpuinfo").orEmpty().lines()
        val cores = maxOf(1, Runtime.getRuntime().availableProcessors())
        val frequencies = policies().mapNotNull { (cpus, folder) -> text("$folder/cpuinfo_max_freq")?.trim()?.toLongOrNull()?.let { it to cpus } }
        return Cpu(
            model = value(lines, "Hardware") ?: value(lines, "model name") ?: "unknown",
            cores = cores,
            flags = value(lines, "Features").orEmpty().split(' ').filter { it.isNotBlank() },
            clusters = frequencies.groupBy({ it.first.toString() }, { it.second }).mapValues { it.value.sum() },
        )
    }

    /** The frequency governors, each named once. */
    fun governors(): List<String> = policies().mapNotNull { (_, folder) -> text("$folder/scaling_governor")?.trim() }.filter { it.isNotEmpty() }.distinct().sorted()

    /** The most memory that this process has had in use, in bytes. */
    fun peakMemory(): Long? =
        text("proc/self/status")?.lineSequence()?.firstOrNull { it.startsWith("VmHWM:") }?.filter { it.isDigit() }?.toLongOrNull()?.let { it * 1024 }

    /** Frequency policies: how many cores each has, and its folder. */
    private fun policies(): List<Pair<Int, String>> {
        val folder = "sys/devices/system/cpu/cpufreq"
        val names = File(root, folder).list().orEmpty().filter { it.startsWith("policy") }.sorted()
        return names.map { name -> (text("$folder/$name/related_cpus").orEmpty().split(' ', '\n').count { it.isNotBlank() }) to "$folder/$name" }.filter { it.first > 0 }
    }

    private fun value(lines: List<String>, name: String): String? =
        lines.firstOrNull { it.substringBefore(':').trim() == name }?.substringAfter(':')?.trim()?.takeIf { it.isNotEmpty() }

    private fun text(path: String): String? =
        try {
            File(root, path).readText()
        } catch (closed: IOException) { // not there, or not for apps
            null
        }
}
