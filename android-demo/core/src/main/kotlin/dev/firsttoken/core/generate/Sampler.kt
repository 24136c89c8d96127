package dev.firsttoken.core.generate

import dev.firsttoken.core.FirstTokenException
import java.util.PriorityQueue
import kotlin.math.exp
import kotlin.random.Random

/**
 * Picks tokens below [vocabularySize] (the tokenizer's; a checkpoint may pad its vocabulary beyond it).
 *
 * [temperature] 0 takes the most likely token; above, tokens are drawn with probability `softmax(logits / temperature)` from a
 * generator started with [seed]; [topK] draws from that many of the most likely ones only (and those as likely as the last of
 * them), 0 from all. The generator is Kotlin's (its sequence for a seed is fixed), not numpy's: the same seed gives the same answer
 * on every phone, but not the one it gives on the host. Raises [FirstTokenException] for a setting that cannot be.
 */
class Sampler(private val vocabularySize: Int, private val temperature: Double = 0.0, seed: Long = 0, private val topK: Int = 0) {
    private val random = Random(seed)
    private var sums = DoubleArray(0)

    init {
        if (!(temperature >= 0 && temperature < Double.POSITIVE_INFINITY)) {
            throw FirstTokenException("temperature is $temperature; expected 0 (the most likely token) or a positive number such as 0.8")
        }
        if (seed < 0) throw FirstTokenException("seed is $seed; expected 0 or a positive whole number")
        if (topK < 0) throw FirstTokenException("top-k is $topK; expected 0 (all tokens) or a positive whole number such as 40")
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
        if (sums.size < count) sums = DoubleArray(count)
        val least = if (topK in 1 until count) smallestOfTop(logits, count) else Float.NEGATIVE_INFINITY
        var sum = 0.0
        for (token in 0 until count) {
            if (logits[token] >= least) sum += exp((logits[token] - highest) / temperature)
            sums[token] = sum
        }
        val wanted = random.nextDouble() * sum
        // the first token whose sum is above what was drawn: one of non-zero weight
        var low = 0
        var high = count - 1
        while (low < high) {
            val middle = (low + high) ushr 1
            if (sums[middle] > wanted) high = middle else low = middle + 1
        }
        return low
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
