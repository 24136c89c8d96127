package dev.firsttoken.core.generate

import dev.firsttoken.core.Parity
import dev.firsttoken.core.assertRefused
import java.io.File
import kotlin.math.abs
import kotlin.math.exp
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNotEquals
import org.junit.Assert.assertTrue
import org.junit.Test

class SamplerTest {
    private val logits = floatArrayOf(1f, 3f, 2f, 3f, 9f)

    @Test fun greedyTakesTheFirstOfTheLargestBelowTheVocabulary() {
        assertEquals(1, Sampler(4).pick(logits))
        assertEquals(4, Sampler(5).pick(logits))
        assertEquals(0, Sampler(1).pick(logits))
    }

    @Test fun drawsAreAsOftenAsSoftmaxSays() {
        val sampler = Sampler(4, temperature = 0.7, seed = 11)
        val draws = IntArray(4)
        val count = 200_000
        repeat(count) { draws[sampler.pick(logits)]++ }
        val weights = logits.take(4).map { exp(it / 0.7) }
        for (token in 0 until 4) {
            val expected = weights[token] / weights.sum()
            assertTrue("token $token: ${draws[token]}", abs(draws[token].toDouble() / count - expected) < 0.005)
        }
    }

    @Test fun theSeedDecides() {
        fun draws(seed: Long) = Sampler(4, 1.0, seed).let { sampler -> List(50) { sampler.pick(logits) } }
        assertEquals(draws(3), draws(3))
        assertNotEquals(draws(3), draws(4))
    }

    @Test fun onlyTheMostLikelyAreDrawnAsOftenAsSoftmaxAmongThemSays() {
        val sampler = Sampler(5, temperature = 2.0, seed = 5, topK = 2)
        val draws = IntArray(5)
        val count = 100_000
        repeat(count) { draws[sampler.pick(floatArrayOf(0f, 3f, 2f, -1f, 1f))]++ }
        assertEquals(setOf(1, 2), draws.indices.filter { draws[it] > 0 }.toSet())
        val expected = exp(3 / 2.0) / (exp(3 / 2.0) + exp(2 / 2.0))
        assertTrue("token 1: ${draws[1]}", abs(draws[1].toDouble() / count - expected) < 0.01)
    }

    @Test fun tokensAsLikelyAsTheLastOfTheMostLikelyCountToo() {
        val sampler = Sampler(4, 1.0, 7, topK = 2)
        assertEquals(setOf(0, 1, 3), List(2000) { sampler.pick(floatArrayOf(2f, 5f, 1f, 2f)) }.toSet())
    }

    @Test fun whatIsLeftToDrawFromIsWhatPythonsSamplerLeaves() {
        val cases = Parity.cases(File(Parity.folder(), "sampling.jsonl"))
        assertEquals(120, cases.size)
        for ((number, case) in cases.withIndex()) {
            val logits = case["logits"].asJsonArray.map { it.asFloat }.toFloatArray()
            val wanted = case["weights"].asJsonArray.map { it.asDouble }
            val sampler = Sampler(logits.size, case["temperature"].asDouble, 0, case["top_k"].asInt, case["top_p"].asDouble, case["min_p"].asDouble)
            val found = sampler.weights(logits, logits.size, logits.max().toDouble())
            for (token in wanted.indices) assertEquals("case $number, token $token", wanted[token], found[token], 1e-12)
            val left = wanted.indices.filter { wanted[it] > 0 }.toSet()
            assertTrue("case $number", List(50) { sampler.pick(logits) }.all { it in left })
        }
    }

    @Test fun asManyAsThereAreOrMoreIsAll() {
        fun draws(topK: Int) = Sampler(4, 0.7, 11, topK).let { sampler -> List(200) { sampler.pick(logits) } }
        assertEquals(draws(0), draws(4))
        assertEquals(draws(0), draws(1000))
        assertEquals("one is greedy, but for ties", setOf(4), Sampler(5, 1.0, 1, topK = 1).let { one -> List(100) { one.pick(logits) } }.toSet())
    }

    @Test fun aTokenThatCannotBeIsNeverDrawn() {
        val sampler = Sampler(3, 1.0, 1)
        val draws = List(1000) { sampler.pick(floatArrayOf(Float.NEGATIVE_INFINITY, 0f, Float.NEGATIVE_INFINITY)) }
        assertEquals(setOf(1), draws.toSet())
    }

    @Test fun logitsThatAreNoNumbersAreAnError() {
        for (bad in listOf(floatArrayOf(1f, Float.NaN, 2f), floatArrayOf(Float.NaN, 1f), floatArrayOf(1f, Float.POSITIVE_INFINITY), floatArrayOf(Float.NEGATIVE_INFINITY, Float.NEGATIVE_INFINITY), floatArrayOf())) {
            assertRefused("not numbers", "firsttoken prove") { Sampler(3).pick(bad) }
        }
        assertEquals("padding is not looked at", 0, Sampler(1).pick(floatArrayOf(1f, Float.NaN)))
    }

    @Test fun settingsThatCannotBe() {
        assertRefused("temperature is -1.0") { Sampler(3, -1.0) }
        assertRefused("temperature is NaN") { Sampler(3, Double.NaN) }
        assertRefused("top-k is -1") { Sampler(3, 1.0, 0, -1) }
        assertRefused("seed is -1") { Sampler(3, 1.0, -1) }
        for (bad in listOf(0.0, -0.1, 1.1, Double.NaN)) assertRefused("top-p is $bad") { Sampler(3, 1.0, 0, 0, bad) }
        for (bad in listOf(-0.1, 1.1, Double.NaN)) assertRefused("min-p is $bad") { Sampler(3, 1.0, 0, 0, 1.0, bad) }
    }
}
