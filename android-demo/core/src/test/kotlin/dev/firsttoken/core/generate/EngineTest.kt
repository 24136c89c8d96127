package dev.firsttoken.core.generate

import dev.firsttoken.core.assertRefused
import org.junit.Assert.assertEquals
import org.junit.Test

class EngineTest {
    private fun engine(chunk: Int = 4): ScriptedEngine {
        val text = DemoFiles.manifestText.replace(Regex("\"prefill_chunk\":\\d+"), "\"prefill_chunk\":$chunk")
        return ScriptedEngine(DemoFiles.manifest(text), listOf(65), cacheLength = 12)
    }

    @Test fun aLongPromptGoesInChunks() {
        val engine = engine()
        engine.prefill(IntArray(10) { it })
        assertEquals(listOf(listOf(0, 1, 2, 3), listOf(4, 5, 6, 7), listOf(8, 9)), engine.prompts)
        assertEquals(10, engine.position)
        engine.reset()
        assertEquals(0, engine.position)
    }

    @Test fun ofTheCacheThatIsKeptWhichTheNextPromptBeginsWith() {
        val engine = engine()
        engine.prefill(intArrayOf(1, 2, 3, 4, 5))
        engine.decode(6)
        assertEquals(3, engine.keepPrefix(intArrayOf(1, 2, 3, 9, 9, 9)))
        assertEquals(3, engine.position)
        engine.prefill(intArrayOf(9))
        assertEquals("the last token's logits are wanted", 3, engine.keepPrefix(intArrayOf(1, 2, 3, 9)))
        engine.prefill(intArrayOf(9, 8, 7))
        assertEquals(6, engine.keepPrefix(intArrayOf(1, 2, 3, 9, 8, 7, 5)))
        assertEquals(0, engine.keepPrefix(intArrayOf(2, 2, 3)))
        assertEquals(0, engine.keepPrefix(IntArray(0)))
        engine.prefill(intArrayOf(1, 2))
        engine.reset()
        assertEquals("nothing is left of what was forgotten", 0, engine.keepPrefix(intArrayOf(1, 2, 3)))
    }

    @Test fun whatDoesNotFitIsRefusedBeforeAnythingRuns() {
        val engine = engine()
        assertRefused("13 tokens do not fit the cache of 12") { engine.prefill(IntArray(13)) }
        assertRefused("prompt is empty") { engine.prefill(IntArray(0)) }
        assertRefused("token 4096 is outside", "4096") { engine.prefill(intArrayOf(1, 4096)) }
        assertRefused("token -1") { engine.decode(-1) }
        engine.prefill(IntArray(12))
        assertRefused("13 tokens do not fit") { engine.decode(1) }
        assertEquals(3, engine.prompts.size)
    }
}
