package dev.firsttoken.demo.measure

import android.content.Intent
import android.widget.CheckBox
import android.widget.EditText
import android.widget.RadioButton
import dev.firsttoken.core.json.JsonText
import dev.firsttoken.core.measure.MeasurementReader
import dev.firsttoken.demo.R
import dev.firsttoken.demo.ScreenTest
import dev.firsttoken.demo.TestWorld
import dev.firsttoken.demo.TestWorld.waitFor
import java.io.File
import java.io.FileNotFoundException
import java.util.concurrent.CountDownLatch
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
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
        waitFor("the question whom to send it to") { shadowOf(screen).peekNextStartedActivity() != null }
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
        val next = nextProcess()
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
        assertEquals("Stopped; the finished runs are kept.", screen.text(R.id.phase))
    }

    @Test fun itGoesOnWhileThePhoneIsTurned() {
        TestWorld.stageSeveral()
        TestWorld.secondsPerToken = 0.02
        val controller = open<MeasureActivity>()
        waitFor("the bundles") { controller.get().views().any { it is CheckBox } }
        controller.get().fill(lengths = "32", repeat = "200", decode = "2")
        controller.get().views().filterIsInstance<CheckBox>()[1].isChecked = false
        controller.get().click(R.id.start)
        waitFor("a few runs") { state.done >= 2 }
        RuntimeEnvironment.setQualifiers("+land")
        controller.configurationChange().visible()
        val turned = controller.get()
        waitFor("the bundles again") { turned.views().count { it is CheckBox } == 2 }
        assertEquals(listOf(true, false), turned.views().filterIsInstance<CheckBox>().map { it.isChecked })
        assertEquals("200", turned.text(R.id.repeat))
        val before = state.done
        waitFor("more runs") { state.done > before && "of 200: 32 prompt tokens" in turned.text(R.id.phase) }
        assertFalse(turned.findViewById<android.view.View>(R.id.start).isEnabled)
        turned.click(R.id.stop)
        waitFor("the end") { !state.isRunning }
        assertTrue(state.results!!.results.single().runs.size > before)
    }

    @Test fun memoryPressureLosesNoRun() {
        TestWorld.stage()
        TestWorld.secondsPerToken = 0.01
        val screen = opened()
        screen.fill(lengths = "32", repeat = "20", decode = "1")
        screen.click(R.id.start)
        waitFor("a few runs") { state.done >= 2 }
        val app = RuntimeEnvironment.getApplication()
        app.onTrimMemory(android.content.ComponentCallbacks2.TRIM_MEMORY_COMPLETE)
        app.onLowMemory()
        waitFor("the end") { !state.isRunning && state.results != null }
        assertEquals(20, state.results!!.results.single().runs.count { it.state == "warm" })
    }

    @Test fun theThermalStateIsTheOneOfNow() {
        TestWorld.stage()
        val screen = opened()
        assertEquals("Thermal state: none", screen.text(R.id.thermal))
        val power = RuntimeEnvironment.getApplication().getSystemService(android.content.Context.POWER_SERVICE) as android.os.PowerManager
        shadowOf(power).setCurrentThermalStatus(android.os.PowerManager.THERMAL_STATUS_SEVERE)
        waitFor("the new state") { screen.text(R.id.thermal) == "Thermal state: severe: times will be worse" }
    }

    @Test fun theProviderGivesNothingButTheOneFile() {
        val provider = Robolectric.setupContentProvider(MeasurementProvider::class.java, "dev.firsttoken.demo.measurements")
        MeasurementProvider.file(RuntimeEnvironment.getApplication()).writeText("{}")
        for (path in listOf("", "/", "/session.txt", "/../session.txt", "/measurement.json/../../session.txt", "/%2e%2e/session.txt", "/measurement.json%00.txt", "//measurement.json", "/shared/measurement.json", "/${"a".repeat(100_000)}")) {
            val uri = android.net.Uri.parse("content://dev.firsttoken.demo.measurements$path")
            assertThrows(path.take(40), FileNotFoundException::class.java) { provider.openFile(uri, "r") }
        }
        for (mode in listOf("w", "rw", "rwt", "wa", "")) assertThrows(mode, FileNotFoundException::class.java) { provider.openFile(MeasurementProvider.URI, mode) }
        assertThrows(UnsupportedOperationException::class.java) { provider.delete(MeasurementProvider.URI, null, null) }
        assertThrows(UnsupportedOperationException::class.java) { provider.insert(MeasurementProvider.URI, null) }
        provider.query(MeasurementProvider.URI, null, null, null, null).use {
            assertTrue(it.moveToFirst())
            assertEquals("measurement.json" to 2L, it.getString(0) to it.getLong(1))
        }
        val info = RuntimeEnvironment.getApplication().packageManager.resolveContentProvider("dev.firsttoken.demo.measurements", 0)!!
        assertFalse(info.exported)
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
