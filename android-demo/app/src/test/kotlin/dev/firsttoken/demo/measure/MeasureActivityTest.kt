package dev.firsttoken.demo.measure

import android.content.Intent
import android.widget.CheckBox
import android.widget.EditText
import android.widget.RadioButton
import dev.firsttoken.core.json.JsonText
import dev.firsttoken.core.measure.MeasurementReader
import dev.firsttoken.demo.R
import dev.firsttoken.demo.ScreenTest
import dev.firsttoken.demo.Services
import dev.firsttoken.demo.AppFolders
import dev.firsttoken.demo.TestWorld
import dev.firsttoken.demo.TestWorld.waitFor
import java.io.File
import java.io.FileNotFoundException
import java.util.concurrent.CountDownLatch
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import org.robolectric.Robolectric
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf

class MeasureActivityTest : ScreenTest() {
    private fun opened(): MeasureActivity {
        val screen = open<MeasureActivity>().get()
        waitFor("the bundles") { screen.views().any { it is CheckBox } }
        return screen
    }

    private fun MeasureActivity.fill(lengths: String = "32, 64", repeat: String = "2", decode: String = "4") {
        findViewById<EditText>(R.id.lengths).setText(lengths)
        findViewById<EditText>(R.id.repeat).setText(repeat)
        findViewById<EditText>(R.id.decode).setText(decode)
    }

    private val state get() = services.measures.state

    @Test fun chosenBundlesAreMeasuredSideBySideAndShared() {
        TestWorld.stageSeveral()
        val screen = opened()
        assertEquals("only what runs here is offered", 2, screen.views().count { it is CheckBox })
        screen.fill()
        screen.click(R.id.start)
        waitFor("the end") { !state.isRunning && state.results != null }
        val said = screen.says()
        assertEquals("All runs are done.", screen.text(R.id.phase))
        assertTrue(said, "32 prompt tokens, warm" in said && "64 prompt tokens, warm" in said)
        assertEquals("two bundles at two lengths", 4, said.lines().count { it.startsWith("First token: median") })
        assertTrue("demo · int8 · TensorFlow Lite 2.16.1" in said && "demo · fp16-attention · LiteRT 2.3.0" in said)
        screen.click(R.id.share)
        val sent = shadowOf(screen).nextStartedActivity.getParcelableExtra(Intent.EXTRA_INTENT, Intent::class.java)!!
        assertEquals(MeasurementProvider.URI, sent.getParcelableExtra(Intent.EXTRA_STREAM, android.net.Uri::class.java))
        val provider = Robolectric.setupContentProvider(MeasurementProvider::class.java, "dev.firsttoken.demo.measurements")
        val shared = provider.openFile(MeasurementProvider.URI, "r").let { file -> android.os.ParcelFileDescriptor.AutoCloseInputStream(file).use { it.readBytes().toString(Charsets.UTF_8) } }
        val measurement = MeasurementReader.parse(JsonText.parseObject(shared, "shared"), "shared")
        assertEquals(2, measurement.results.size)
        assertEquals(4, measurement.results[0].runs.count { it.state == "warm" })
        assertThrows(FileNotFoundException::class.java) { provider.openFile(MeasurementProvider.URI, "rw") }
        assertThrows(FileNotFoundException::class.java) { provider.openFile(android.net.Uri.parse("content://dev.firsttoken.demo.measurements/../session.txt"), "r") }
        File(dev.firsttoken.core.Parity.folder(), "written/shared.json").apply { parentFile!!.mkdirs() }.writeText(shared)
    }

    @Test fun aKilledProcessLosesNoFinishedRun() {
        TestWorld.stage()
        val screen = opened()
        screen.fill(lengths = "32", repeat = "1")
        screen.click(R.id.start)
        waitFor("the end") { !state.isRunning && state.results != null }
        val app = RuntimeEnvironment.getApplication()
        val next = Services(app, TestWorld.engines, TestWorld.phone, AppFolders(app, TestWorld.staging) { arrayOf(TestWorld.media) }, { false })
        next.measures.restore()
        waitFor("the old results") { next.measures.state.results != null }
        assertEquals(1, next.measures.state.results!!.results.single().runs.count { it.state == "warm" })
    }

    @Test fun whatCannotBeMeasuredIsSaidAtOnce() {
        TestWorld.stage()
        val screen = opened()
        for ((lengths, repeat, said) in listOf(
            Triple("", "5", "0 prompt lengths; expected 1 to 32"), Triple("32, many", "5", "a prompt length is 'many'"), Triple("32", "0", "the number of runs is '0'; expected 1 to 1000"),
        )) {
            screen.fill(lengths, repeat)
            screen.click(R.id.start)
            assertTrue(screen.text(R.id.phase), said in screen.text(R.id.phase))
        }
        screen.views().filterIsInstance<CheckBox>().forEach { it.isChecked = false }
        screen.click(R.id.start)
        assertTrue("no bundle is chosen" in screen.text(R.id.phase))
    }

    @Test fun aLengthThatTheTemplateExceedsIsAMessage() {
        TestWorld.stage()
        val screen = opened()
        screen.fill(lengths = "2")
        screen.click(R.id.start)
        waitFor("the end") { state.message != null }
        assertTrue(screen.text(R.id.phase), "a prompt of 2 tokens cannot be made" in screen.text(R.id.phase))
    }

    @Test fun progressIsShownAndStopKeepsWhatIsMeasured() {
        TestWorld.stage()
        val screen = opened()
        TestWorld.secondsPerToken = 0.02
        screen.fill(lengths = "32", repeat = "200", decode = "2")
        screen.click(R.id.start)
        waitFor("a few runs") { state.done >= 2 }
        assertTrue(screen.text(R.id.phase), "of 200: 32 prompt tokens (warm), first token after" in screen.text(R.id.phase))
        screen.click(R.id.stop)
        waitFor("the end") { !state.isRunning }
        assertTrue(state.results!!.results.single().runs.size >= 2)
        assertTrue("Stopped" in screen.text(R.id.phase) || "cancelled" in screen.text(R.id.phase))
    }

    @Test fun failuresAreShownWithTheirStage() {
        TestWorld.stage()
        TestWorld.openFails = IllegalStateException("the delegate said no")
        val screen = opened()
        screen.fill()
        screen.click(R.id.start)
        waitFor("the end") { !state.isRunning && state.results != null }
        assertTrue(screen.says(), "failed in stage load: IllegalStateException: the delegate said no" in screen.says())
    }

    @Test fun aColdRunIsAskedOfAProcessOfItsOwn() {
        TestWorld.stage()
        val screen = opened()
        screen.fill(lengths = "32", repeat = "1")
        screen.findViewById<RadioButton>(R.id.cold).isChecked = true
        screen.click(R.id.start)
        waitFor("the start of the process") { shadowOf(RuntimeEnvironment.getApplication()).peekNextStartedActivity() != null }
        val asked = shadowOf(RuntimeEnvironment.getApplication()).nextStartedActivity
        assertEquals(ColdActivity::class.java.name, asked.component!!.className)
        screen.click(R.id.stop)
        waitFor("the end") { !state.isRunning }
    }
}
