package dev.firsttoken.core.generate

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.bundle.Manifest
import java.io.Closeable

/**
 * A loaded artifact with its KV cache; the same as Python's `Runner`.
 *
 * [prefill] and [decode] return the logits that predict the next token, `[vocabularySize]`; the array may be reused by the next
 * call, so copy it to keep it.
 */
abstract class Engine(val manifest: Manifest) : Closeable {
    val vocabularySize: Int = manifest.checkpoint.vocabularySize
    open val cacheLength: Int get() = manifest.target.cacheLength

    /** The most tokens of one call; a longer prompt goes in pieces. */
    open val prefillLength: Int get() = manifest.target.prefillChunk

    /** Which of the bundle's artifacts runs. */
    open val artifact: ArtifactInUse get() = ArtifactInUse.CPU

    /** How the runtime is called; null for one that is called in one way only. */
    open val runner: RunnerInUse? get() = null

    /** Tokens already in the cache. */
    var position = 0
        private set

    /** Where in the cache the prompt ends that is being read. */
    protected var promptEnd = 0
        private set
    private var held = IntArray(0) // which ones, as far as the position

    /** A system prompt whose rows need not be computed; null for none. */
    var kept: KeptRows? = null

    /**
     * Appends [tokens] to the cache, in chunks where needed, and returns the last one's logits.
     *
     * Raises [FirstTokenException] for no tokens, a token outside the vocabulary, or more tokens than the cache has room for.
     */
    fun prefill(tokens: IntArray): FloatArray {
        check(tokens)
        promptEnd = position + tokens.size
        var logits = FloatArray(0)
        val chunk = prefillLength
        for (start in tokens.indices step chunk) {
            val piece = tokens.copyOfRange(start, minOf(start + chunk, tokens.size))
            logits = prefillChunk(piece)
            hold(piece)
        }
        return logits
    }

    /** Appends one token and returns its logits. Raises [FirstTokenException] when the cache is full. */
    fun decode(token: Int): FloatArray {
        check(intArrayOf(token))
        return decodeToken(token).also { hold(intArrayOf(token)) }
    }

    /**
     * Keeps of the cache what [tokens] begin with, forgets the rest, and returns how many that are: what is left to [prefill].
     *
     * At least the last token is left, since its logits are wanted. Where the tokens begin with the [kept] system prompt's, and the cache holds less of them, its rows are taken.
     */
    fun keepPrefix(tokens: IntArray): Int {
        val same = keepable(common(held, position, tokens))
        val rows = kept ?: return same.also(::rollBack)
        val count = rows.tokens.size
        if (count <= same || common(rows.tokens, count, tokens) < count) return same.also(::rollBack)
        reset()
        take(rows)
        hold(rows.tokens)
        return count
    }

    /** How many tokens the first [count] of [some] and [tokens] without its last begin with in common. */
    private fun common(some: IntArray, count: Int, tokens: IntArray): Int {
        val most = minOf(count, tokens.size - 1)
        var same = 0
        while (same < most && some[same] == tokens[same]) same++
        return same
    }

    /** Puts the rows of a system prompt into the cache, which is empty. */
    protected open fun take(rows: KeptRows): Unit = throw FirstTokenException("this runtime takes no kept system prompt")

    /** Keeps the first [length] tokens of the cache and forgets those after. */
    internal fun rollBack(length: Int) {
        if (length >= position) return
        forget(length)
        position = length
    }

    /** Forgets the cache; the next call starts at position 0. */
    open fun reset() {
        position = 0
    }

    /** Frees the runtime's memory. */
    override fun close() = Unit

    /** Runs one chunk of at most [prefillLength] tokens at [position]. */
    protected abstract fun prefillChunk(tokens: IntArray): FloatArray

    /** How many of the first [length] tokens the cache can go on from. */
    protected open fun keepable(length: Int): Int = length

    /** Forgets what the cache holds from row [length] on, where there is more to it than that [position] goes back. */
    protected open fun forget(length: Int) = Unit

    /** Runs one token at [position]. */
    protected abstract fun decodeToken(token: Int): FloatArray

    private fun hold(tokens: IntArray) {
        if (position + tokens.size > held.size) held = held.copyOf(maxOf(2 * held.size, position + tokens.size))
        tokens.copyInto(held, position)
        position += tokens.size
    }

    private fun check(tokens: IntArray) {
        if (tokens.isEmpty()) throw FirstTokenException("the prompt is empty; give at least one token")
        if (position + tokens.size > cacheLength) {
            throw FirstTokenException("${position + tokens.size} tokens do not fit the cache of $cacheLength; shorten the prompt or export with a longer --cache-length")
        }
        val bad = tokens.firstOrNull { it !in 0 until vocabularySize } ?: return
        throw FirstTokenException("token $bad is outside the model's vocabulary of $vocabularySize")
    }
}
