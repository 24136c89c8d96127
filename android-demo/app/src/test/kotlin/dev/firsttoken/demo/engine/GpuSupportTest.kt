package dev.firsttoken.demo.engine

import dev.firsttoken.core.assertRefused
import dev.firsttoken.core.bundle.Bundle
import dev.firsttoken.core.bundle.Processor
import dev.firsttoken.core.generate.ArtifactChoice
import dev.firsttoken.core.generate.ArtifactInUse
import dev.firsttoken.core.json.JsonText
import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

/** Where a bundle's GPU artifact runs, and what takes its place, with the reason, where it does not. */
class GpuSupportTest {
    @get:Rule val folder = TemporaryFolder()

    private val bundle by lazy { Bundle.open(PlayedGpu.bundle()) }
    private val onGpu = ArtifactInUse(1, processor = Processor.GPU)

    private fun fallen(reason: String) = ArtifactInUse(0, reason, Processor.CPU, Processor.GPU)

    @Test fun theGpusArtifactRunsWhereTheBuildHasTheAccelerator() {
        val gpu = PlayedGpu()
        assertEquals(onGpu, gpu.engines().artifact(bundle))
        gpu.engines().open(bundle, 1).use { engine ->
            assertEquals(onGpu, engine.artifact)
            engine.prefill(IntArray(18) { 5 })
            engine.decode(3)
        }
        assertEquals(listOf("prefill_64", "decode", "decode"), gpu.graphs)
        assertEquals(1, gpu.closed)
    }

    @Test fun whatTheBuildLacksIsNamed() {
        val litert = TfliteBuild(isLiteRt = true, "2.3.0")
        assertNull(CarriedRuntimes.gpuLack(litert) { it == "LiteRtClGlAccelerator" })
        assertTrue("litert-gpu" in CarriedRuntimes.gpuLack(litert) { false }!!)
        assertTrue("this app carries TensorFlow Lite 2.16.1, and the GPU needs LiteRT 2" in CarriedRuntimes.gpuLack(TfliteBuild(isLiteRt = false, "2.16.1")) { true }!!)
        assertTrue("this app carries no LiteRT" in CarriedRuntimes.gpuLack(null) { true }!!)
        assertEquals(fallen("no accelerator"), PlayedGpu("no accelerator").engines().artifact(bundle))
        PlayedGpu("no accelerator").engines().open(bundle, 1).use { assertEquals(fallen("no accelerator"), it.artifact) }
        val without = RuntimeEngines(listOf(TfliteRuntime(litert, { true }, null, { _, _, _ -> PlayedCpu() })))
        assertEquals(fallen("this build of the app has no way to a GPU"), without.artifact(bundle))
    }

    @Test fun aFileThatIsMissingIsNamed() {
        val copy = folder.newFolder()
        for (file in bundle.folder.listFiles()!!) if (file.name != "model.gpu.tflite") file.copyTo(File(copy, file.name))
        assertTrue("model.gpu.tflite: missing" in PlayedGpu().engines().artifact(Bundle.open(copy))!!.fallback!!)
    }

    @Test fun oneThatDoesNotLoadOrRunGivesWayToTheCpu() {
        val unloaded = PlayedGpu(loadFails = IllegalStateException("Failed to compile model"))
        unloaded.engines().open(bundle, 1).use { assertEquals(fallen("IllegalStateException: Failed to compile model"), it.artifact) }
        val unrun = PlayedGpu(runFails = IllegalStateException("clEnqueueNDRangeKernel"))
        unrun.engines().open(bundle, 1).use { engine ->
            assertEquals(onGpu, engine.artifact)
            assertEquals("the CPU's answer", 1f, engine.prefill(IntArray(18) { 5 })[65], 0f)
            assertEquals(fallen("IllegalStateException: clEnqueueNDRangeKernel"), engine.artifact)
            assertEquals(18, engine.position)
        }
        assertEquals(1, unrun.closed)
    }

    @Test fun oneAloneIsAskedForAndNotReplaced() {
        val gpu = PlayedGpu()
        gpu.engines().open(bundle, 1, ArtifactChoice.CPU).use { assertEquals(ArtifactInUse.CPU, it.artifact) }
        assertTrue(gpu.graphs.isEmpty())
        gpu.engines().open(bundle, 1, ArtifactChoice.GPU).use { assertEquals(onGpu, it.artifact) }
        assertRefused("its GPU artifact does not run here: no accelerator") { PlayedGpu("no accelerator").engines().open(bundle, 1, ArtifactChoice.GPU) }
        val failing = PlayedGpu(runFails = IllegalStateException("lost"))
        assertEquals("lost", failing.engines().open(bundle, 1, ArtifactChoice.GPU).use { engine -> runCatching { engine.prefill(intArrayOf(1)) }.exceptionOrNull()!!.message })
        assertRefused("the bundle has no NPU artifact") { gpu.engines().open(bundle, 1, ArtifactChoice.NPU) }
    }

    @Test fun ofABundleForAllThreeTheNpusIsPreferredThenTheGpus() {
        val three = withNpu()
        val (npu, other) = PlayedNpu("SM8550") to PlayedNpu("SM8650")
        val reason = "it is compiled for SM8550, and this phone has SM8650"
        assertEquals(ArtifactInUse(1), PlayedGpu().engines(npu).artifact(three))
        val onGpu = ArtifactInUse(2, reason, Processor.GPU, Processor.NPU)
        assertEquals(onGpu, PlayedGpu().engines(other).artifact(three))
        PlayedGpu().engines(other).open(three, 1).use { engine ->
            engine.prefill(intArrayOf(1, 2))
            assertEquals(onGpu, engine.artifact)
        }
        val neither = ArtifactInUse(0, "$reason; nor on the GPU: IllegalStateException: no", Processor.CPU, Processor.NPU)
        PlayedGpu(loadFails = IllegalStateException("no")).engines(other).open(three, 1).use { assertEquals(neither, it.artifact) }
        val failing = PlayedNpu("SM8550", runFails = IllegalStateException("no DSP"))
        val gpu = PlayedGpu()
        gpu.engines(failing).open(three, 1).use { engine ->
            engine.prefill(intArrayOf(1, 2))
            assertEquals(ArtifactInUse(2, "IllegalStateException: no DSP", Processor.GPU, Processor.NPU), engine.artifact)
        }
        assertEquals(listOf("prefill_16", "decode"), gpu.graphs)
        gpu.engines(npu).open(three, 1, ArtifactChoice.GPU).use { assertEquals(ArtifactInUse(2, processor = Processor.GPU), it.artifact) }
    }

    /** The NPU's bundle with the GPU's artifact of the other behind its own; both have the same cache. */
    private fun withNpu(): Bundle {
        val copy = folder.newFolder()
        PlayedNpu.bundle().copyRecursively(copy, overwrite = true)
        File(bundle.folder, "model.gpu.tflite").copyTo(File(copy, "model.gpu.tflite"))
        fun manifest(of: File) = JsonText.parseObject(File(of, "manifest.json").readText(), "m")
        val given = manifest(bundle.folder)
        val made = manifest(copy).apply {
            getAsJsonArray("artifacts").add(given.getAsJsonArray("artifacts")[1])
            getAsJsonObject("files").add("model.gpu.tflite", given.getAsJsonObject("files")["model.gpu.tflite"])
        }
        File(copy, "manifest.json").writeText(made.toString())
        return Bundle.open(copy)
    }
}
