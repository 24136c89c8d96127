package dev.firsttoken.demo.engine

import com.google.gson.JsonObject
import dev.firsttoken.core.assertRefused
import dev.firsttoken.core.bundle.Bundle
import dev.firsttoken.core.generate.ArtifactChoice
import dev.firsttoken.core.generate.ArtifactInUse
import dev.firsttoken.core.json.JsonText
import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

/** Which artifact runs where; whatever keeps the NPU's from running is named, and the CPU's runs. */
class NpuSupportTest {
    @get:Rule val folder = TemporaryFolder()

    private val bundle by lazy { Bundle.open(PlayedNpu.bundle()) }

    /** The bundle with another manifest, or without a file. */
    private fun changed(without: String = "", change: (String) -> String = { it }): Bundle {
        val copy = folder.newFolder()
        for (file in bundle.folder.listFiles()!!) if (file.name != without) file.copyTo(File(copy, file.name))
        File(copy, "manifest.json").apply { writeText(change(readText())) }
        return Bundle.open(copy)
    }

    private fun edited(text: String, edit: JsonObject.() -> Unit) = JsonText.parseObject(text, "m").apply(edit).toString()

    private fun refusal(soc: String?, build: NpuBuild = NpuBuild(null, null), of: Bundle = bundle) = PlayedNpu(soc, build).support().refusal(of, of.manifest.npuArtifacts.first())

    @Test fun theSocDecidesWhateverLettersVendorsAddToIt() {
        for (soc in listOf("SM8550", "SM8550-AC", "sm8550p")) assertNull(refusal(soc))
        assertEquals("it is compiled for SM8550, and this phone has SM8650", refusal("SM8650"))
        assertEquals("it is compiled for SM8550, and this phone has Tensor G4", refusal("Tensor G4"))
        assertEquals("it is compiled for SM8550, and this phone has XSM8550", refusal("XSM8550"))
        assertTrue("does not tell apps what it has" in refusal(null)!!)
    }

    @Test fun whatTheBuildLacksIsNamed() {
        assertEquals("no dispatch library", refusal("SM8550", NpuBuild("no dispatch library", null)))
        assertNull("the other way's lack does not matter", refusal("SM8550", NpuBuild(null, "no delegate")))
        assertTrue("the SoC is told first", "compiled for SM8550" in refusal("SM8650", NpuBuild("no dispatch library", null))!!)
        val tensorflow = CarriedRuntimes.npuBuild(TfliteBuild(isLiteRt = false, "2.16.1"), folder.root)
        assertTrue(tensorflow.ahead!!, "this app carries TensorFlow Lite 2.16.1, and the NPU needs LiteRT 2" in tensorflow.ahead!!)
        val litert = CarriedRuntimes.npuBuild(TfliteBuild(isLiteRt = true, "2.3.0"), folder.root)
        assertTrue(litert.ahead!!, "libLiteRtDispatch_Qualcomm.so" in litert.ahead!! && "-Pnpu" in litert.ahead!!)
        File(folder.root, "libLiteRtDispatch_Qualcomm.so").writeText("x")
        assertNull(CarriedRuntimes.npuBuild(TfliteBuild(isLiteRt = true, "2.3.0"), folder.root).ahead)
        assertTrue("carries no LiteRT" in CarriedRuntimes.npuBuild(null, folder.root).device!!)
    }

    @Test fun aBundleThatThePhoneCompilesNeedsTheDelegateAndNoCertainSoc() {
        val device = changed { it.replace("\"compiled\": \"ahead\"", "\"compiled\": \"device\"") }
        assertEquals("no delegate", refusal("SM8650", NpuBuild(null, "no delegate"), device))
        assertNull(refusal("SM8650", NpuBuild("no dispatch library", null), device))
        assertNull(refusal(null, of = device))
    }

    @Test fun aBundleThatDoesNotFitOrIsNotWholeIsNamed() {
        assertTrue("model.npu.tflite: missing" in refusal("SM8550", of = changed(without = "model.npu.tflite"))!!)
        assertTrue("'first_32' among them" in refusal("SM8550", of = changed { it.replace("\"first_32\"", "\"first_33\"") })!!)
    }

    @Test fun theNpusArtifactRunsWhereItFits() {
        val npu = PlayedNpu("SM8550")
        assertEquals(ArtifactInUse(1), npu.engines().artifact(bundle))
        npu.engines().open(bundle, 1).use { engine ->
            assertTrue(engine.artifact.isNpu)
            engine.prefill(IntArray(140) { 5 })
            engine.decode(3)
        }
        assertEquals(listOf("first_128", "extend_128", "decode"), npu.graphs)
        assertEquals(1, npu.closed)
    }

