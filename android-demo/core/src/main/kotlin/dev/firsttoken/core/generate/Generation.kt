package dev.firsttoken.core.generate

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.bundle.Chat
import dev.firsttoken.core.tokenizer.TextStream
import dev.firsttoken.core.tokenizer.Tokenizer

/** Told of every token; what it does is not counted. */
interface GenerationListener {
    /**
     * Token [number] (from 1) is there after [nanoseconds] (the first one's are those of all stages); [text] is what is now whole,
     * maybe nothing. Returns whether to go on.
     */
    fun onToken(number: Int, text: String, nanoseconds: Long): Boolean

    /** Text held back until the end, since it never became whole characters. */
    fun onRest(text: String) = Unit
}

/** What to generate. [chat] null: one user turn of the chat template where the bundle has one. [thinking] null: as long as the model likes. */
class GenerationOptions(
    val maxTokens: Int = 128,
    val temperature: Double = 0.0,
    val seed: Long = 0,
    val topK: Int = 0,
    val topP: Double = 1.0,
    val minP: Double = 0.0,
    val chat: Boolean? = null,
    val stopAtEnd: Boolean = true,
    val thinking: ThinkingBounds? = null,
)

/** Returns the tokens of a prompt: one user turn of [chat] tokenized as a whole, or the text as it is after the begin token. */
fun encodePrompt(tokenizer: Tokenizer, prompt: String, chat: Chat?): IntArray =
    if (chat == null) tokenizer.encode(prompt) else tokenizer.encode(chat.turn(prompt), withBegin = false)

/** Streams completions from a loaded bundle, with the clock that every figure comes from; the same loop as Python's `generate`. */
class Generation(private val engine: Engine, private val tokenizer: Tokenizer, private val clock: Clock = SystemClock) {
    /**
     * Generates an answer to [prompt], telling [listener] of each token, and returns [statistics] filled in.
     *
     * Ends at an end token (unless told not to, for measuring), after the asked number of tokens, with a full cache or when the
     * listener says so. Raises [FirstTokenException] for a prompt that is empty or longer than the cache, or chat without a template.
     */
    fun run(
        prompt: String,
        options: GenerationOptions,
        listener: GenerationListener,
        statistics: GenerationStatistics = GenerationStatistics(),
    ): GenerationStatistics {
        val manifest = engine.manifest
        if (options.chat == true && manifest.chat == null) throw FirstTokenException("bundle of '${manifest.checkpoint.name}' has no chat template; leave out chat")
        engine.reset()
        return stream(options, listener, statistics, emptySet()) { encodePrompt(tokenizer, prompt, if (options.chat == false) null else manifest.chat) }
    }

    /**
     * The same for tokens that [encode] makes, as the next turn of a conversation: what they and the KV cache begin with in common is not run again.
     *
     * [GenerationOptions.chat] does not count. Special tokens in [shownSpecial] give their text.
     */
    fun answer(options: GenerationOptions, listener: GenerationListener, statistics: GenerationStatistics, shownSpecial: Set<Int> = emptySet(), encode: () -> IntArray): GenerationStatistics =
        stream(options, listener, statistics, shownSpecial, encode)

    private fun stream(options: GenerationOptions, listener: GenerationListener, statistics: GenerationStatistics, shownSpecial: Set<Int>, encode: () -> IntArray): GenerationStatistics {
        val manifest = engine.manifest
        if (options.maxTokens < 1) throw FirstTokenException("max_tokens is ${options.maxTokens}; expected at least 1")
        val sampler = Sampler(manifest.tokenizer.vocabularySize, options.temperature, options.seed, options.topK, options.topP, options.minP)
        val budget = options.thinking?.budget(tokenizer, if (options.chat == false) null else manifest.chat)
        val stream = TextStream(tokenizer, shownSpecial + listOfNotNull(budget?.end))
        val end = if (options.stopAtEnd) manifest.tokenizer.end.toSet() else emptySet()
        val begun = clock.nanoTime()
        val tokens = encode()
        statistics.promptTokens = tokens.size
        val encoded = clock.nanoTime()
        statistics.cachedTokens = engine.keepPrefix(tokens)
        val logits = engine.prefill(tokens.copyOfRange(statistics.cachedTokens, tokens.size))
        val filled = clock.nanoTime()
        var token = budget?.next(end) { sampler.pick(logits) } ?: sampler.pick(logits)
        var tokenBegun = clock.nanoTime()
        statistics.tokenize = encoded - begun
        statistics.prefill = filled - encoded
        statistics.sample = tokenBegun - filled
        while (true) {
            if (token in end) {
                statistics.stopped = Stop.END
                break
            }
            val text = stream.add(token)
            statistics.newTokens++
            var spent = clock.nanoTime() - tokenBegun
            if (statistics.newTokens == 1) {
                statistics.detokenize = spent
                spent = statistics.firstToken
            } else {
                statistics.decode += spent
            }
            val goOn = listener.onToken(statistics.newTokens, text, spent)
            val stop = when {
                !goOn -> Stop.CANCELLED
                statistics.newTokens >= options.maxTokens -> Stop.LENGTH
                engine.position >= engine.cacheLength -> Stop.CACHE
                else -> null
            }
            if (stop != null) {
                statistics.stopped = stop
                break
            }
            tokenBegun = clock.nanoTime() // after the listener: what it does with the text is not ours
            val next = engine.decode(token)
            token = budget?.next(end) { sampler.pick(next) } ?: sampler.pick(next)
        }
        stream.finish().let { if (it.isNotEmpty()) listener.onRest(it) }
        return statistics
    }
}
