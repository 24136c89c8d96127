package dev.firsttoken.core.benchmark

import dev.firsttoken.core.generate.SystemClock
import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

class ProgressReaderTest {
    @get:Rule val folder = TemporaryFolder()
    private val file get() = File(folder.root, "p")

    @Test fun whatIsWrittenIsReadOnce() {
        val reader = ProgressReader(file)
        assertEquals("not there yet", 0, reader.next().size)
        ProgressFile(file, SystemClock).use { it.started(7, 3, 1); it.phase("running"); it.run(32, "warm", 1, 3, 5) }
        val (started, phase, run) = reader.next()
        assertEquals(listOf(7, 3), listOf(started.pid, started.total))
        assertEquals("running", phase.phase)
        assertEquals(listOf(32, "warm", 1, 3, 5L), listOf(run.promptTokens, run.state, run.done, run.total, run.firstToken))
        assertEquals(0, reader.next().size)
        ProgressFile(file, SystemClock).use { it.failed(32, "prefill", "no"); it.done(3, 1) }
        val (failed, done) = reader.next()
        assertEquals(listOf("prefill", "no"), listOf(failed.stage, failed.message))
        assertTrue(done.isFinal && !failed.isFinal)
    }

    @Test fun aLineWithoutItsEndIsNotThereYet() {
        val reader = ProgressReader(file)
        file.writeText("{\"event\":\"phase\",\"phase\":\"loading\"}\n{\"event\":\"do")
        assertEquals(listOf("phase"), reader.next().map { it.event })
        file.appendText("ne\"}\n")
        assertEquals(listOf("done"), reader.next().map { it.event })
    }

    @Test fun whatIsUnknownOrDamagedIsPassedOver() {
        file.writeText("{\"event\":\"later\",\"more\":{}}\nnonsense\n[1]\n{\"event\":\"run\",\"done\":\"x\"}\n{\"event\":{}}\n{\"event\":\"refused\",\"message\":\"m\"}\n")
        assertEquals(listOf("later", "refused"), ProgressReader(file).next().map { it.event })
    }
}
