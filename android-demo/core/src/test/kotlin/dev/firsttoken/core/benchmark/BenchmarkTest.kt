package dev.firsttoken.core.benchmark

import com.google.gson.JsonObject
import dev.firsttoken.core.Parity
import dev.firsttoken.core.bundle.Bundle
import dev.firsttoken.core.bundle.Manifest
import dev.firsttoken.core.generate.ArtifactChoice
import dev.firsttoken.core.generate.Clock
import dev.firsttoken.core.generate.DemoFiles
import dev.firsttoken.core.generate.Engine
import dev.firsttoken.core.generate.ScriptedEngine
import dev.firsttoken.core.generate.encodePrompt
import dev.firsttoken.core.measure.Conditions
import dev.firsttoken.core.measure.Cpu
import dev.firsttoken.core.measure.Device
import dev.firsttoken.core.measure.MeasurementReader
import dev.firsttoken.core.measure.Result
import dev.firsttoken.core.measure.Writer
import java.io.File
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNotNull
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

/** Requests carried out with a scripted engine on the demo's tokenizer; the files are those that the command will read. */
class BenchmarkTest {
    @get:Rule val folder = TemporaryFolder()
    private val id = "0f".repeat(16)
    private val key = "9a".repeat(16)

    /** Every look at it is a microsecond later. */
    private val clock = object : Clock {
        var now = 0L

        override fun nanoTime() = now.also { now += 1000 }

        override fun wallMillis() = 1767225600000L + now / 1_000_000
    }
    private var refusal: String? = null
    private var cancelAfter = Int.MAX_VALUE
    private val opened = ArrayList<ScriptedEngine>()
    private val shown = ArrayList<String>()
    private var prefillFails: (Int) -> Throwable? = { null }
    private var openFails: Throwable? = null

    private val engines = object : Engines {
        override fun refusal(manifest: Manifest) = refusal

        override fun runtimeVersion(manifest: Manifest) = "scripted 1"

        override fun open(bundle: Bundle, threads: Int, choice: ArtifactChoice): Engine {
            openFails?.let { throw it }
            clock.now += 7_000_000
            return object : Engine(bundle.manifest) {
                private val inner = ScriptedEngine(bundle.manifest, listOf(65)).also { opened += it }

                override fun prefillChunk(tokens: IntArray): FloatArray {
                    prefillFails(tokens.size)?.let { throw it }
                    return inner.prefill(tokens).also { inner.reset() }
                }

                override fun decodeToken(token: Int) = inner.decode(token)

                override fun close() = inner.close()
            }
        }
    }
    private val phone = object : Phone {
        override fun device() = Device("phone", "m", "Android 14", Cpu("c", 8), 8L shl 30)

        override fun conditions() = Conditions("2026-01-01T00:00:00+00:00", thermalStatus = 0).also { clock.now += 100_000_000 }

        override fun runConditions() = RunConditions(1L shl 30, 41.5, 1)
    }

    @Before fun stage() {
        Parity.folder()
        val bundle = folder.newFolder("staging", "bundles", key)
        folder.newFolder("staging", "requests")
        DemoFiles.bundle(bundle)
    }

    /** Every file written is read by Python afterwards, in tests/android/test_core.py. */
    @After fun keepForPython() {
        if (measurementFile.exists()) measurementFile.copyTo(File(Parity.folder().resolve("written").apply { mkdirs() }, "${System.nanoTime()}.json"))
        assertTrue("engines are closed", opened.all { it.closed })
    }

    private val measurementFile get() = File(folder.root, "out/$id.json")
    private val result: Result get() = MeasurementReader.read(measurementFile).results.single()
    private val events get() = Parity.cases(File(folder.root, "out/$id.progress"))

    private fun count(text: String) = encodePrompt(DemoFiles.tokenizer(), text, DemoFiles.manifest().chat).size

    private fun request(state: String = "warm", repeat: Int = 3, decode: Int = 4, texts: List<String> = listOf("hi", "a longer prompt of several words"), wrong: Int = 0) {
        val prompts = texts.joinToString(prefix = "[", postfix = "]") { """{"tokens": ${count(it) + wrong}, "text": "$it"}""" }
        val text = """{"protocol": 1, "id": "$id", "bundle": "$key", "state": "$state", "threads": 2, "repeat": $repeat, "decode_tokens": $decode, "chat": true, "prompts": $prompts}"""
        File(folder.root, "staging/requests/$id.json").writeText(text)
    }

