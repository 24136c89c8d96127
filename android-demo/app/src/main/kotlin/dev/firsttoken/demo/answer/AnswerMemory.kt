package dev.firsttoken.demo.answer

import dev.firsttoken.core.generate.ArtifactInUse
import dev.firsttoken.core.generate.Stop
import dev.firsttoken.core.json.AtomicFile
import dev.firsttoken.core.measure.Stages
import java.io.File
import java.io.IOException
import java.io.StringReader
import java.io.StringWriter
import java.util.Properties

/** The last finished answer on disk, so that a killed process loses none. Not for the main thread. */
class AnswerMemory(private val file: File) {
    /** Keeps [state]; where the phone has no space for it, it is on the screen all the same. */
    fun save(state: AnswerState) {
        val values = Properties()
        values["bundle"] = state.bundle
        values["phase"] = state.phase.name
        values["text"] = state.text
        values["promptTokens"] = state.promptTokens.toString()
        values["newTokens"] = state.newTokens.toString()
        values["tokensPerSecond"] = state.tokensPerSecond.toString()
        state.stop?.let { values["stop"] = it.name }
        state.error?.let { values["error"] = it }
        state.artifact?.let { values["artifact"] = it.place.toString() }
        state.artifact?.fallback?.let { values["fallback"] = it }
        state.stages?.byName?.forEach { (stage, nanoseconds) -> if (nanoseconds != null) values["stage.$stage"] = nanoseconds.toString() }
        try {
            AtomicFile.write(file, StringWriter().also { values.store(it, null) }.toString())
        } catch (full: IOException) {
            file.delete() // an older answer must not be taken for this one
        }
    }

    /** The answer that was kept, or null where there is none. */
    fun saved(): AnswerState? {
        val values = Properties()
        try {
            values.load(StringReader(file.readText()))
        } catch (none: IOException) {
            return null
        } catch (damaged: IllegalArgumentException) { // an escape that is none
            return null
        }
        val phase = Phase.entries.firstOrNull { it.name == values.getProperty("phase") } ?: return null
        fun stage(name: String): Long? = values.getProperty("stage.$name")?.toLongOrNull()
        val prefill = stage("prefill")
        return AnswerState(
            bundle = values.getProperty("bundle").orEmpty(),
            phase = phase,
            text = values.getProperty("text").orEmpty(),
            stages = if (prefill == null) null else Stages(stage("load"), stage("tokenize") ?: 0, prefill, stage("sample") ?: 0, stage("detokenize") ?: 0, stage("render")),
            promptTokens = values.getProperty("promptTokens")?.toIntOrNull() ?: 0,
            newTokens = values.getProperty("newTokens")?.toIntOrNull() ?: 0,
            tokensPerSecond = values.getProperty("tokensPerSecond")?.toDoubleOrNull() ?: 0.0,
            stop = Stop.entries.firstOrNull { it.name == values.getProperty("stop") },
            error = values.getProperty("error"),
            artifact = values.getProperty("artifact")?.toIntOrNull()?.let { ArtifactInUse(it, values.getProperty("fallback")) },
        )
    }
}
