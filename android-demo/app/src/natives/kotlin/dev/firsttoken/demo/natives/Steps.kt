package dev.firsttoken.demo.natives

import com.google.gson.JsonElement
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
 * Takes an engine through `steps`: [name, tokens] each, where the name is `prefill`, `decode` (token by token), `keep` (then prefills what is left), `reset`,
 * `reopen` or `close`. Writes the logits of every call, float32 rows, into `logits.bin`, and a line each into `steps.jsonl`: the position after it, what was kept,
 * which runner runs, why not the native one, whose packed weights it has taken out of the bundle and why none, and the error where there is one.
 */
class Steps(private val engines: Engines, case: JsonObject) {
    private val bundle = Bundle.open(File(case["bundle"].asString))
    private val threads = case["threads"].asInt
    private val steps = case["steps"].asJsonArray
    private val folder = File(case["into"].asString)
    private var engine: Engine? = null

    fun run() = BufferedOutputStream(File(folder, "logits.bin").outputStream()).use { logits ->
        File(folder, "steps.jsonl").bufferedWriter().use { lines -> steps.forEach { lines.write("${step(it, logits)}\n") } }
        engine?.close()
    }

    private fun step(step: JsonElement, logits: OutputStream): JsonObject {
        val tokens = step.asJsonArray[1].asJsonArray.map { it.asInt }.toIntArray()
        val said = JsonObject()
        try {
            val engine = engine ?: engines.open(bundle, threads).also { engine = it }
            when (val name = step.asJsonArray[0].asString) {
                "prefill" -> write(engine.prefill(tokens), logits)
                "decode" -> for (token in tokens) write(engine.decode(token), logits)
                "keep" -> {
                    val kept = engine.keepPrefix(tokens)
                    said.addProperty("kept", kept)
                    write(engine.prefill(tokens.copyOfRange(kept, tokens.size)), logits)
                }
                "reset" -> engine.reset()
                "reopen" -> this.engine = engine.close().let { null }
                "close" -> engine.close()
                else -> error("step '$name'")
            }
            said.addProperty("position", engine.position)
            said.addProperty("runner", engine.runner?.kind)
            said.addProperty("fallback", engine.runner?.fallback)
            said.addProperty("packed_for", engine.runner?.packedFor)
            said.addProperty("unpacked", engine.runner?.unpacked)
        } catch (error: Throwable) {
            said.addProperty("error", failureMessage(error))
        }
        return said
    }

    private fun write(values: FloatArray, into: OutputStream) {
        into.write(ByteBuffer.allocate(4 * values.size).order(ByteOrder.LITTLE_ENDIAN).also { it.asFloatBuffer().put(values) }.array())
    }
}
