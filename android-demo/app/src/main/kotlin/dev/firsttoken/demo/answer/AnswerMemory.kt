package dev.firsttoken.demo.answer

import android.os.Bundle
import dev.firsttoken.core.generate.Stop
import dev.firsttoken.core.measure.Stages

/** A finished answer in an activity's saved state, so that a killed process loses none. */
object AnswerMemory {
    private const val LONGEST = 20_000 // characters; a saved state must stay small

    fun save(state: AnswerState, into: Bundle) {
        if (state.phase == Phase.IDLE || state.isRunning) return
        into.putString("phase", state.phase.name)
        into.putString("text", state.text.take(LONGEST))
        into.putInt("promptTokens", state.promptTokens)
        into.putInt("newTokens", state.newTokens)
        into.putDouble("tokensPerSecond", state.tokensPerSecond)
        into.putString("stop", state.stop?.name)
        into.putString("error", state.error)
        state.stages?.byName?.forEach { (stage, nanoseconds) -> if (nanoseconds != null) into.putLong("stage.$stage", nanoseconds) }
    }

    fun restore(from: Bundle): AnswerState? {
        val phase = Phase.entries.firstOrNull { it.name == from.getString("phase") } ?: return null
        fun stage(name: String): Long? = if (from.containsKey("stage.$name")) from.getLong("stage.$name") else null
        val prefill = stage("prefill")
        return AnswerState(
            phase = phase,
            text = from.getString("text").orEmpty(),
            stages = if (prefill == null) null else Stages(stage("load"), stage("tokenize") ?: 0, prefill, stage("sample") ?: 0, stage("detokenize") ?: 0, stage("render")),
            promptTokens = from.getInt("promptTokens"),
            newTokens = from.getInt("newTokens"),
            tokensPerSecond = from.getDouble("tokensPerSecond"),
            stop = Stop.entries.firstOrNull { it.name == from.getString("stop") },
            error = from.getString("error"),
        )
    }
}
