package dev.firsttoken.demo.natives

import com.google.gson.JsonObject
import dev.firsttoken.core.benchmark.Engines
import dev.firsttoken.core.benchmark.failureMessage
import dev.firsttoken.core.bundle.Bundle
import dev.firsttoken.core.generate.Engine
import java.io.BufferedOutputStream
import java.io.File
import java.io.OutputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder

/**
 * Runs a bundle at several prompt lengths and writes what came of it: `logits.bin`, float32 rows, and `rows.jsonl`, a line each with
 * the prompt's length, how many tokens were decoded after it, and the error where there is one.
 *
 * Of `tokens` the first are the prompt, the next are decoded: `decode` of them, and with `to_the_end` all that are left after the last length.
 */
class LogitsCase(private val engines: Engines, case: JsonObject) {
    private val bundle = Bundle.open(File(case["bundle"].asString))
    private val threads = case["threads"].asInt
    private val tokens = case["tokens"].asJsonArray.map { it.asInt }.toIntArray()
    private val lengths = case["lengths"].asJsonArray.map { it.asInt }
    private val decode = case["decode"].asInt
    private val toTheEnd = case["to_the_end"].asBoolean
    private val folder = File(case["into"].asString)
    private var engine: Engine? = null

    fun run() {
        engines.refusal(bundle.manifest)?.let { return File(folder, "rows.jsonl").writeText(line(0, 0, "refused: $it")) }
        BufferedOutputStream(File(folder, "logits.bin").outputStream()).use { logits ->
            File(folder, "rows.jsonl").bufferedWriter().use { rows ->
                lengths.forEachIndexed { place, length -> prompt(length, if (toTheEnd && place == lengths.lastIndex) tokens.size - length else decode, logits) { rows.write(it) } }
            }
        }
        engine?.close()
    }

    private fun prompt(length: Int, more: Int, logits: OutputStream, note: (String) -> Unit) {
        var decoded = 0
        try {
            val engine = engine?.also { it.reset() } ?: engines.open(bundle, threads).also { engine = it }
            write(engine.prefill(tokens.copyOf(length)), logits)
            note(line(length, 0, null))
            while (decoded < more) {
                write(engine.decode(tokens[length + decoded]), logits)
                note(line(length, ++decoded, null))
            }
        } catch (error: Throwable) {
            engine?.close() // as the app does
            engine = null
            note(line(length, decoded, failureMessage(error)))
        }
    }

    private fun write(values: FloatArray, into: OutputStream) {
        into.write(ByteBuffer.allocate(4 * values.size).order(ByteOrder.LITTLE_ENDIAN).also { it.asFloatBuffer().put(values) }.array())
    }

    private fun line(length: Int, decoded: Int, error: String?): String = JsonObject().apply {
        addProperty("length", length)
        addProperty("decoded", decoded)
        addProperty("error", error)
    }.toString() + "\n"
}
