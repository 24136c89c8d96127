package dev.firsttoken.core.benchmark

import com.google.gson.stream.JsonWriter
import dev.firsttoken.core.generate.Clock
import java.io.Closeable
import java.io.File
import java.io.RandomAccessFile
import java.io.StringWriter

/**
 * The progress of a request: one JSON object per line, only ever appended to.
 *
 * A line goes out in one write. One that a power cut left without its end counts as not written (PROTOCOL.md) and is taken off
 * before the first new one. Raises `IOException`.
 */
class ProgressFile(file: File, private val clock: Clock) : Closeable {
    private val stream = RandomAccessFile(file, "rw").apply { setLength(endOfLastLine(this)) }

    fun started(pid: Int, total: Int, kept: Int) = line("started") {
        name("pid").value(pid)
        name("total").value(total)
        name("kept").value(kept)
    }

    fun phase(phase: String) = line("phase") { name("phase").value(phase) }

    fun run(promptTokens: Int, state: String, done: Int, total: Int, firstToken: Long) = line("run") {
        name("prompt_tokens").value(promptTokens)
        name("state").value(state)
        name("done").value(done)
        name("total").value(total)
        name("first_token_ns").value(firstToken)
    }

    fun failed(promptTokens: Int?, stage: String, message: String) = line("failed") {
        if (promptTokens != null) name("prompt_tokens").value(promptTokens)
        name("stage").value(stage)
        name("message").value(message)
    }

    fun refused(message: String) = line("refused") { name("message").value(message) }

    fun done(runs: Int, failures: Int) = line("done") {
        name("runs").value(runs)
        name("failures").value(failures)
    }

    override fun close() = stream.close()

    private fun line(event: String, fields: JsonWriter.() -> Unit) {
        val text = StringWriter()
        JsonWriter(text).apply {
            beginObject()
            name("event").value(event)
            name("time").value(clock.wallMillis())
            fields()
            endObject()
        }
        stream.seek(stream.length())
        stream.write(text.append("\n").toString().toByteArray(Charsets.UTF_8))
    }

    private fun endOfLastLine(file: RandomAccessFile): Long {
        var end = file.length()
        while (end > 0) {
            file.seek(end - 1)
            if (file.read() == '\n'.code) break
            end--
        }
        return end
    }
}
