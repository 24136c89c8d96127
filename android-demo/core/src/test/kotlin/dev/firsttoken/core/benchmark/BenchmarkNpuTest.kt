package dev.firsttoken.core.benchmark

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.Parity
import dev.firsttoken.core.bundle.Bundle
import dev.firsttoken.core.bundle.BundleKey
import dev.firsttoken.core.bundle.Manifest
import dev.firsttoken.core.generate.ArtifactChoice
import dev.firsttoken.core.generate.ArtifactInUse
import dev.firsttoken.core.generate.DemoFiles
import dev.firsttoken.core.generate.Engine
import dev.firsttoken.core.generate.FallbackEngine
import dev.firsttoken.core.generate.ScriptedEngine
import dev.firsttoken.core.generate.encodePrompt
import dev.firsttoken.core.measure.Conditions
import dev.firsttoken.core.measure.Cpu
import dev.firsttoken.core.measure.Device
import dev.firsttoken.core.measure.MeasurementReader
import dev.firsttoken.core.measure.RanArtifact
import dev.firsttoken.core.measure.Writer
import java.io.File
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

/** Measurements of a bundle with an artifact for an NPU: they say which ran, and why it is the CPU's. */
class BenchmarkNpuTest {
    @get:Rule val folder = TemporaryFolder()
    private val id = "0f".repeat(16)
    private val key = "9a".repeat(16)

    /** What becomes of the NPU: null where it works, else whether it fails when it is loaded. */
    private var failsLoading: Boolean? = null
    private val asked = ArrayList<ArtifactChoice>()

    private class Played(manifest: Manifest, override val artifact: ArtifactInUse, private val fails: Boolean) : Engine(manifest) {
        private val inner = ScriptedEngine(manifest, listOf(65))

        override fun prefillChunk(tokens: IntArray): FloatArray = if (fails) throw IllegalStateException("no DSP") else inner.prefill(tokens).also { inner.reset() }

        override fun decodeToken(token: Int): FloatArray = inner.decode(token)
    }

    private val engines = object : Engines {
        override fun refusal(manifest: Manifest): String? = null

        override fun runtimeVersion(manifest: Manifest) = "scripted 1"

        override fun open(bundle: Bundle, threads: Int, choice: ArtifactChoice): Engine {
            asked += choice
            fun cpu(reason: String?) = Played(bundle.manifest, ArtifactInUse(0, reason), fails = false)
            if (choice == ArtifactChoice.CPU) return cpu(null)
            if (failsLoading == true) return if (choice == ArtifactChoice.NPU) throw FirstTokenException("not compiled for this phone") else cpu("not compiled for this phone")
            return FallbackEngine(bundle.manifest, Played(bundle.manifest, ArtifactInUse(1), fails = failsLoading == false), ::failureMessage) { cpu(it) }
        }
    }
    private val phone = object : Phone {
        override fun device() = Device("phone", "m", "Android 14", Cpu("c", 8), 8L shl 30)

        override fun conditions() = Conditions("2026-01-01T00:00:00+00:00")

        override fun runConditions() = RunConditions()
    }

    @Before fun stage() {
        Parity.folder()
        val bundle = folder.newFolder("staging", "bundles", key)
        folder.newFolder("staging", "requests")
        DemoFiles.bundle(bundle, DemoFiles.npuManifestText)
    }

    private val file get() = File(folder.root, "out/$id.json")
    private val result get() = MeasurementReader.read(file).results.single()

    @After fun keepForPython() {
        if (file.exists()) file.copyTo(File(Parity.folder().resolve("written").apply { mkdirs() }, "${System.nanoTime()}.json"))
    }

    private fun carryOut(artifact: String? = null, repeat: Int = 2) {
        val tokens = encodePrompt(DemoFiles.tokenizer(), "hi", DemoFiles.manifest().chat).size
        val chosen = artifact?.let { """"artifact": "$it", """ }.orEmpty()
        File(folder.root, "staging/requests/$id.json").writeText(
            """{"protocol": 1, "id": "$id", "bundle": "$key", "state": "warm", "threads": 2, "repeat": $repeat, "decode_tokens": 2, "chat": true, $chosen"prompts": [{"tokens": $tokens, "text": "hi"}]}""",
        )
        val folders = BenchmarkFolders(File(folder.root, "staging"), File(folder.root, "out"))
        Benchmark(BenchmarkHost(folders, engines, phone, { null }, Writer("test", "1"), 42)).carryOut(id)
    }

    private fun said(artifact: RanArtifact?) = artifact?.run { listOf(kind, sha256, bytes, soc, fallback) }

    private fun hash(name: String) = BundleKey.sha256(File(folder.root, "staging/bundles/$key/$name"))

    @Test fun theNpusRunsAreMarkedWithItsArtifact() {
        carryOut()
        assertEquals(listOf("npu", hash("model.npu.tflite"), 2L, "SM8650", null), said(result.artifact))
        assertEquals("its own proof", 1e-4, result.artifact!!.proof!!.meanKld, 0.0)
        assertEquals("what names the bundle stays the CPU's", hash("model.tflite"), result.bundle.artifactSha256)
        assertEquals(3, result.runs.size)
        assertEquals(listOf(ArtifactChoice.AUTO), asked)
    }

    @Test fun aFallBackSaysWhy() {
        failsLoading = true
        carryOut()
        assertEquals(listOf("cpu", hash("model.tflite"), 5L, null, "not compiled for this phone"), said(result.artifact))
        assertEquals(3, result.runs.size)
    }

    @Test fun aFallBackAtTheFirstCallSaysWhyToo() {
        failsLoading = false
        carryOut()
        assertEquals(listOf("cpu", hash("model.tflite"), 5L, null, "IllegalStateException: no DSP"), said(result.artifact))
        assertTrue(result.failures.isEmpty() && result.runs.size == 3)
    }

    @Test fun theCpusWhereThatWasAskedForIsNoFallBack() {
        carryOut("cpu")
        assertEquals(listOf("cpu", hash("model.tflite"), 5L, null, null), said(result.artifact))
        assertEquals(listOf(ArtifactChoice.CPU), asked)
    }

    @Test fun theNpusAloneIsNotReplaced() {
        failsLoading = true
        carryOut("npu")
        assertEquals(listOf("load" to "not compiled for this phone"), result.failures.map { it.stage to it.message })
        assertTrue(result.runs.isEmpty())
        assertNull(result.artifact)
    }

    @Test fun runsOfBothAreNeverMixed() {
        carryOut(repeat = 1)
        failsLoading = true
        carryOut(repeat = 2)
        val refused = Parity.cases(File(folder.root, "out/$id.progress")).last()
        assertEquals("refused", refused["event"].asString)
        assertTrue("$refused", "its runs are the NPU artifact's, but now the CPU's runs (not compiled for this phone)" in refused["message"].asString)
        assertEquals("what was measured stays", "npu" to 2, result.artifact!!.kind to result.runs.size)
    }
}
