package dev.firsttoken.demo.view

import android.content.Context
import android.text.SpannableStringBuilder
import android.text.Spanned
import android.text.style.ForegroundColorSpan
import android.text.style.StyleSpan
import android.graphics.Typeface
import dev.firsttoken.core.chat.Turn
import dev.firsttoken.core.generate.Stop
import dev.firsttoken.core.measure.Stages
import dev.firsttoken.demo.R

/** The stages of a first token in words and colours. */
object StageText {
    private val NAMES = mapOf(
        "load" to R.string.stage_load, "tokenize" to R.string.stage_tokenize, "prefill" to R.string.stage_prefill,
        "sample" to R.string.stage_sample, "detokenize" to R.string.stage_detokenize, "render" to R.string.stage_render,
    )
    private val COLORS = mapOf(
        "load" to R.color.stage_load, "tokenize" to R.color.stage_tokenize, "prefill" to R.color.stage_prefill,
        "sample" to R.color.stage_sample, "detokenize" to R.color.stage_detokenize, "render" to R.color.stage_render,
    )

    fun name(context: Context, stage: String): String = context.getString(NAMES.getValue(stage))

    fun color(context: Context, stage: String): Int = context.getColor(COLORS.getValue(stage))

    /** The stages that there are, in nanoseconds. */
    fun milliseconds(stages: Map<String, Long?>): Map<String, Double> = stages.entries.mapNotNull { (stage, value) -> value?.let { stage to it.toDouble() } }.toMap()

    /** A line for the first token and one for each stage with the colour that the bar has for it. */
    fun figures(context: Context, stages: Stages, turn: Turn): CharSequence {
        val words = if (stages.load == null) R.string.first_token_warm else R.string.first_token_cold
        val text = SpannableStringBuilder(context.getString(words, Numbers.milliseconds(stages.firstToken.toDouble()), turn.promptTokens))
        text.setSpan(StyleSpan(Typeface.BOLD), 0, text.length, Spanned.SPAN_EXCLUSIVE_EXCLUSIVE)
        if (stages.render == null) text.append('\n').append(context.getString(R.string.render_missing))
        legend(context, milliseconds(stages.byName), text)
        if (turn.cachedTokens > 0) text.append('\n').append(context.getString(R.string.cached, turn.cachedTokens, turn.promptTokens - turn.cachedTokens))
        turn.firstAnswer?.let { text.append('\n').append(context.getString(R.string.first_answer_after, Numbers.milliseconds(it.toDouble()))) }
        if (turn.tokensPerSecond > 0) text.append('\n').append(context.getString(R.string.after_first, turn.newTokens, Numbers.rate(turn.tokensPerSecond)))
        runnerText(context, turn.runner)?.let { text.append('\n').append(it) }
        return text
    }

    /** The same in a line: the first token, the first one behind the thoughts where there are any, and the speed after it. */
    fun line(context: Context, stages: Stages, turn: Turn): String =
        listOfNotNull(
            context.getString(R.string.first_token_line, Numbers.milliseconds(stages.firstToken.toDouble())),
            turn.firstAnswer?.let { context.getString(R.string.first_answer_line, Numbers.milliseconds(it.toDouble())) },
            if (turn.tokensPerSecond > 0) context.getString(R.string.speed_line, Numbers.rate(turn.tokensPerSecond)) else null,
        ).joinToString(" · ")

    /** Appends one line a stage: a square in its colour, its name and its time. */
    fun legend(context: Context, stages: Map<String, Double>, text: SpannableStringBuilder) {
        for ((stage, nanoseconds) in stages) {
            text.append('\n')
            val start = text.length
            text.append("■\u00a0")
            text.setSpan(ForegroundColorSpan(color(context, stage)), start, text.length, Spanned.SPAN_EXCLUSIVE_EXCLUSIVE)
            text.append(context.getString(R.string.stage_line, name(context, stage), Numbers.milliseconds(nanoseconds)))
        }
    }

    fun stop(stop: Stop?): Int =
        when (stop) {
            Stop.END, null -> R.string.stop_end
            Stop.LENGTH -> R.string.stop_length
            Stop.CACHE -> R.string.stop_cache
            Stop.CANCELLED -> R.string.phase_cancelled
        }
}
