package dev.firsttoken.core.benchmark

import dev.firsttoken.core.generate.Clock
import org.junit.Assert.assertEquals
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

class ProgressFileTest {
    @get:Rule val folder = TemporaryFolder()
    private val clock = object : Clock {
        override fun nanoTime() = 0L

        override fun wallMillis() = 1700000000123L
    }

    @Test fun everyEventIsALineWithItsFields() {
        val file = folder.newFile("a.progress")
        ProgressFile(file, clock).use {
            it.started(7, 10, 2)
            it.phase("loading")
            it.run(32, "warm", 1, 10, 5_000_000_000)
            it.failed(null, "load", "é\n\"x\"")
            it.failed(32, "prefill", "m")
        }
        ProgressFile(file, clock).use { it.done(3, 1) }
        val lines = """
            {"event":"started","time":1700000000123,"pid":7,"total":10,"kept":2}
            {"event":"phase","time":1700000000123,"phase":"loading"}
            {"event":"run","time":1700000000123,"prompt_tokens":32,"state":"warm","done":1,"total":10,"first_token_ns":5000000000}
            {"event":"failed","time":1700000000123,"stage":"load","message":"é\n\"x\""}
            {"event":"failed","time":1700000000123,"prompt_tokens":32,"stage":"prefill","message":"m"}
            {"event":"done","time":1700000000123,"runs":3,"failures":1}
        """.trimIndent() + "\n"
        assertEquals(lines, file.readText())
    }

    @Test fun aLineWithoutItsEndIsTakenOff() {
        for ((left, kept) in listOf("{\"event\":\"started\"}\n{\"ev" to "{\"event\":\"started\"}\n", "{\"ev" to "", "" to "", "{}\n" to "{}\n")) {
            val file = folder.newFile().apply { writeText(left) }
            ProgressFile(file, clock).use { it.refused("m") }
            assertEquals("$kept{\"event\":\"refused\",\"time\":1700000000123,\"message\":\"m\"}\n", file.readText())
        }
    }
}
