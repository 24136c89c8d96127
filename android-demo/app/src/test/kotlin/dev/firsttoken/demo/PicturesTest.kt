package dev.firsttoken.demo

import android.app.Activity
import android.content.Intent
import android.view.ViewGroup
import android.widget.CheckBox
import android.widget.EditText
import dev.firsttoken.core.generate.DemoFiles
import dev.firsttoken.core.generate.encodePrompt
import dev.firsttoken.demo.TestWorld.waitFor
import dev.firsttoken.demo.answer.Phase
import dev.firsttoken.demo.answer.TryActivity
import dev.firsttoken.demo.bundles.BundlesActivity
import dev.firsttoken.demo.measure.MeasureActivity
import java.io.File
import org.junit.Test
import org.robolectric.RuntimeEnvironment

/** Every screen in every theme and size: clickable things are named and large enough, nothing is cut off; with `--pictures`, as files. */
class PicturesTest : PictureTest() {
    @Test fun onAPhone() = all("light", "w411dp-h891dp-notnight-420dpi")

    @Test fun onAPhoneInTheDark() = all("dark", "w411dp-h891dp-night-420dpi")

    @Test fun onATablet() = all("tablet", "sw800dp-w1280dp-h800dp-land-notnight-240dpi")

    @Test fun withLargeText() {
        RuntimeEnvironment.setFontScale(1.7f)
        all("large-text", "w411dp-h891dp-notnight-420dpi")
    }

    private fun all(name: String, qualifiers: String) {
        RuntimeEnvironment.setQualifiers(qualifiers)
        finished(open<BundlesActivity>().get().also { screen -> waitFor("no bundles") { screen.isShown(R.id.empty) } }, "empty-$name")
        SampleBundles.stage()
        finished(open<BundlesActivity>().get().also { screen -> waitFor("bundles") { screen.findViewById<ViewGroup>(R.id.bundles).childCount == 4 } }, "bundles-$name")
        finished(answered(), "try-$name")
        finished(measured(), "benchmark-$name")
        finished(headless(), "command-$name")
    }

    private fun answered(): Activity {
        TestWorld.secondsPerToken = 0.01
        val screen = open<TryActivity>(TryActivity.intent(RuntimeEnvironment.getApplication(), TestWorld.FIRST)).get()
        screen.findViewById<EditText>(R.id.prompt).setText("When is a token on the screen?")
        screen.click(R.id.send)
        waitFor("the end") { services.answers.state.phase == Phase.DONE }
        return screen
    }

    private fun measured(): Activity {
        TestWorld.secondsPerToken = 0.003
        val screen = open<MeasureActivity>().get()
        waitFor("the bundles") { screen.views().any { it is CheckBox } }
        screen.findViewById<EditText>(R.id.lengths).setText("32, 64, 128")
        screen.findViewById<EditText>(R.id.repeat).setText("3")
        screen.findViewById<EditText>(R.id.decode).setText("6")
        screen.click(R.id.start)
        waitFor("the end") { !services.measures.state.isRunning && services.measures.state.results != null }
        return screen
    }

    private fun headless(): Activity {
        val id = "0f".repeat(16)
        val tokens = encodePrompt(DemoFiles.tokenizer(), "hi", DemoFiles.manifest().chat).size
        File(TestWorld.staging, "requests").mkdirs()
        File(TestWorld.staging, "requests/$id.json").writeText(
            """{"protocol": 1, "id": "$id", "bundle": "${TestWorld.FIRST}", "state": "warm", "threads": 2, "repeat": 3, "decode_tokens": 3, "chat": true, "prompts": [{"tokens": $tokens, "text": "hi"}]}""",
        )
        val screen = open<BenchmarkActivity>(Intent("dev.firsttoken.demo.BENCHMARK").setClass(RuntimeEnvironment.getApplication(), BenchmarkActivity::class.java).putExtra("id", id)).get()
        waitFor("the end") { "All runs are done." in screen.says() }
        return screen
    }
}
