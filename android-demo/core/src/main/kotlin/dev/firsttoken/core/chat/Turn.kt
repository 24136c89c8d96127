package dev.firsttoken.core.chat

import dev.firsttoken.core.generate.ArtifactInUse
import dev.firsttoken.core.generate.RunnerInUse
import dev.firsttoken.core.generate.Stop
import dev.firsttoken.core.measure.Stages

/**
 * One question and its answer, as far as it is there.
 *
 * [text] is all that the model wrote, thoughts included. [stages] is there from the first token on, [tokensPerSecond] once there is a second one,
 * [artifact] where the bundle has two, [runner] where its runtime can be called in two ways. Of [promptTokens], the conversation so far, [cachedTokens] were in the KV cache already. [firstAnswer] is the
 * nanoseconds to the first token behind the thoughts, where there are any.
 */
data class Turn(
    val question: String,
    val text: String = "",
    val beginsInThought: Boolean = false,
    val stages: Stages? = null,
    val promptTokens: Int = 0,
    val cachedTokens: Int = 0,
    val newTokens: Int = 0,
    val tokensPerSecond: Double = 0.0,
    val firstAnswer: Long? = null,
    val stop: Stop? = null,
    val artifact: ArtifactInUse? = null,
    val runner: RunnerInUse? = null,
) {
    val parts: ThoughtAndAnswer get() = Thinking.split(text, beginsInThought)
}
