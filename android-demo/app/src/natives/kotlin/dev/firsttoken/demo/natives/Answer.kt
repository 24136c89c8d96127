package dev.firsttoken.demo.natives

import android.os.Handler
import com.google.gson.JsonObject
import dev.firsttoken.core.benchmark.Engines
import dev.firsttoken.demo.answer.AnswerJob
import dev.firsttoken.demo.answer.AnswerMemory
import dev.firsttoken.demo.answer.AnswerSettings
import dev.firsttoken.demo.answer.LoadedBundle
import java.io.File

/** Answers `prompts` one after another as "Try it" does, with its settings as they are at first but for `most` new tokens; writes a line of JSON for each. */
fun answer(engines: Engines, job: JsonObject) {
    val memory = AnswerMemory(File(job["into"].asString + ".memory"))
    val answers = AnswerJob({ it.run() }, Handler(), LoadedBundle(engines), { System.nanoTime() }, memory)
    File(job["into"].asString).bufferedWriter().use { lines ->
        for (prompt in job["prompts"].asJsonArray) {
            answers.start(File(job["bundle"].asString), prompt.asString, AnswerSettings(maxTokens = job["most"].asInt))
            val said = JsonObject().apply {
                addProperty("phase", answers.state.phase.name)
                addProperty("text", answers.state.text)
                addProperty("promptTokens", answers.state.promptTokens)
                addProperty("newTokens", answers.state.newTokens)
                addProperty("error", answers.state.error)
            }
            lines.write("$said\n")
        }
    }
}
