package dev.firsttoken.core.generate

import dev.firsttoken.core.FirstTokenException
import java.util.PriorityQueue
import kotlin.math.exp
import kotlin.random.Random

/**
 * Picks tokens below [vocabularySize] (the tokenizer's; a checkpoint may pad its vocabulary beyond it).
 *
 * [temperature] 0 takes the most likely token; above, tokens are drawn with probability `softmax(logits / temperature)` from a
 * generator started with [seed], after three filters in this order: [topK] leaves that many of the most likely tokens (0: all), [topP] of
 * what is left the most likely ones that together have this share of the probability (1: all), [minP] those at least that many times as likely as
 * the most likely one (0: all). Tokens as likely as the last that is left are left too. Python's `Sampler` does the same sums in the same order. The generator is Kotlin's (its sequence for a seed is fixed), not numpy's: the same seed gives the same answer
 * on every phone, but not the one it gives on the host. Raises [FirstTokenException] for a setting that cannot be.
 */
class Sampler(private val vocabularySize: Int, private val temperature: Double = 0.0, seed: Long = 0, private val topK: Int = 0, private val topP: Double = 1.0, private val minP: Double = 0.0) {
    private val random = Random(seed)
    private var buffer = DoubleArray(0)

    init {
        if (!(temperature >= 0 && temperature < Double.POSITIVE_INFINITY)) {
            throw FirstTokenException("temperature is $temperature; expected 0 (the most likely token) or a positive number such as 0.8")
        }
        if (seed < 0) throw FirstTokenException("seed is $seed; expected 0 or a positive whole number")
        if (topK < 0) throw FirstTokenException("top-k is $topK; expected 0 (all tokens) or a positive whole number such as 40")
        if (!(topP > 0 && topP <= 1)) throw FirstTokenException("top-p is $topP; expected a share above 0, up to 1 (all tokens), such as 0.9")
        if (!(minP >= 0 && minP <= 1)) throw FirstTokenException("min-p is $minP; expected 0 (all tokens) to 1, such as 0.05")
    }

    /** Returns a token for [logits] `[model's vocabulary]`. Raises [FirstTokenException] if one is not a number. */
    fun pick(logits: FloatArray): Int {
        val count = minOf(vocabularySize, logits.size)
        val best = best(logits, count)
        return if (temperature == 0.0) best else draw(logits, count, logits[best].toDouble())
    }

    private fun best(logits: FloatArray, count: Int): Int {
        var best = 0
        var numbers = count > 0
        for (token in 0 until count) {
            if (logits[token].isNaN()) numbers = false
            if (logits[token] > logits[best]) best = token
        }
        if (!numbers || logits[best].isInfinite()) throw FirstTokenException("the artifact computed logits that are not numbers; prove the bundle again with `firsttoken prove`")
        return best
    }

    private fun draw(logits: FloatArray, count: Int, highest: Double): Int {
        val weights = weights(logits, count, highest)
        var sum = 0.0
        for (token in 0 until count) {
            sum += weights[token]
            weights[token] = sum
        }
        val wanted = random.nextDouble() * sum
        // the first token whose sum is above what was drawn: one of non-zero weight
        var low = 0
        var high = count - 1
        while (low < high) {
            val middle = (low + high) ushr 1
            if (weights[middle] > wanted) high = middle else low = middle + 1
        }
        return low
    }

    /** What the tokens are drawn by: 1 for the most likely, 0 for those that are filtered out. The array is used again by the next call. */
    internal fun weights(logits: FloatArray, count: Int, highest: Double): DoubleArray {
        if (buffer.size < count) buffer = DoubleArray(count)
        val least = if (topK in 1 until count) smallestOfTop(logits, count) else Float.NEGATIVE_INFINITY
        for (token in 0 until count) buffer[token] = if (logits[token] >= least) exp((logits[token] - highest) / temperature) else 0.0
        val lightest = maxOf(minP, if (topP < 1) lightestOfTop(count) else 0.0)
        for (token in 0 until count) if (buffer[token] < lightest) buffer[token] = 0.0
        return buffer
    }

    /** The smallest weight of the largest ones that together have the share [topP] of the first [count]. */
    private fun lightestOfTop(count: Int): Double {
        var left = 0
        val ordered = DoubleArray(count)
        for (token in 0 until count) if (buffer[token] > 0) ordered[left++] = buffer[token] // few where top-k has left few
        ordered.sort(0, left)
        var whole = 0.0
        for (place in left - 1 downTo 0) whole += ordered[place] // one after the other from the largest, as numpy's cumsum
        var sum = 0.0
        for (place in left - 1 downTo 0) {
            sum += ordered[place]
            if (sum >= topP * whole) return ordered[place]
        }
        return 0.0
    }

    /** The [topK]th largest of the first [count] logits. */
    private fun smallestOfTop(logits: FloatArray, count: Int): Float {
        val top = PriorityQueue<Float>(topK)
        for (token in 0 until count) {
            if (top.size < topK) top.add(logits[token])
            else if (logits[token] > top.element()) {
                top.remove()
                top.add(logits[token])
            }
        }
        return top.element()
    }
}
