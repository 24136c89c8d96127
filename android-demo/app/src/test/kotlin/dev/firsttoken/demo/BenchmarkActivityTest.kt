package dev.firsttoken.demo

import android.content.Intent
import android.content.pm.PackageManager
import android.os.Bundle
import android.os.Parcel
import android.os.Parcelable
import android.view.WindowManager
import android.widget.CheckBox
import dev.firsttoken.core.Parity
import dev.firsttoken.core.generate.DemoFiles
import dev.firsttoken.core.generate.encodePrompt
import dev.firsttoken.core.measure.MeasurementReader
import dev.firsttoken.demo.TestWorld.waitFor
import dev.firsttoken.demo.measure.MeasureActivity
import dev.firsttoken.demo.measure.MeasureOptions
import java.io.File
import java.util.concurrent.CountDownLatch
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertSame
import org.junit.Assert.assertTrue
import org.junit.Test
import org.robolectric.RuntimeEnvironment

/** The benchmark as `firsttoken device profile` starts it, to its files. */
class BenchmarkActivityTest : ScreenTest() {
    private val id = "0f".repeat(16)
    private val progress get() = File(TestWorld.media, "measurements/$id.progress")
    private val measurement get() = File(TestWorld.media, "measurements/$id.json")
    private val events get() = if (progress.isFile) Parity.cases(progress).map { it["event"].asString } else emptyList()

    private fun intent(id: String?) = Intent("dev.firsttoken.demo.BENCHMARK").setClass(RuntimeEnvironment.getApplication(), BenchmarkActivity::class.java).apply { if (id != null) putExtra("id", id) }

    private fun request(name: String = id, repeat: Int = 2, state: String = "warm") {
        val tokens = encodePrompt(DemoFiles.tokenizer(), "hi", DemoFiles.manifest().chat).size
        File(TestWorld.staging, "requests").mkdirs()
        File(TestWorld.staging, "requests/$name.json").writeText(
            """{"protocol": 1, "id": "$name", "bundle": "${TestWorld.FIRST}", "state": "$state", "threads": 2, "repeat": $repeat, "decode_tokens": 3, "chat": true, "prompts": [{"tokens": $tokens, "text": "hi"}]}""",
        )
    }

    @Test fun aRequestIsCarriedOutToItsMeasurement() {
        TestWorld.stage()
        request()
        val screen = open<BenchmarkActivity>(intent(id)).get()
        assertTrue("the screen stays on", screen.window.attributes.flags and WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON != 0)
        waitFor("the end") { "done" in events && "All runs are done." in screen.says() }
        val result = MeasurementReader.read(measurement).results.single()
        assertEquals(listOf("warm-up", "warm", "warm"), result.runs.map { it.state })
        assertEquals(TestWorld.FIRST, result.bundle.name)
        assertTrue("every first token had its frame", result.runs.all { it.stages.render != null })
        assertEquals("LiteRT 2.3.0", result.runtimeVersion)
        assertTrue("Run 2 of 2" in screen.says())
        File(Parity.folder(), "written").mkdirs()
        measurement.copyTo(File(Parity.folder(), "written/app.json"), overwrite = true)
    }

    @Test fun onlyTheShellMayStartItFromOutside() {
        val app = RuntimeEnvironment.getApplication()
        val found = app.packageManager.getPackageInfo(app.packageName, PackageManager.GET_ACTIVITIES or PackageManager.GET_SERVICES or PackageManager.GET_PROVIDERS)
        val open = found.activities!!.filter { it.exported && it.permission == null }.map { it.name }
        assertEquals("what any app may start", listOf("dev.firsttoken.demo.bundles.BundlesActivity"), open)
        assertEquals("android.permission.DUMP", found.activities!!.single { it.name == BenchmarkActivity::class.java.name }.permission)
        assertTrue((found.services.orEmpty().map { it.exported } + found.providers.orEmpty().map { it.exported }).none { it })
    }

    @Test fun anIdWithoutARequestDoesNotCostTheLoadedModel() {
        val bundle = TestWorld.stage()
        val before = services.worker.submit<Any> { services.loaded.open(bundle, 2) }.get()
        open<BenchmarkActivity>(intent(id)).get()
        waitFor("the refusal") { "refused" in events }
        assertSame(before, services.worker.submit<Any> { services.loaded.open(bundle, 2) }.get())
    }

