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

    /** Tokens already in the cache. */
    var position = 0
        private set

    /**
     * Appends [tokens] to the cache, in chunks where needed, and returns the last one's logits.
     *
     * Raises [FirstTokenException] for no tokens, a token outside the vocabulary, or more tokens than the cache has room for.
     */
    fun prefill(tokens: IntArray): FloatArray {
        check(tokens)
        var logits = FloatArray(0)
        val chunk = prefillLength
        for (start in tokens.indices step chunk) {
            val piece = tokens.copyOfRange(start, minOf(start + chunk, tokens.size))
            logits = prefillChunk(piece)
            position += piece.size
        }
        return logits
    }

    /** Appends one token and returns its logits. Raises [FirstTokenException] when the cache is full. */
    fun decode(token: Int): FloatArray {
        check(intArrayOf(token))
        return decodeToken(token).also { position++ }
    }

    /** Forgets the cache; the next call starts at position 0. */
    open fun reset() {
        position = 0
    }

    /** Frees the runtime's memory. */
    override fun close() = Unit

    /** Runs one chunk of at most [prefillLength] tokens at [position]. */
    protected abstract fun prefillChunk(tokens: IntArray): FloatArray

    /** Runs one token at [position]. */
    protected abstract fun decodeToken(token: Int): FloatArray

    private fun check(tokens: IntArray) {
        if (tokens.isEmpty()) throw FirstTokenException("the prompt is empty; give at least one token")
        if (position + tokens.size > cacheLength) {
            throw FirstTokenException("${position + tokens.size} tokens do not fit the cache of $cacheLength; shorten the prompt or export with a longer --cache-length")
        }
        val bad = tokens.firstOrNull { it !in 0 until vocabularySize } ?: return
        throw FirstTokenException("token $bad is outside the model's vocabulary of $vocabularySize")
    }
}
