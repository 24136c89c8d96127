package dev.firsttoken.demo

import android.content.Intent
import android.view.ViewGroup
import android.widget.EditText
import android.widget.LinearLayout
import android.widget.TextView
import dev.firsttoken.core.Parity
import dev.firsttoken.core.generate.DemoFiles
import dev.firsttoken.core.generate.encodePrompt
import dev.firsttoken.core.measure.MeasurementReader
import dev.firsttoken.demo.TestWorld.waitFor
import dev.firsttoken.demo.answer.Phase
import dev.firsttoken.demo.answer.TryActivity
import dev.firsttoken.demo.bundles.BundlesActivity
import dev.firsttoken.demo.engine.PlayedGpu
import dev.firsttoken.demo.measure.ResultsView
import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.robolectric.RuntimeEnvironment

/** Screens and measurements of a bundle with an artifact for a GPU, in builds that carry the accelerator and in others. */
class GpuScreensTest : ScreenTest() {
    private val without = "Runs on the CPU, not on the GPU: no accelerator."

    private fun phone(gpu: PlayedGpu): PlayedGpu {
        PlayedGpu.bundle().copyRecursively(File(TestWorld.staging, "bundles/${TestWorld.FIRST}"))
        TestWorld.otherEngines = gpu.engines()
        return gpu
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
        assertTrue("GPU" in shown("0e".repeat(16)) && "not on the" !in shown("0e".repeat(16)))
        TestWorld.otherEngines = PlayedGpu("no accelerator").engines()
        val fallen = measured("2e".repeat(16), "auto").also { copy("2e".repeat(16), "gpu-fallback.json") }
        assertEquals(listOf("cpu", "no accelerator", "gpu"), fallen.artifact!!.run { listOf(kind, fallback, insteadOf) })
        val said = shown("2e".repeat(16))
        assertTrue(said, "2 threads · CPU" in said && "ran on the CPU, not on the GPU: no accelerator." in said)
        val result = measured("3e".repeat(16), "gpu")
        assertEquals("load" to "its GPU artifact does not run here: no accelerator", result.failures.single().run { stage to message })
    }

    private fun shown(id: String): String {
        val list = LinearLayout(android.view.ContextThemeWrapper(RuntimeEnvironment.getApplication(), R.style.FirstToken))
        ResultsView(list).show(MeasurementReader.read(file(id)))
        return (0 until list.childCount).joinToString("\n") { texts(list.getChildAt(it)) }
    }

    private fun texts(view: android.view.View): String =
        if (view is ViewGroup) (0 until view.childCount).joinToString("\n") { texts(view.getChildAt(it)) } else (view as? TextView)?.text?.toString().orEmpty()

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
