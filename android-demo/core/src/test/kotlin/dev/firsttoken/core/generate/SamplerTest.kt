package dev.firsttoken.core.generate

import dev.firsttoken.core.assertRefused
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
        assertRefused("seed is -1") { Sampler(3, 1.0, -1) }
    }
}
