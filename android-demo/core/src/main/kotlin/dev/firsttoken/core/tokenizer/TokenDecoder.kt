package dev.firsttoken.core.tokenizer

/** One step from the texts of tokens to text. */
internal fun interface DecoderStep {
    fun decode(tokens: List<String>): List<String>
}

/** All tokens are bytes in GPT-2's alphabet. */
internal object ByteLevelStep : DecoderStep {
    override fun decode(tokens: List<String>): List<String> {
        val parts = tokens.map(ByteLevelAlphabet::read)
        val bytes = ByteArray(parts.sumOf { it.size })
        parts.fold(0) { at, part -> part.copyInto(bytes, at).let { at + part.size } }
        return listOf(Utf8.decode(bytes))
    }
}

internal class ReplaceStep(private val from: String, private val to: String) : DecoderStep {
    override fun decode(tokens: List<String>) = tokens.map { it.replace(from, to) }
}

/** Turns runs of `<0x..>` into characters; a run that is not whole UTF-8 becomes one U+FFFD for each byte, as in Hugging Face tokenizers. */
internal object ByteFallbackStep : DecoderStep {
    override fun decode(tokens: List<String>): List<String> {
        val made = ArrayList<String>(tokens.size)
        val run = ArrayList<Byte>()

        fun flush() {
            if (run.isEmpty()) return
            Utf8.decodeStrictly(run.toByteArray())?.let(made::add) ?: repeat(run.size) { made.add(Utf8.REPLACEMENT.toString()) }
            run.clear()
        }
        for (token in tokens) {
            val byte = if (token.length == 6 && token.startsWith("<0x") && token.endsWith('>')) token.substring(3, 5).toIntOrNull(16) else null
            if (byte != null) {
                run.add(byte.toByte())
            } else {
                flush()
                made.add(token)
            }
        }
        flush()
        return made
    }
}

internal object FuseStep : DecoderStep {
    override fun decode(tokens: List<String>) = listOf(tokens.joinToString(""))
}

/** Takes up to [start] and [stop] times [content] off the ends of every text. */
internal class StripStep(private val content: Char, private val start: Int, private val stop: Int) : DecoderStep {
    override fun decode(tokens: List<String>) =
        tokens.map { token ->
            val first = token.take(start).takeWhile { it == content }.length
            val last = token.drop(first).takeLast(stop).takeLastWhile { it == content }.length
            token.substring(first, token.length - last)
        }
}

/** Spaces from [replacement]; those of the first token are dropped where one was put before the text. */
internal class MetaspaceStep(private val replacement: Char, private val prepend: PrependScheme) : DecoderStep {
    override fun decode(tokens: List<String>) =
        tokens.mapIndexed { place, token ->
            if (place == 0 && prepend != PrependScheme.never) token.replace(replacement.toString(), "") else token.replace(replacement, ' ')
        }
}