    @Test fun theFirstArtifactWhoseNeedsThisPhoneMeetsIsTaken() {
        // three compiled ones: for another Snapdragon, for a newer LiteRT, for this one
        val several = changed { text ->
            edited(text) {
                val artifacts = getAsJsonArray("artifacts")
                val good = artifacts.remove(1).asJsonObject
                for ((soc, wanted) in listOf("SM8650" to "2.3", "SM8550" to "9.9", "SM8550" to "2.3")) {
                    artifacts.add(good.deepCopy().apply { getAsJsonObject("needs").run { addProperty("soc", soc); addProperty("min_runtime", wanted) } })
                }
            }
        }
        assertEquals(ArtifactInUse(3), PlayedNpu("SM8550").engines().artifact(several))
        assertEquals(ArtifactInUse(1), PlayedNpu("SM8650").engines().artifact(several))
        PlayedNpu("SM8550").engines().open(several, 1).use { assertEquals(ArtifactInUse(3), it.artifact) }
        val reason = "it is compiled for SM8650, and this phone has SM8750; it needs LiteRT 9.9, this app carries LiteRT 2.3.0; it is compiled for SM8550, and this phone has SM8750"
        assertEquals(ArtifactInUse(0, reason), PlayedNpu("SM8750").engines().artifact(several))
        PlayedNpu("SM8750").engines().open(several, 1).use { assertEquals(ArtifactInUse(0, reason), it.artifact) }
    }

    @Test fun theCpusArtifactRunsElsewhereAndSaysWhy() {
        val npu = PlayedNpu("SM8650")
        val reason = "it is compiled for SM8550, and this phone has SM8650"
        assertEquals(ArtifactInUse(0, reason), npu.engines().artifact(bundle))
        npu.engines().open(bundle, 1).use { engine ->
            engine.prefill(intArrayOf(1, 2))
            assertEquals(ArtifactInUse(0, reason), engine.artifact)
        }
        assertTrue(npu.graphs.isEmpty())
    }

    @Test fun whatDoesNotLoadGivesWayToTheCpu() {
        PlayedNpu("SM8550", loadFails = UnsatisfiedLinkError("libQnnHtp.so: wrong version\nmore")).engines().open(bundle, 1).use { engine ->
            assertEquals(ArtifactInUse(0, "UnsatisfiedLinkError: libQnnHtp.so: wrong version; more"), engine.artifact)
            engine.prefill(intArrayOf(1, 2))
        }
    }

    @Test fun whatDoesNotRunGivesWayToTheCpu() {
        val npu = PlayedNpu("SM8550", runFails = IllegalStateException("the context does not load"))
        npu.engines().open(bundle, 1).use { engine ->
            assertTrue(engine.artifact.isNpu)
            engine.prefill(IntArray(200) { 5 })
            assertEquals(200, engine.position)
            assertEquals(ArtifactInUse(0, "IllegalStateException: the context does not load"), engine.artifact)
        }
        assertEquals(listOf("first_128"), npu.graphs)
        assertEquals(1, npu.closed)
    }

    @Test fun aChoiceIsKept() {
        val npu = PlayedNpu("SM8550")
        npu.engines().open(bundle, 1, ArtifactChoice.CPU).use { engine ->
            engine.prefill(intArrayOf(1))
            assertEquals("as asked, so no fall-back", ArtifactInUse(0, null), engine.artifact)
        }
        assertTrue(npu.graphs.isEmpty())
        npu.engines().open(bundle, 1, ArtifactChoice.NPU).use { assertTrue(it.artifact.isNpu) }
        assertRefused("its NPU artifact does not run here: it is compiled for SM8550") { PlayedNpu("SM8650").engines().open(bundle, 1, ArtifactChoice.NPU) }
        val failing = PlayedNpu("SM8550", runFails = IllegalStateException("no"))
        assertFalse("a failure is told", failing.engines().open(bundle, 1, ArtifactChoice.NPU).use { engine -> runCatching { engine.prefill(intArrayOf(1)) }.isSuccess })
        val plain = changed { text -> edited(text) { getAsJsonArray("artifacts").remove(1) } }
        assertTrue(plain.manifest.npuArtifacts.isEmpty())
        assertRefused("the bundle has no NPU artifact") { npu.engines().open(plain, 1, ArtifactChoice.NPU) }
        assertNull(npu.engines().artifact(plain))
    }
}
