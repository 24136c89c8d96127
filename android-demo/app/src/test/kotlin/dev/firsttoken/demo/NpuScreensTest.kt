package dev.firsttoken.demo

import dev.firsttoken.demo.engine.NpuBuild
import dev.firsttoken.demo.engine.PlayedNpu
import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test

/** Screens and measurements of a bundle compiled for a Snapdragon's NPU, on phones that have it, have another, or fail. */
class NpuScreensTest : ArtifactScreensTest() {
    private val other = "Runs on the CPU, not on the NPU: it is compiled for SM8550, and this phone has SM8650."

    private fun phone(npu: PlayedNpu): PlayedNpu {
        PlayedNpu.bundle().copyRecursively(File(TestWorld.staging, "bundles/${TestWorld.FIRST}"))
        TestWorld.otherEngines = npu.engines()
        return npu
    }

    @Test fun aPhoneWithThisSnapdragonUsesItsNpuAndSaysSo() {
        val npu = phone(PlayedNpu("SM8550"))
        val said = listed()
        assertTrue(said, "Runs on the NPU." in said && "not on the NPU" !in said)
        val answer = answered()
        assertTrue(answer, PlayedNpu.answer in answer && "Runs on the NPU." in answer)
        assertEquals(setOf("first_32", "decode"), npu.graphs.toSet())
    }

    @Test fun anotherSnapdragonUsesTheCpuAndSaysWhy() {
        val npu = phone(PlayedNpu("SM8650"))
        assertTrue(other in listed())
        val answer = answered()
        assertTrue(answer, other in answer && PlayedNpu.answer !in answer)
        assertTrue(npu.graphs.isEmpty())
    }

    @Test fun aBuildWithoutTheLibrariesSaysWhatToBuild() {
        phone(PlayedNpu("SM8550", NpuBuild("this app was built without libLiteRtDispatch_Qualcomm.so; build it with Gradle and -Pnpu", null)))
        assertTrue("not on the NPU: this app was built without libLiteRtDispatch_Qualcomm.so; build it with Gradle and -Pnpu." in listed())
    }

    @Test fun anNpuThatFailsGivesWayAndTheScreenSaysWhy() {
        phone(PlayedNpu("SM8550", loadFails = IllegalStateException("Failed to create context from binary")))
        assertTrue("what can be told without loading it", "Runs on the NPU." in listed())
        assertTrue("Runs on the CPU, not on the NPU: IllegalStateException: Failed to create context from binary." in answered())
    }

    @Test fun aGraphThatFailsGivesWayAndTheScreenSaysWhy() {
        val npu = phone(PlayedNpu("SM8550", runFails = IllegalStateException("Failed to run model")))
        assertTrue("Runs on the CPU, not on the NPU: IllegalStateException: Failed to run model." in answered())
        assertEquals(listOf("first_32"), npu.graphs)
        val state = services.answers.state
        assertFalse(state.artifact!!.isNpu)
    }

    @Test fun measurementsSayWhichRanAndTheResultsScreenToo() {
        phone(PlayedNpu("SM8550"))
        val onNpu = measured("0f".repeat(16), "auto").also { copy("0f".repeat(16), "npu.json") }
        assertEquals("npu" to null, onNpu.artifact!!.run { kind to fallback })
        assertEquals(onNpu.artifact!!.sha256, services.library.folder(TestWorld.FIRST).let { dev.firsttoken.core.bundle.BundleKey.sha256(File(it, "model.npu.tflite")) })
        assertEquals("cpu" to null, measured("1f".repeat(16), "cpu").artifact!!.run { kind to fallback })
        TestWorld.otherEngines = PlayedNpu("SM8650").engines()
        val fallen = measured("2f".repeat(16), "auto").also { copy("2f".repeat(16), "npu-fallback.json") }
        assertEquals("cpu" to "it is compiled for SM8550, and this phone has SM8650", fallen.artifact!!.run { kind to fallback })
        val said = shown("2f".repeat(16))
        assertTrue(said, "2 threads · CPU" in said && "ran on the CPU, not on the NPU: it is compiled for SM8550, and this phone has SM8650." in said)
        val first = shown("0f".repeat(16))
        assertTrue(first, "2 threads · NPU" in first && "not on the NPU" !in first)
    }

    @Test fun theNpuAloneIsAskedForAndRefusedWithTheReason() {
        phone(PlayedNpu("SM8650"))
        val result = measured("3f".repeat(16), "npu")
        assertNull(result.artifact)
        assertEquals("load" to "its NPU artifact does not run here: it is compiled for SM8550, and this phone has SM8650", result.failures.single().run { stage to message })
    }
}
