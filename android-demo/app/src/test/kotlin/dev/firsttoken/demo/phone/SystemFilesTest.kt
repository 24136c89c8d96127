package dev.firsttoken.demo.phone

import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

class SystemFilesTest {
    @get:Rule val folder = TemporaryFolder()

    private fun file(path: String, text: String) = File(folder.root, path).apply { parentFile!!.mkdirs() }.writeText(text)

    @Test fun aSnapdragonsFilesAreRead() {
        file("proc/cpuinfo", "processor\t: 0\nFeatures\t: fp asimd asimddp\n\nHardware\t: Qualcomm Technologies, Inc SM8650\n")
        for ((name, cpus, most) in listOf(Triple("policy0", "0 1\n", 2265600), Triple("policy2", "2 3 4", 3148800), Triple("policy5", "5 6", 3148800))) {
            file("sys/devices/system/cpu/cpufreq/$name/related_cpus", cpus)
            file("sys/devices/system/cpu/cpufreq/$name/cpuinfo_max_freq", "$most\n")
            file("sys/devices/system/cpu/cpufreq/$name/scaling_governor", "walt\n")
        }
        file("proc/self/status", "Name:\tx\nVmHWM:\t  123456 kB\nVmRSS:\t 1 kB\n")
        val files = SystemFiles(folder.root)
        val cpu = files.cpu()
        assertEquals("Qualcomm Technologies, Inc SM8650", cpu.model)
        assertEquals(listOf("fp", "asimd", "asimddp"), cpu.flags)
        assertEquals(mapOf("2265600" to 2, "3148800" to 5), cpu.clusters)
        assertEquals(listOf("walt"), files.governors())
        assertEquals(123456L * 1024, files.peakMemory())
    }

    @Test fun whatAPhoneKeepsToItselfIsLeftOut() {
        val files = SystemFiles(folder.root)
        assertEquals("unknown", files.cpu().model)
        assertEquals(emptyMap<String, Int>(), files.cpu().clusters)
        assertNull(files.peakMemory())
        assertEquals(emptyList<String>(), files.governors())
    }
}
