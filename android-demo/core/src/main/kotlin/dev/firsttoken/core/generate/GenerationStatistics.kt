package dev.firsttoken.core.generate

/** Why a completion ended. */
enum class Stop(val reason: String) {
    END("the model ended its answer"),
    LENGTH("the asked number of tokens is reached"),
    CACHE("the cache is full"),
    CANCELLED("it was cancelled"),
}

/**
 * Counts in tokens, times in nanoseconds; the same as Python's `Statistics`.
 *
 * The stages from the prompt's text to the first token's text follow each other without a gap: [tokenize] (template and
 * tokenizer), [prefill], [sample], [detokenize]. [decode] covers all later tokens.
 */
class GenerationStatistics {
    var promptTokens = 0

    /** How many of the prompt's tokens were in the KV cache already, so that prefill was of the others. */
    var cachedTokens = 0
    var newTokens = 0
    var tokenize = 0L
    var prefill = 0L
    var sample = 0L
    var detokenize = 0L
    var decode = 0L
    var stopped = Stop.LENGTH

    /** Nanoseconds to the first token: the stages together (without detokenizing where the answer ended at once). */
    val firstToken: Long get() = tokenize + prefill + sample + detokenize

    /** Decoding speed, without the first token; 0 where there was no other. */
    val tokensPerSecond: Double get() = if (newTokens > 1 && decode > 0) (newTokens - 1) / (decode / 1e9) else 0.0
}
