package dev.firsttoken.demo.natives

import android.os.Handler
import com.google.gson.JsonObject
import dev.firsttoken.core.benchmark.Engines
import dev.firsttoken.core.chat.ConversationFile
import dev.firsttoken.core.measure.Writer
import dev.firsttoken.demo.answer.AnswerJob
import dev.firsttoken.demo.answer.AnswerMemory
import dev.firsttoken.demo.answer.AnswerSettings
import dev.firsttoken.demo.answer.ConversationLog
import dev.firsttoken.demo.answer.LoadedBundle
import java.io.File

/**
 * Answers `prompts` one after another as "Try it" does, with its settings as they are at first but for `most` new tokens; writes a line of JSON
 * for each. With `chat` they are the questions of one conversation, otherwise each begins a new one.
 */
fun answer(engines: Engines, job: JsonObject) {
    val into = File(job["into"].asString)
    val memory = AnswerMemory(ConversationFile(File("$into.conversation")))
    val log = ConversationLog(File("$into.measurement"), NoPhone, engines, Writer("android_natives", "0"))
    val answers = AnswerJob({ it.run() }, Handler(), LoadedBundle(engines), { System.nanoTime() }, memory, log)
    into.bufferedWriter().use { lines ->
        for (prompt in job["prompts"].asJsonArray) {
            if (!job["chat"].asBoolean) answers.startAnew()
            answers.start(File(job["bundle"].asString), prompt.asString, AnswerSettings(maxTokens = job["most"].asInt))
            val said = JsonObject().apply {
                addProperty("phase", answers.state.phase.name)
                addProperty("text", answers.state.text)
                addProperty("promptTokens", answers.state.turn?.promptTokens)
                addProperty("cachedTokens", answers.state.turn?.cachedTokens)
                addProperty("newTokens", answers.state.newTokens)
                addProperty("error", answers.state.error)
            }
            lines.write("$said\n")
        }
    }
}
