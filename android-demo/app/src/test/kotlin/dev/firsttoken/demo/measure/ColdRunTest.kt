package dev.firsttoken.demo.measure

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.benchmark.BenchmarkFolders
import dev.firsttoken.demo.ScreenTest
import dev.firsttoken.demo.TestWorld
import dev.firsttoken.demo.TestWorld.waitFor
import java.io.File
import java.util.concurrent.Executors
import java.util.concurrent.Future
import java.util.concurrent.atomic.AtomicBoolean
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNotNull
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.shadows.ShadowProcess

/** A cold run's process, played by one of this machine. */
class ColdRunTest : ScreenTest() {
    private val id = "ab".repeat(16)
    private val places by lazy { BenchmarkFolders(TestWorld.root, File(TestWorld.root, "measurements")) }
    private val worker = Executors.newSingleThreadExecutor()
    private val process by lazy { ProcessBuilder("sleep", "60").start() }
    private val cancelled = AtomicBoolean()
    private val inFront = AtomicBoolean(true)
    private val waits = AtomicBoolean()

    @After fun end() {
        cancelled.set(true)
        process.destroyForcibly().waitFor()
        worker.shutdownNow()
    }

    private fun started(): Future<*> =
        worker.submit { ColdRun(RuntimeEnvironment.getApplication(), cancelled::get, inFront::get) { waits.set(true) }.carryOut(id, places) }

    private fun tell(line: String) = places.progress(id).appendText(line + "\n")

    private fun startedProcess() = tell("""{"event": "started", "pid": ${process.pid()}, "total": 1, "kept": 0}""")

    private val activity get() = shadowOf(RuntimeEnvironment.getApplication()).nextStartedActivity

    @Test fun behindAnotherAppItWaits() {
        inFront.set(false)
        val run = started()
        waitFor("the word that it waits") { waits.get() }
        assertNull(activity)
        inFront.set(true)
        waitFor("its activity") { shadowOf(RuntimeEnvironment.getApplication()).peekNextStartedActivity() != null }
        assertEquals(id, activity.getStringExtra("id"))
        cancelled.set(true)
        waitFor("the end") { run.isDone }
    }

    @Test fun whatIsCancelledWhileItWaitsStartsNothing() {
        inFront.set(false)
        val run = started()
        waitFor("the word that it waits") { waits.get() }
        cancelled.set(true)
        waitFor("the end") { run.isDone }
        assertNull(activity)
    }

    @Test fun aProcessThatStaysIsEndedSinceTheNextRunWouldNotBeCold() {
        val run = started()
        startedProcess()
        tell("""{"event": "done", "runs": 1, "failures": 0}""")
        waitFor("the order to end") { ShadowProcess.wasKilled(process.pid().toInt()) }
        assertFalse("not before it is gone", run.isDone)
        process.destroyForcibly().waitFor()
        waitFor("the end") { run.isDone }
        assertNotNull(activity)
    }

    @Test fun stoppingEndsTheProcessToo() {
        val run = started()
        startedProcess()
        waitFor("its activity") { shadowOf(RuntimeEnvironment.getApplication()).peekNextStartedActivity() != null }
        cancelled.set(true)
        waitFor("the order to end") { ShadowProcess.wasKilled(process.pid().toInt()) }
        process.destroyForcibly().waitFor()
        waitFor("the end") { run.isDone }
    }

    @Test fun aProcessThatDiesEarlyIsAFailure() {
        val run = started()
        startedProcess()
        process.destroyForcibly().waitFor()
        waitFor("the end") { run.isDone }
        val cause = assertThrows(java.util.concurrent.ExecutionException::class.java) { run.get() }.cause
        assertTrue("$cause", cause is FirstTokenException && "the cold run ended early" in cause.message.orEmpty())
    }
}
