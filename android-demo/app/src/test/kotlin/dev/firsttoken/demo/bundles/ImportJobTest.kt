package dev.firsttoken.demo.bundles

import android.app.Notification
import android.app.NotificationManager
import android.content.ComponentName
import android.content.Context
import android.content.pm.ServiceInfo
import android.net.Uri
import dev.firsttoken.demo.ScreenTest
import dev.firsttoken.demo.TestWorld
import dev.firsttoken.demo.TestWorld.waitFor
import java.io.ByteArrayInputStream
import java.io.File
import java.io.InputStream
import java.util.concurrent.CountDownLatch
import java.util.concurrent.TimeUnit
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNotNull
import org.junit.Assert.assertTrue
import org.junit.Test
import org.robolectric.Robolectric
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf

/** Imports out of documents whose provider does what it likes, and whose process may be killed. */
class ImportJobTest : ScreenTest() {
    private val app get() = RuntimeEnvironment.getApplication()
    private val document = Uri.parse("content://documents/bundle.zip")
    private val memory get() = File(app.filesDir, "import.txt")
    private val bundles get() = File(app.filesDir, "bundles")
    private val state get() = services.imports.state

    private fun provide(stream: () -> InputStream) = shadowOf(app.contentResolver).registerInputStreamSupplier(document) { stream() }

    /** A document that comes to a stop in its middle until [go], like one that is fetched from far away. */
    private class Slow(bytes: ByteArray, private val go: CountDownLatch) : InputStream() {
        private val inner = ByteArrayInputStream(bytes)
        private var left = bytes.size / 2

        override fun read(): Int = throw AssertionError("read in blocks")

        override fun read(into: ByteArray, at: Int, most: Int): Int {
            if (left <= 0) go.await(30, TimeUnit.SECONDS)
            return inner.read(into, at, minOf(most, 4096)).also { left -= it }
        }
    }

    private fun ended(): ImportState {
        services.imports.start(document)
        waitFor("the import's end") { !state.isRunning }
        assertFalse("nothing is left to be started again", memory.exists())
        assertFalse(File(bundles, ".import.partial").exists())
        return state
    }

    @Test fun whateverAProviderThrowsIsAMessageAndTheNextImportGoesOn() {
        val thrown = listOf(NullPointerException("no cursor"), IllegalArgumentException("unknown document"), UnsupportedOperationException(), IllegalStateException("disconnected"))
        for (each in thrown) {
            provide { throw each }
            val said = ended().message.orEmpty()
            assertTrue(said, "the app that holds the document failed (${each.javaClass.simpleName}" in said && "pick it there" in said)
        }
        provide { throw SecurityException("revoked") }
        assertEquals("the document may not be read any more; pick it again", ended().message)
        provide { object : InputStream() { override fun read(): Int = throw ClassCastException("remote") } }
        assertTrue("ClassCastException" in ended().message.orEmpty())
        val good = TestWorld.archive()
        provide { ByteArrayInputStream(good) }
        assertTrue(ended().isDone)
    }

    @Test fun itGoesOnWhenTheAppIsLeftAndTheNotificationStopsIt() {
        val go = CountDownLatch(1)
        val bytes = TestWorld.archive()
        provide { Slow(bytes, go) }
        services.imports.start(document)
        val asked = shadowOf(app).nextStartedService
        assertEquals(ImportService::class.java.name, asked.component!!.className)
        val controller = Robolectric.buildService(ImportService::class.java, asked).create().startCommand(0, 1)
        val notice = shadowOf(controller.get()).lastForegroundNotification
        assertTrue("ongoing", notice.flags and Notification.FLAG_ONGOING_EVENT != 0)
        assertTrue("Importing: " in notice.extras.getCharSequence(Notification.EXTRA_TEXT).toString())
        assertNotNull((app.getSystemService(Context.NOTIFICATION_SERVICE) as NotificationManager).getNotificationChannel("import"))
        val stop = notice.actions.single()
        assertEquals("Stop", stop.title)
        controller.get().onStartCommand(shadowOf(stop.actionIntent).savedIntent, 0, 2)
        go.countDown()
        waitFor("the end") { !state.isRunning }
        assertEquals("the import was cancelled", state.message)
        assertTrue(shadowOf(controller.get()).isStoppedBySelf && shadowOf(controller.get()).isForegroundStopped)
        controller.destroy()
        assertTrue(bundles.listFiles().orEmpty().isEmpty())
    }

    @Test fun theServiceIsTheAppsOwnAndOfTheDataType() {
        val info = app.packageManager.getServiceInfo(ComponentName(app, ImportService::class.java), 0)
        assertFalse(info.exported)
        assertEquals(ServiceInfo.FOREGROUND_SERVICE_TYPE_DATA_SYNC, info.foregroundServiceType)
    }

    @Test fun anImportWhoseProcessWasKilledStartsAgainByItself() {
        val go = CountDownLatch(1)
        val bytes = TestWorld.archive()
        provide { Slow(bytes, go) }
        services.imports.start(document)
        waitFor("its first half") { File(bundles, ".import.partial").list().orEmpty().isNotEmpty() }
        provide { ByteArrayInputStream(bytes) }
        val next = nextProcess()
        next.imports.resume()
        waitFor("the new import") { next.imports.state.isDone }
        assertEquals(1, next.library.list().count { it.problem == null })
        assertFalse(memory.exists())
        next.imports.resume()
        go.countDown()
        waitFor("the old one's end") { !state.isRunning }
    }

    @Test fun aKilledImportThatMayNotBeReadAnyMoreSaysSo() {
        memory.writeText(document.toString())
        provide { throw SecurityException("the permission ended with the process") }
        val screen = open<BundlesActivity>().get()
        waitFor("the message") { "Not imported: the document may not be read any more; pick it again" in screen.says() }
        assertFalse(memory.exists())
    }

    @Test fun whatWasBeingRemovedWhenTheProcessWasKilledIsGone() {
        val left = File(bundles, ".removed-${TestWorld.FIRST}").apply { mkdirs() }
        File(left, "model.tflite").writeText("half")
        assertTrue(services.library.list().isEmpty())
        assertFalse(left.exists())
    }

    @Test fun aManifestThatNoParserTakesIsAnEntryWithItsReason() {
        val deep = "[".repeat(200_000)
        TestWorld.stage { """{"schema_version":2,"artifacts":$deep""" }
        TestWorld.stage(TestWorld.SECOND) { "\u0000\uFFFD" }
        val found = services.library.list()
        assertEquals(2, found.size)
        assertTrue(found.map { it.problem }.toString(), found.all { it.manifest == null && !it.problem.isNullOrBlank() })
    }
}
