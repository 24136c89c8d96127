package dev.firsttoken.demo

import android.content.Intent
import android.view.ViewGroup
import android.widget.EditText
import android.widget.LinearLayout
import dev.firsttoken.core.Parity
import dev.firsttoken.core.generate.DemoFiles
import dev.firsttoken.core.generate.encodePrompt
import dev.firsttoken.core.measure.MeasurementReader
import dev.firsttoken.demo.TestWorld.waitFor
import dev.firsttoken.demo.answer.Phase
import dev.firsttoken.demo.answer.TryActivity
import dev.firsttoken.demo.bundles.BundlesActivity
import dev.firsttoken.demo.engine.NpuBuild
import dev.firsttoken.demo.engine.PlayedNpu
import dev.firsttoken.demo.measure.ResultsView
import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test
import org.robolectric.RuntimeEnvironment

/** Screens and measurements of a bundle compiled for a Snapdragon's NPU, on phones that have it, have another, or fail. */
class NpuScreensTest : ScreenTest() {
    private val other = "Runs on the CPU, not on the NPU: it is compiled for SM8550, and this phone has SM8650."

    private fun phone(npu: PlayedNpu): PlayedNpu {
        PlayedNpu.bundle().copyRecursively(File(TestWorld.staging, "bundles/${TestWorld.FIRST}"))
        TestWorld.otherEngines = npu.engines()
        return npu
    }

    private fun listed(): String {
        val screen = open<BundlesActivity>().get()
        waitFor("the bundle") { screen.findViewById<ViewGroup>(R.id.bundles).childCount == 1 }
        return screen.says()
    }

    private fun answered(): String {
        val screen = open<TryActivity>(TryActivity.intent(RuntimeEnvironment.getApplication(), TestWorld.FIRST)).get()
        screen.findViewById<EditText>(R.id.prompt).setText("What is a token?")
        screen.click(R.id.send)
        waitFor("the end") { services.answers.state.phase in listOf(Phase.DONE, Phase.FAILED) }
        return screen.says()
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
        val list = LinearLayout(android.view.ContextThemeWrapper(RuntimeEnvironment.getApplication(), R.style.FirstToken))
        val view = ResultsView(list)
        view.show(MeasurementReader.read(file("2f".repeat(16))))
        val said = (0 until list.childCount).joinToString("\n") { texts(list.getChildAt(it)) }
        assertTrue(said, "2 threads · CPU" in said && "ran on the CPU, not on the NPU: it is compiled for SM8550, and this phone has SM8650." in said)
        view.show(MeasurementReader.read(file("0f".repeat(16))))
        val first = (0 until list.childCount).joinToString("\n") { texts(list.getChildAt(it)) }
        assertTrue(first, "2 threads · NPU" in first && "not on the NPU" !in first)
    }

    @Test fun theNpuAloneIsAskedForAndRefusedWithTheReason() {
        phone(PlayedNpu("SM8650"))
        val result = measured("3f".repeat(16), "npu")
        assertNull(result.artifact)
        assertEquals("load" to "its NPU artifact does not run here: it is compiled for SM8550, and this phone has SM8650", result.failures.single().run { stage to message })
    }

    private fun texts(view: android.view.View): String =
        if (view is ViewGroup) (0 until view.childCount).joinToString("\n") { texts(view.getChildAt(it)) } else (view as? android.widget.TextView)?.text?.toString().orEmpty()

    private fun file(id: String) = File(TestWorld.media, "measurements/$id.json")

    private fun copy(id: String, name: String) = file(id).copyTo(File(Parity.folder(), "written/$name"), overwrite = true)

    private fun measured(id: String, artifact: String) = run {
        val tokens = encodePrompt(DemoFiles.tokenizer(), "hi", DemoFiles.manifest().chat).size
        File(TestWorld.staging, "requests").mkdirs()
        File(TestWorld.staging, "requests/$id.json").writeText(
            """{"protocol": 1, "id": "$id", "bundle": "${TestWorld.FIRST}", "state": "warm", "threads": 2, "repeat": 1, "decode_tokens": 3, "chat": true, "artifact": "$artifact", "prompts": [{"tokens": $tokens, "text": "hi"}]}""",
        )
        open<BenchmarkActivity>(Intent("dev.firsttoken.demo.BENCHMARK").setClass(RuntimeEnvironment.getApplication(), BenchmarkActivity::class.java).putExtra("id", id))
        waitFor("the end") { File(TestWorld.media, "measurements/$id.progress").let { it.isFile && "\"done\"" in it.readText() } }
        waitFor("room for the next") { !services.headless.isRunning }
        MeasurementReader.read(file(id)).results.single()
    }
}
