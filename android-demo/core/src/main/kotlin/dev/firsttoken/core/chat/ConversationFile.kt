package dev.firsttoken.core.chat

import com.google.gson.stream.JsonWriter
import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.bundle.Processor
import dev.firsttoken.core.generate.ArtifactInUse
import dev.firsttoken.core.generate.RunnerInUse
import dev.firsttoken.core.generate.Stop
import dev.firsttoken.core.json.AtomicFile
import dev.firsttoken.core.json.JsonFields
import dev.firsttoken.core.json.JsonText
import dev.firsttoken.core.measure.Stages
import java.io.File
import java.io.IOException
import java.io.StringWriter

/** A conversation with the bundle [bundle], the last of its [turns] in the state [phase], failed with [error]. */
class KeptConversation(val bundle: String, val phase: String, val error: String?, val turns: List<Turn>)

/** The last conversation on disk, so that a killed process loses none. Not for the main thread. */
class ConversationFile(private val file: File) {
    /** Keeps [conversation]; where the phone has no space for it, it is on the screen all the same. */
    fun write(conversation: KeptConversation) {
        try {
            AtomicFile.write(file, text(conversation))
        } catch (full: IOException) {
            file.delete() // an older conversation must not be taken for this one
        }
    }

    fun delete() {
        file.delete()
    }

    /** The conversation that was kept, or null where there is none that can be read. */
    fun read(): KeptConversation? =
        try {
            JsonFields.read(file.name, JsonText.readObject(file, LARGEST, "a conversation")) {
                KeptConversation(text("bundle"), text("phase"), textOrNull("error"), objects("turns", 1..MOST_TURNS) { turn() })
            }
        } catch (none: FirstTokenException) { // missing, damaged, or another version's
            null
        }

    private fun JsonFields.turn(): Turn {
        val place = intOrNull("artifact")
        val fallback = textOrNull("fallback")
        fun processor(name: String, otherwise: Processor) = if (has(name)) Processor.of(choice(name, *Processor.TEXTS)) else otherwise
        return Turn(
            question = text("question"),
            text = text("text"),
            beginsInThought = boolean("begins_in_thought"),
            stages = objectOrNull("stages") { Stages(longOrNull("load"), long("tokenize"), long("prefill"), long("sample"), long("detokenize"), longOrNull("render")) },
            promptTokens = int("prompt_tokens"),
            cachedTokens = int("cached_tokens"),
            newTokens = int("new_tokens"),
            tokensPerSecond = number("tokens_per_second"),
            firstAnswer = longOrNull("first_answer"),
            stop = if (has("stop")) Stop.valueOf(choice("stop", *Stop.entries.map { it.name }.toTypedArray())) else null,
            artifact = place?.let { ArtifactInUse(it, fallback, processor("processor", if (it > 0) Processor.NPU else Processor.CPU), processor("instead_of", Processor.NPU)) },
            runner = if (has("runner")) RunnerInUse(choice("runner", RunnerInUse.NATIVE, RunnerInUse.JAVA), textOrNull("runner_fallback")) else null,
        )
    }

    private fun text(conversation: KeptConversation): String {
        val text = StringWriter()
        val writer = JsonWriter(text)
        writer.serializeNulls = false
        writer.beginObject().name("bundle").value(conversation.bundle).name("phase").value(conversation.phase).name("error").value(conversation.error)
        writer.name("turns").beginArray()
        conversation.turns.takeLast(MOST_TURNS).forEach { writer.turn(it) }
        writer.endArray().endObject()
        return text.toString()
    }

    private fun JsonWriter.turn(turn: Turn) {
        beginObject()
        name("question").value(turn.question).name("text").value(turn.text).name("begins_in_thought").value(turn.beginsInThought)
        turn.stages?.let { stages ->
            name("stages").beginObject()
            stages.byName.forEach { (stage, nanoseconds) -> name(stage).value(nanoseconds) }
            endObject()
        }
        name("prompt_tokens").value(turn.promptTokens).name("cached_tokens").value(turn.cachedTokens).name("new_tokens").value(turn.newTokens)
        name("tokens_per_second").value(turn.tokensPerSecond).name("first_answer").value(turn.firstAnswer).name("stop").value(turn.stop?.name)
        name("artifact").value(turn.artifact?.place).name("fallback").value(turn.artifact?.fallback)
        name("processor").value(turn.artifact?.processor?.text).name("instead_of").value(turn.artifact?.insteadOf?.text)
        name("runner").value(turn.runner?.kind).name("runner_fallback").value(turn.runner?.fallback)
        endObject()
    }

    companion object {
        /** The most turns of a conversation; the cache ends most of them before. */
        const val MOST_TURNS = 64
        private const val LARGEST = 16L shl 20 // bytes
    }
}
