package dev.firsttoken.demo.answer

import android.content.SharedPreferences
import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.generate.GenerationOptions
import dev.firsttoken.core.generate.ThinkingBounds
import dev.firsttoken.demo.phone.defaultThreads
import dev.firsttoken.demo.view.Typed

/**
 * How an answer is generated. [temperature], [topK] (0: all tokens), [topP] (1: all), [minP] (0: all) and [seed] count only where it [isSampled].
 * [system] is the system prompt, null for none. [mostThinking] and [leastThinking] bound the thinking of a reasoner in tokens, null for no bound.
 */
data class AnswerSettings(
    val isSampled: Boolean = false,
    val temperature: Double = 0.8,
    val topK: Int = 40,
    val seed: Long = 0,
    val maxTokens: Int = 256,
    val threads: Int = defaultThreads(),
    val stopAtEnd: Boolean = true,
    val topP: Double = 1.0,
    val minP: Double = 0.0,
    val system: String? = null,
    val mostThinking: Int? = null,
    val leastThinking: Int? = null,
) {
    val options: GenerationOptions
        get() = if (isSampled) GenerationOptions(maxTokens, temperature, seed, topK, topP, minP, stopAtEnd = stopAtEnd, thinking = thinking) else GenerationOptions(maxTokens, stopAtEnd = stopAtEnd, thinking = thinking)

    private val thinking get() = if (mostThinking == null && leastThinking == null) null else ThinkingBounds(mostThinking, leastThinking ?: 0)

    /** Keeps them for the next answer, also of a later process. */
    fun save(into: SharedPreferences) =
        into.edit().putBoolean("sampled", isSampled).putString("temperature", temperature.toString()).putInt("topK", topK).putLong("seed", seed)
            .putInt("maxTokens", maxTokens).putInt("threads", threads).putBoolean("stopAtEnd", stopAtEnd)
            .putString("topP", topP.toString()).putString("minP", minP.toString()).putString("system", system)
            .putString("mostThinking", mostThinking?.toString()).putString("leastThinking", leastThinking?.toString()).apply()

    companion object {
        val TEMPERATURES = 0.01..100.0
        val TOP_K = 0..1_000_000
        val TOP_P = 0.01..1.0
        val MIN_P = 0.0..1.0
        const val LONGEST_SYSTEM = 20_000 // characters
        val SEEDS = 0L..Long.MAX_VALUE
        val THINKING = 0..100_000
        val MAX_TOKENS = 1..100_000 // the cache ends an answer before
        val THREADS = 1..16

        /** What was kept, or what they are at first. */
        fun saved(from: SharedPreferences): AnswerSettings {
            val first = AnswerSettings()
            return AnswerSettings(
                from.getBoolean("sampled", first.isSampled),
                from.getString("temperature", null)?.toDoubleOrNull()?.takeIf { it in TEMPERATURES } ?: first.temperature,
                from.getInt("topK", first.topK), from.getLong("seed", first.seed), from.getInt("maxTokens", first.maxTokens),
                from.getInt("threads", first.threads), from.getBoolean("stopAtEnd", first.stopAtEnd),
                from.getString("topP", null)?.toDoubleOrNull()?.takeIf { it in TOP_P } ?: first.topP,
                from.getString("minP", null)?.toDoubleOrNull()?.takeIf { it in MIN_P } ?: first.minP,
                from.getString("system", null),
                from.getString("mostThinking", null)?.toIntOrNull()?.takeIf { it in THINKING },
                from.getString("leastThinking", null)?.toIntOrNull()?.takeIf { it in THINKING },
            )
        }

        /** Reads what was typed; what greedy answers do not use may be anything. Raises [FirstTokenException] with what is wrong. */
        fun parse(typed: TypedSettings): AnswerSettings {
            if (typed.system.length > LONGEST_SYSTEM) throw FirstTokenException("the system prompt is ${typed.system.length} characters long; expected at most $LONGEST_SYSTEM")
            val rest = AnswerSettings(
                maxTokens = Typed.whole("the most new tokens", typed.maxTokens, MAX_TOKENS),
                threads = Typed.whole("the number of threads", typed.threads, THREADS),
                stopAtEnd = typed.stopAtEnd,
                system = typed.system.takeUnless { it.isBlank() },
                mostThinking = bound("the most tokens of thinking", typed.mostThinking),
                leastThinking = bound("the least tokens of thinking", typed.leastThinking),
            )
            return try {
                rest.copy(
                    isSampled = typed.isSampled,
                    temperature = Typed.decimal("the temperature", typed.temperature, TEMPERATURES),
                    topK = Typed.whole("top-k", typed.topK, TOP_K),
                    topP = Typed.decimal("top-p", typed.topP, TOP_P),
                    minP = Typed.decimal("min-p", typed.minP, MIN_P),
                    seed = Typed.whole("the seed", typed.seed, SEEDS),
                )
            } catch (refusal: FirstTokenException) {
                if (typed.isSampled) throw refusal else rest
            }
        }

        private fun bound(what: String, typed: String) = if (typed.isBlank()) null else Typed.whole(what, typed, THINKING)
    }
}

/** The settings as they stand in their fields. */
data class TypedSettings(
    val isSampled: Boolean,
    val temperature: String,
    val topK: String,
    val topP: String,
    val minP: String,
    val seed: String,
    val maxTokens: String,
    val threads: String,
    val stopAtEnd: Boolean,
    val system: String,
    val mostThinking: String = "",
    val leastThinking: String = "",
)
