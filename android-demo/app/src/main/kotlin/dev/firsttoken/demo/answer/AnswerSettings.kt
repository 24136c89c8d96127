package dev.firsttoken.demo.answer

import android.content.SharedPreferences
import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.generate.GenerationOptions
import dev.firsttoken.demo.phone.defaultThreads
import dev.firsttoken.demo.view.Typed

/** How an answer is generated. [temperature], [topK] (0: all tokens) and [seed] count only where it [isSampled]. */
data class AnswerSettings(
    val isSampled: Boolean = false,
    val temperature: Double = 0.8,
    val topK: Int = 40,
    val seed: Long = 0,
    val maxTokens: Int = 256,
    val threads: Int = defaultThreads(),
    val stopAtEnd: Boolean = true,
) {
    val options: GenerationOptions get() = GenerationOptions(maxTokens, if (isSampled) temperature else 0.0, seed, if (isSampled) topK else 0, stopAtEnd = stopAtEnd)

    /** Keeps them for the next answer, also of a later process. */
    fun save(into: SharedPreferences) =
        into.edit().putBoolean("sampled", isSampled).putString("temperature", temperature.toString()).putInt("topK", topK).putLong("seed", seed)
            .putInt("maxTokens", maxTokens).putInt("threads", threads).putBoolean("stopAtEnd", stopAtEnd).apply()

    companion object {
        val TEMPERATURES = 0.01..100.0
        val TOP_K = 0..1_000_000
        val SEEDS = 0L..Long.MAX_VALUE
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
            )
        }

        /** Reads what was typed; what greedy answers do not use may be anything. Raises [FirstTokenException] with what is wrong. */
        fun parse(isSampled: Boolean, temperature: String, topK: String, seed: String, maxTokens: String, threads: String, stopAtEnd: Boolean): AnswerSettings {
            val rest = AnswerSettings(maxTokens = Typed.whole("the most new tokens", maxTokens, MAX_TOKENS), threads = Typed.whole("the number of threads", threads, THREADS), stopAtEnd = stopAtEnd)
            return try {
                rest.copy(isSampled, Typed.decimal("the temperature", temperature, TEMPERATURES), Typed.whole("top-k", topK, TOP_K), Typed.whole("the seed", seed, SEEDS))
            } catch (refusal: FirstTokenException) {
                if (isSampled) throw refusal else rest
            }
        }
    }
}
