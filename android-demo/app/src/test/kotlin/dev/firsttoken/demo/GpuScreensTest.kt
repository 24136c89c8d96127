package dev.firsttoken.demo

import dev.firsttoken.demo.engine.PlayedGpu
import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test

/** Screens and measurements of a bundle with an artifact for a GPU, in builds that carry the accelerator and in others. */
class GpuScreensTest : ArtifactScreensTest() {
    private val without = "Runs on the CPU, not on the GPU: no accelerator."

    private fun phone(gpu: PlayedGpu): PlayedGpu {
        PlayedGpu.bundle().copyRecursively(File(TestWorld.staging, "bundles/${TestWorld.FIRST}"))
        TestWorld.otherEngines = gpu.engines()
        return gpu
    }

    @Test fun theGpusArtifactRunsAndTheScreensSaySo() {
        val gpu = phone(PlayedGpu())
        val said = listed()
        assertTrue(said, "Runs on the GPU." in said)
        val answer = answered()
        assertTrue(answer, PlayedGpu.answer in answer && "Runs on the GPU." in answer)
        assertEquals("decode", gpu.graphs.last())
        assertTrue("${gpu.graphs}", gpu.graphs.first().startsWith("prefill_"))
    }

    @Test fun aBuildWithoutTheAcceleratorUsesTheCpuAndSaysWhy() {
        val gpu = phone(PlayedGpu("no accelerator"))
        assertTrue(without in listed())
        val answer = answered()
        assertTrue(answer, without in answer && PlayedGpu.answer !in answer)
        assertTrue(gpu.graphs.isEmpty())
    }

    @Test fun aGpuThatFailsGivesWayAndTheScreenSaysWhy() {
        phone(PlayedGpu(runFails = IllegalStateException("Failed to run model")))
        assertTrue("Runs on the CPU, not on the GPU: IllegalStateException: Failed to run model." in answered())
    }

    @Test fun measurementsSayWhichRanAndTheResultsScreenToo() {
        phone(PlayedGpu())
        val onGpu = measured("0e".repeat(16), "auto").also { copy("0e".repeat(16), "gpu.json") }
        assertEquals("gpu" to null, onGpu.artifact!!.run { kind to fallback })
        assertEquals(File(PlayedGpu.bundle(), "model.gpu.tflite").length(), onGpu.artifact!!.bytes)
        assertEquals("cpu" to null, measured("1e".repeat(16), "cpu").artifact!!.run { kind to fallback })
        val first = shown("0e".repeat(16))
        assertTrue(first, "2 threads · GPU" in first && "not on the" !in first)
        TestWorld.otherEngines = PlayedGpu("no accelerator").engines()
        val fallen = measured("2e".repeat(16), "auto").also { copy("2e".repeat(16), "gpu-fallback.json") }
        assertEquals(listOf("cpu", "no accelerator", "gpu"), fallen.artifact!!.run { listOf(kind, fallback, insteadOf) })
        val said = shown("2e".repeat(16))
        assertTrue(said, "2 threads · CPU" in said && "ran on the CPU, not on the GPU: no accelerator." in said)
        val result = measured("3e".repeat(16), "gpu")
        assertEquals("load" to "its GPU artifact does not run here: no accelerator", result.failures.single().run { stage to message })
    }
}
