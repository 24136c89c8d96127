package dev.firsttoken.demo.answer

import dev.firsttoken.core.chat.Turn
import dev.firsttoken.core.generate.ArtifactInUse
import dev.firsttoken.core.generate.Stop
import dev.firsttoken.core.measure.Stages

/** What an answer is waiting for, or how it ended. */
enum class Phase { IDLE, LOADING, READING, GENERATING, DONE, CANCELLED, FAILED }

/** A conversation with the bundle [bundle] as the screen shows it: the [earlier] turns, and the newest one, which is in [phase]. */
data class AnswerState(
    val bundle: String = "",
    val phase: Phase = Phase.IDLE,
    val earlier: List<Turn> = emptyList(),
    val turn: Turn? = null,
    val error: String? = null,
) {
    val isRunning: Boolean get() = phase == Phase.LOADING || phase == Phase.READING || phase == Phase.GENERATING

    /** The turns that the next question goes on from: those with an answer. */
    val answered: List<Turn> get() = (earlier + listOfNotNull(turn)).filter { it.text.isNotBlank() }

    val text: String get() = turn?.text.orEmpty()
    val stages: Stages? get() = turn?.stages
    val newTokens: Int get() = turn?.newTokens ?: 0
    val stop: Stop? get() = turn?.stop
    val artifact: ArtifactInUse? get() = turn?.artifact
}