    private fun carryOut() {
        var tokens = 0
        val screen = Screen { text ->
            shown += text
            clock.now += 16_000_000
            clock.now
        }
        val folders = BenchmarkFolders(File(folder.root, "staging"), File(folder.root, "out"))
        Benchmark(BenchmarkHost(folders, engines, phone, screen, Writer("test", "1"), 42, clock) { tokens++ >= cancelAfter }).carryOut(id)
    }

    private fun names(list: List<JsonObject>) = list.map { it["event"].asString }

    @Test fun warmRunsTakeTurnsAfterOneWarmUpOfTheLongest() {
        request()
        carryOut()
        val (short, long) = count("hi") to count("a longer prompt of several words")
        assertEquals(listOf(long to "warm-up") + List(3) { listOf(short to "warm", long to "warm") }.flatten(), result.runs.map { it.promptTokens to it.state })
        assertEquals(listOf("started", "phase", "phase", "run", "phase") + List(6) { "run" } + "done", names(events))
        assertEquals(listOf("loading", "warm-up", "running"), events.filter { it.has("phase") }.map { it["phase"].asString })
        assertEquals(listOf(0, 1, 2, 3, 4, 5, 6), events.filter { it["event"].asString == "run" }.map { it["done"].asInt })
        assertEquals("""{"pid":42,"total":6,"kept":0}""", events[0].apply { remove("event"); remove("time") }.toString())
        assertNotNull(result.after)
        assertEquals(key, result.bundle.name)
        assertTrue(result.runs.all { it.decode!!.tokens == 4 && it.stages.render == 16_001_000L && it.peakMemoryBytes == 1L shl 30 })
        assertTrue("times go up", result.runs.zipWithNext().all { (a, b) -> a.atSeconds < b.atSeconds })
        assertEquals(7, shown.size)
    }

    @Test fun onlyTheFirstRunHasLoadedAndConditionsAreNotPartOfIt() {
        request()
        carryOut()
        val load = result.runs[0].stages.load!!
        assertTrue("load is $load", load in 7_000_000..8_000_000)
        assertTrue(result.runs.drop(1).all { it.stages.load == null })
        assertEquals(events.filter { it["event"].asString == "run" }.map { it["first_token_ns"].asLong }, result.runs.map { it.stages.firstToken })
    }

    @Test fun coldIsTheFirstRunOfItsProcessLoadingIncluded() {
        request(state = "cold", repeat = 1, texts = listOf("hi"))
        carryOut()
        val run = result.runs.single()
        assertEquals(listOf("cold", "unknown"), listOf(run.state, run.pageCache))
        assertTrue(run.stages.load!! >= 7_000_000)
        assertEquals(listOf("started", "phase", "phase", "run", "done"), names(events))
    }

    @Test fun theSameIdAgainDoesWhatIsMissing() {
        request()
        cancelAfter = 16 // tokens, in the third run
        carryOut()
        val kept = result.runs.size
        assertTrue("$kept runs", kept in 2..5)
        assertEquals("cancelled on the phone", result.failures.single().message)
        cancelAfter = Int.MAX_VALUE
        val before = result.runs.map { it.atSeconds }
        clock.now += 60_000_000_000
        carryOut()
        assertEquals(2, result.runs.count { it.state == "warm-up" })
        for (tokens in listOf("hi", "a longer prompt of several words").map(::count)) assertEquals(3, result.runs.count { it.promptTokens == tokens && it.state == "warm" })
        assertEquals(before, result.runs.map { it.atSeconds }.take(kept))
        assertTrue("counted from the first start", result.runs[kept].atSeconds > 60)
        assertEquals(0, result.failures.size)
        val started = events.last { it["event"].asString == "started" }
        assertEquals(listOf(kept - 1, 6 - (kept - 1)), listOf(started["kept"].asInt, started["total"].asInt))
        opened.clear()
        carryOut()
        assertEquals("nothing is missing, so nothing is loaded", 0, opened.size)
        assertEquals(listOf("started", "done"), names(events).takeLast(2))
    }

    @Test fun aPromptThatFailsIsNotedAndTheOthersGoOn() {
        request()
        val long = count("a longer prompt of several words")
        prefillFails = { if (it == long) IllegalStateException("delegate\nsaid no") else null }
        carryOut()
        val failure = result.failures.single()
        assertEquals(listOf("prefill", "IllegalStateException: delegate; said no", long, "warm-up"), listOf(failure.stage, failure.message, failure.promptTokens, failure.state))
        assertEquals(3, result.runs.count { it.state == "warm" })
        assertEquals("the next longest warms up, and its load is noted", listOf("warm-up" to true), result.runs.take(1).map { it.state to (it.stages.load != null) })
        assertEquals(1, events.last()["failures"].asInt)
        assertTrue(events.any { it["event"].asString == "failed" && it["prompt_tokens"].asInt == long })
    }