    @Test fun withoutAnIdItOnlyWaits() {
        val screen = open<BenchmarkActivity>(intent(null)).get()
        assertTrue("Waiting for the command" in screen.says())
        assertTrue(screen.window.attributes.flags and WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON != 0)
        assertFalse(TestWorld.media.exists())
    }

    @Test fun anIdThatLeadsElsewhereOpensNothing() {
        for (bad in listOf("../../x", "", "AB".repeat(16), "a".repeat(100_000))) {
            val screen = open<BenchmarkActivity>(intent(bad)).get()
            assertTrue(screen.says(), "Not carried out: the id of the request is" in screen.says())
        }
        assertFalse(TestWorld.media.exists())
    }

    @Test fun anIdThatIsNoTextIsRefused() {
        val extras = listOf<(Intent) -> Intent>({ it.putExtra("id", 7) }, { it.putExtra("id", arrayOf(id)) }, { it.putExtra("id", Bundle()) }, { it.putExtra("id", ByteArray(100_000)) })
        for (put in extras) {
            val screen = open<BenchmarkActivity>(put(intent(null))).get()
            assertTrue(screen.says(), "Not carried out: the id of the request is '(no text)'" in screen.says())
        }
        assertFalse(TestWorld.media.exists())
    }

    @Test fun anExtraThatDoesNotUnpackIsRefused() {
        val parcel = Parcel.obtain()
        intent(null).putExtra("id", Hostile()).writeToParcel(parcel, 0)
        parcel.setDataPosition(0)
        val received = Intent.CREATOR.createFromParcel(parcel).apply { setExtrasClassLoader(Hostile::class.java.classLoader) }
        // Android 12 and before unpack all extras at the first look at any
        val older = object : Intent(intent(null)) {
            override fun hasExtra(name: String?) = throw android.os.BadParcelableException("hostile")
        }
        for (hostile in listOf(received, older)) {
            val screen = open<BenchmarkActivity>(hostile).get()
            assertTrue(screen.says(), "Not carried out: the id of the request is '(" in screen.says())
        }
        assertFalse(TestWorld.media.exists())
    }

    @Test fun aRequestThatIsOutOfBoundsIsRefusedInItsProgressFile() {
        TestWorld.stage()
        val changes = listOf<Pair<String, (String) -> String>>(
            "repeat" to { it.replace("\"repeat\": 2", "\"repeat\": 1000000000") },
            "threads" to { it.replace("\"threads\": 2", "\"threads\": -1") },
            "decode_tokens" to { it.replace("\"decode_tokens\": 3", "\"decode_tokens\": 99999999999999999999") },
            "bundle" to { it.replace(TestWorld.FIRST, "../../../../data/data") },
            "chat" to { it.replace("\"chat\": true", "\"chat\": \"true\"") },
            "state" to { it.replace("\"warm\"", "\"${"w".repeat(10_000)}\"") },
            "prompts" to { it.replace(Regex("\\[.*]"), "[]") },
            "id" to { it.replace(id, "1e".repeat(16)) },
            "no NPU artifact" to { it.replace("\"chat\": true", "\"chat\": true, \"artifact\": \"npu\"") },
            "1048576" to { it.replace("\"hi\"", "\"${"a".repeat(2 shl 20)}\"") },
        )
        for ((named, change) in changes) {
            request()
            val file = File(TestWorld.staging, "requests/$id.json")
            file.writeText(change(file.readText()))
            progress.delete()
            val screen = open<BenchmarkActivity>(intent(id)).get()
            waitFor("the refusal of $named") { "refused" in events && "Not carried out" in screen.says() }
            val message = Parity.cases(progress).last()["message"].asString
            assertTrue("$named: $message", (named in message || "larger" in message) && message.length < 500)
            assertFalse(measurement.exists())
        }
    }

    @Test fun aLockedPhoneRefusesInTheProgressFile() {
        TestWorld.isLocked = true
        val screen = open<BenchmarkActivity>(intent(id)).get()
        assertEquals(listOf("refused"), events)
        assertTrue("the phone is locked" in screen.says())
    }

