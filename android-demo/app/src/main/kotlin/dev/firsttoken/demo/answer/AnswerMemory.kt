package dev.firsttoken.demo.answer

import dev.firsttoken.core.chat.ConversationFile
import dev.firsttoken.core.chat.KeptConversation

/** The last conversation on disk, as the screen's state. Not for the main thread. */
class AnswerMemory(private val file: ConversationFile) {
    fun save(state: AnswerState) = file.write(KeptConversation(state.bundle, state.phase.name, state.error, state.earlier + listOfNotNull(state.turn)))

    fun forget() = file.delete()

    /** What was kept, or null where there is nothing; an answer that was running when the process ended is a stopped one. */
    fun saved(): AnswerState? {
        val kept = file.read() ?: return null
        val phase = Phase.entries.firstOrNull { it.name == kept.phase } ?: return null
        val state = AnswerState(kept.bundle, phase, kept.turns.dropLast(1), kept.turns.last(), kept.error)
        return if (state.isRunning) state.copy(phase = Phase.CANCELLED) else state
    }
}