    @Test fun whatRunsAfterAFailureRunsOnAnotherEngine() {
        request()
        var broken: ScriptedEngine? = null
        var calls = 0
        // once an engine has failed it goes on failing, as an interpreter does whose tensors could not be allocated
        prefillFails = { if (++calls == 4) broken = opened.last(); if (opened.last() === broken) IllegalStateException("Internal error: Unexpected failure\n\nNode number 57 (CAST) failed to prepare.") else null }
        carryOut()
        val (short, long) = count("hi") to count("a longer prompt of several words")
        assertEquals("IllegalStateException: Unexpected failure; Node number 57 (CAST) failed to prepare.", result.failures.single().message)
        assertEquals(listOf(long to "warm-up", short to "warm", long to "warm", long to "warm-up", long to "warm", long to "warm"), result.runs.map { it.promptTokens to it.state })
        assertEquals(listOf(true, true), opened.map { it.closed })
    }

    @Test fun anEngineThatCannotBeLoadedAgainIsAFailureOfEachPrompt() {
        request()
        prefillFails = { openFails = UnsatisfiedLinkError("gone"); IllegalStateException("first") }
        carryOut()
        assertEquals(listOf("prefill", "load"), result.failures.map { it.stage })
        assertEquals("done", names(events).last())
    }

    @Test fun memoryThatRunsOutIsAFailureAndNotACrash() {
        request(texts = listOf("hi"))
        prefillFails = { OutOfMemoryError() }
        carryOut()
        assertTrue(result.failures.single().message.startsWith("out of memory"))
        assertEquals("done", names(events).last())
    }

    @Test fun aPromptOfAnotherLengthFailsInTokenize() {
        request(texts = listOf("hi"), wrong = 1)
        carryOut()
        val failure = result.failures.single()
        assertEquals("tokenize", failure.stage)
        assertEquals("the prompt gave ${count("hi")} tokens, expected ${count("hi") + 1}", failure.message)
        assertEquals(0, result.runs.size)
    }

    @Test fun aModelThatDoesNotLoadIsAFailure() {
        request()
        openFails = UnsatisfiedLinkError("no arm64")
        carryOut()
        assertEquals(listOf("load", "UnsatisfiedLinkError: no arm64"), result.failures.single().let { listOf(it.stage, it.message) })
        assertNull(result.failures.single().promptTokens)
        assertEquals(listOf("started", "phase", "failed", "done"), names(events))
    }

    @Test fun aPromptThatDoesNotFitSaysSo() {
        request(decode = 4000)
        carryOut()
        assertEquals(2, result.failures.size)
        assertTrue(result.failures.all { "do not fit the cache of 1280" in it.message })
    }

    @Test fun whatIsNotCarriedOutIsRefusedWithItsReason() {
        fun reason(): String {
            carryOut()
            assertEquals("refused", names(events).last())
            return events.last()["message"].asString
        }
        assertTrue("missing" in reason())
        request()
        refusal = "this build carries no ExecuTorch"
        assertEquals(refusal, reason())
        refusal = null
        File(folder.root, "staging/bundles/$key").deleteRecursively()
        assertTrue("manifest.json: missing" in reason())
        assertTrue("nothing was measured", !measurementFile.exists())
    }

    @Test fun aMeasurementOfSomethingElseIsNotOverwritten() {
        request()
        carryOut()
        val other = measurementFile.readText().replace("\"threads\": 2", "\"threads\": 3")
        measurementFile.writeText(other)
        carryOut()
        assertTrue("its number of threads is 3, but the request's is 2" in events.last()["message"].asString)
        assertEquals(other, measurementFile.readText())
        measurementFile.writeText("{\"half")
        carryOut()
        assertEquals("refused", names(events).last())
        assertEquals("{\"half", measurementFile.readText())
        measurementFile.delete()
    }

    @Test fun withoutDecodingThereIsNoDecodeFigure() {
        request(decode = 0, repeat = 1)
        carryOut()
        assertTrue(result.runs.all { it.decode == null })
        assertEquals(3, result.runs.size)
    }
}