    @Test fun aSecondBenchmarkIsRefusedWhileOneRuns() {
        TestWorld.stage()
        request()
        val other = "1e".repeat(16)
        request(other)
        TestWorld.loading = CountDownLatch(1)
        val controller = open<BenchmarkActivity>(intent(id))
        waitFor("the start") { "started" in events }
        controller.newIntent(intent(other))
        val refused = Parity.cases(File(TestWorld.media, "measurements/$other.progress")).single()
        assertTrue("another benchmark is running" in refused["message"].asString)
        controller.newIntent(intent(id))
        TestWorld.loading.countDown()
        waitFor("the end") { "done" in events }
        assertEquals("the same id again joins in", 1, events.count { it == "started" })
    }

    @Test fun itIsRefusedWhileOneRunsThatWasStartedInTheApp() {
        TestWorld.stage()
        request()
        TestWorld.loading = CountDownLatch(1)
        services.measures.start(MeasureOptions(listOf(TestWorld.FIRST), listOf(16), 1, 2, 2, isCold = false))
        val controller = open<BenchmarkActivity>(intent(id))
        assertTrue("another benchmark is running" in controller.get().says())
        assertEquals(listOf("refused"), events)
        TestWorld.loading.countDown()
        waitFor("the end of the first") { !services.measures.state.isRunning }
        controller.newIntent(intent(id))
        waitFor("the end of the second") { "done" in events }
        assertEquals(listOf("refused", "started"), events.take(2))
    }

    @Test fun whileItRunsNoneIsStartedInTheApp() {
        TestWorld.stage()
        request()
        TestWorld.loading = CountDownLatch(1)
        open<BenchmarkActivity>(intent(id))
        waitFor("the start") { "started" in events }
        val screen = open<MeasureActivity>().get()
        waitFor("the bundles") { screen.views().any { it is CheckBox } }
        screen.click(R.id.start)
        assertTrue(screen.says(), RuntimeEnvironment.getApplication().getString(R.string.benchmark_first) in screen.says())
        assertFalse(services.measures.state.isRunning)
        TestWorld.loading.countDown()
        waitFor("the end") { "done" in events }
    }

    @Test fun onePromptThatFailsLeavesTheOthersTheirRuns() {
        TestWorld.stage()
        request()
        val file = File(TestWorld.staging, "requests/$id.json")
        file.writeText(file.readText().replace("\"prompts\": [", "\"prompts\": [{\"tokens\": 31, \"text\": \"another length\"}, "))
        open<BenchmarkActivity>(intent(id))
        waitFor("the end") { "done" in events }
        val result = MeasurementReader.read(measurement).results.single()
        assertEquals(listOf(31), result.failures.map { it.promptTokens })
        assertEquals(listOf("tokenize"), result.failures.map { it.stage })
        assertEquals(2, result.runs.count { it.state == "warm" })
        assertEquals(1, events.count { it == "failed" })
    }

    @Test fun aRequestThatIsMissingIsRefused() {
        val screen = open<BenchmarkActivity>(intent(id)).get()
        waitFor("the refusal") { "refused" in events && "Not carried out" in screen.says() }
        assertTrue("missing" in screen.says())
    }

    @Test fun stopEndsIt() {
        TestWorld.stage()
        request(repeat = 1000)
        TestWorld.decoding = CountDownLatch(1)
        val screen = open<BenchmarkActivity>(intent(id)).get()
        waitFor("the start") { "started" in events }
        screen.click(R.id.stop)
        TestWorld.decoding.countDown()
        waitFor("the end") { "done" in events }
        assertEquals("cancelled on the phone", MeasurementReader.read(measurement).results.single().failures.single().message)
    }

    @Test fun theVersionsAreOne() {
        val info = RuntimeEnvironment.getApplication().packageManager.getPackageInfo("dev.firsttoken.demo", 0)
        assertEquals(BuildFacts.VERSION, info.versionName)
    }
}

/** An extra that another app made so that it fails while it is unpacked. */
class Hostile : Parcelable {
    override fun describeContents() = 0

    override fun writeToParcel(parcel: Parcel, flags: Int) = Unit

    companion object {
        @JvmField val CREATOR = object : Parcelable.Creator<Hostile> {
            override fun createFromParcel(parcel: Parcel): Hostile = throw android.os.BadParcelableException("hostile")

            override fun newArray(size: Int) = arrayOfNulls<Hostile>(size)
        }
    }
}
