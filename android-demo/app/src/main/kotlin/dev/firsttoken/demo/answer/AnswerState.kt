package dev.firsttoken.demo.answer

import dev.firsttoken.core.generate.ArtifactInUse
import dev.firsttoken.core.generate.Stop
import dev.firsttoken.core.measure.Stages

/** What an answer is waiting for, or how it ended. */
enum class Phase { IDLE, LOADING, READING, GENERATING, DONE, CANCELLED, FAILED }

/** An answer of the bundle [bundle] as the screen shows it. [stages] is there from the first token on, [tokensPerSecond] once there is a second one, [artifact] where the bundle has two. */
data class AnswerState(
    val bundle: String = "",
    val phase: Phase = Phase.IDLE,
    val text: String = "",
    val stages: Stages? = null,
    val promptTokens: Int = 0,
    val newTokens: Int = 0,
    val tokensPerSecond: Double = 0.0,
    val stop: Stop? = null,
    val error: String? = null,
    val artifact: ArtifactInUse? = null,
) {
    val isRunning: Boolean get() = phase == Phase.LOADING || phase == Phase.READING || phase == Phase.GENERATING
}
