package dev.firsttoken.demo

import android.content.Intent
import android.view.ContextThemeWrapper
import android.view.View
import android.view.ViewGroup
import android.widget.EditText
import android.widget.LinearLayout
import android.widget.TextView
import dev.firsttoken.core.Parity
import dev.firsttoken.core.generate.DemoFiles
import dev.firsttoken.core.generate.encodePrompt
import dev.firsttoken.core.measure.MeasurementReader
import dev.firsttoken.core.measure.Result
import dev.firsttoken.demo.TestWorld.waitFor
import dev.firsttoken.demo.answer.Phase
import dev.firsttoken.demo.answer.TryActivity
import dev.firsttoken.demo.bundles.BundlesActivity
import dev.firsttoken.demo.measure.ResultsView
import java.io.File
import org.robolectric.RuntimeEnvironment

/** What the screens and the measurements say of the one staged bundle, which has several artifacts. */
abstract class ArtifactScreensTest : ScreenTest() {
    protected fun listed(): String {
        val screen = open<BundlesActivity>().get()
        waitFor("the bundle") { screen.findViewById<ViewGroup>(R.id.bundles).childCount == 1 }
        return screen.says()
    }

    protected fun answered(): String {
        val screen = open<TryActivity>(TryActivity.intent(RuntimeEnvironment.getApplication(), TestWorld.FIRST)).get()
        screen.findViewById<EditText>(R.id.prompt).setText("What is a token?")
        screen.click(R.id.send)
        waitFor("the end") { services.answers.state.phase in listOf(Phase.DONE, Phase.FAILED) }
        return screen.says()
    }

    /** The result of a benchmark of one short prompt that asks for [artifact]. */
    protected fun measured(id: String, artifact: String): Result {
        val tokens = encodePrompt(DemoFiles.tokenizer(), "hi", DemoFiles.manifest().chat).size
        File(TestWorld.staging, "requests").mkdirs()
        File(TestWorld.staging, "requests/$id.json").writeText(
            """{"protocol": 1, "id": "$id", "bundle": "${TestWorld.FIRST}", "state": "warm", "threads": 2, "repeat": 1, "decode_tokens": 3, "chat": true, "artifact": "$artifact", "prompts": [{"tokens": $tokens, "text": "hi"}]}""",
        )
        open<BenchmarkActivity>(Intent("dev.firsttoken.demo.BENCHMARK").setClass(RuntimeEnvironment.getApplication(), BenchmarkActivity::class.java).putExtra("id", id))
        waitFor("the end") { File(TestWorld.media, "measurements/$id.progress").let { it.isFile && "\"done\"" in it.readText() } }
        waitFor("room for the next") { !services.headless.isRunning }
        return MeasurementReader.read(file(id)).results.single()
    }

    /** What the results screen says of that measurement. */
    protected fun shown(id: String): String {
        val list = LinearLayout(ContextThemeWrapper(RuntimeEnvironment.getApplication(), R.style.FirstToken))
        ResultsView(list).show(MeasurementReader.read(file(id)))
        return (0 until list.childCount).joinToString("\n") { texts(list.getChildAt(it)) }
    }

    /** Leaves that measurement for Python to read. */
    protected fun copy(id: String, name: String) = file(id).copyTo(File(Parity.folder(), "written/$name"), overwrite = true)

    private fun file(id: String) = File(TestWorld.media, "measurements/$id.json")

    private fun texts(view: View): String =
        if (view is ViewGroup) (0 until view.childCount).joinToString("\n") { texts(view.getChildAt(it)) } else (view as? TextView)?.text?.toString().orEmpty()
}
