package dev.firsttoken.core.generate

import dev.firsttoken.core.benchmark.failureMessage
import dev.firsttoken.core.bundle.Manifest
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Test

/** An NPU that fails at its first call gives way to the CPU; one that has worked does not. */
class FallbackEngineTest {
    private val manifest = DemoFiles.manifest()

    private class Failing(manifest: Manifest, private val good: Int, private val error: Throwable) : Engine(manifest) {
        var calls = 0
        var closed = false
        override val prefillLength = 4
        override val artifact = ArtifactInUse(1)

        override fun prefillChunk(tokens: IntArray): FloatArray = answer()

        override fun decodeToken(token: Int): FloatArray = answer()

        override fun close() {
            closed = true
        }

        private fun answer(): FloatArray = if (calls++ < good) FloatArray(vocabularySize).also { it[66] = 1f } else throw error
    }

    private val cpu = ScriptedEngine(manifest, listOf(65))
    private var reasons = ArrayList<String>()

    private fun engine(first: Engine) = FallbackEngine(manifest, first, ::failureMessage) { reason -> cpu.also { reasons += reason } }

    @Test fun theFirstCallThatFailsIsMadeAgainOnTheOther() {
        val npu = Failing(manifest, good = 0, error = IllegalStateException("the DSP said no\nand more"))
        val engine = engine(npu)
        assertTrue(engine.artifact.isNpu)
        val logits = engine.prefill(IntArray(10) { it })
        assertEquals(9f, logits[65], 0f)
        assertEquals(listOf("IllegalStateException: the DSP said no; and more"), reasons)
        assertEquals("the same pieces, none lost", listOf(listOf(0, 1, 2, 3), listOf(4, 5, 6, 7), listOf(8, 9)), cpu.prompts)
        assertTrue(npu.closed)
        assertFalse(engine.artifact.isNpu)
        assertEquals(10 to 10, engine.position to cpu.position)
        engine.decode(7)
        assertEquals(listOf(7), cpu.decoded)
        engine.close()
        assertTrue(cpu.closed)
    }

    @Test fun whatIsKeptOfTheCacheIsKeptBeneathToo() {
        val engine = engine(Failing(manifest, good = 0, error = IllegalStateException("no")))
        engine.prefill(IntArray(10) { it })
        assertEquals(7, engine.keepPrefix(IntArray(7) { it } + 99 + 98))
        engine.prefill(intArrayOf(99, 98))
        assertEquals(9 to 9, engine.position to cpu.position)
    }

    @Test fun anEngineThatHasWorkedIsNotLeft() {
        val npu = Failing(manifest, good = 1, error = IllegalStateException("later"))
        val engine = engine(npu)
        engine.prefill(intArrayOf(1))
        assertEquals("later", runCatching { engine.decode(1) }.exceptionOrNull()!!.message)
        engine.reset()
        assertEquals("later", runCatching { engine.prefill(intArrayOf(1)) }.exceptionOrNull()!!.message)
        assertEquals(emptyList<String>(), reasons)
    }
}
