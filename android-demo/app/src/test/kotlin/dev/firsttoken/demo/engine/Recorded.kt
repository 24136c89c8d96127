package dev.firsttoken.demo.engine

import com.google.gson.JsonObject
import dev.firsttoken.core.Parity
import dev.firsttoken.core.bundle.Manifest
import dev.firsttoken.core.bundle.ManifestReader
import dev.firsttoken.core.generate.Engine
import java.io.File
import java.io.RandomAccessFile
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.security.MessageDigest
import org.junit.Assert.assertEquals

/** What Python's runner passed to the real runtime for [target], and what that answered (tests/android/parity_engines.py). */
class Recorded(target: String) {
    val folder = File(Parity.folder(), "engines/$target")
    private val outputs = File(folder, "outputs.bin")
    private val calls = Parity.cases(File(folder, "calls.jsonl"))
    private var next = 0
    val manifest: Manifest = ManifestReader.read(folder)

    /** The next call, which must be of [method] with just these inputs: shapes and bytes. */
    fun call(method: String, inputs: Map<String, Pair<IntArray, ByteArray>>): JsonObject {
        val call = calls[next++]
        assertEquals("call $next", call["method"].asString, method)
        val wanted = call["inputs"].asJsonObject
        assertEquals("call $next", wanted.keySet(), inputs.keys)
        for ((name, input) in inputs) {
            val expected = wanted[name].asJsonObject
            assertEquals("call $next, shape of $name", expected["shape"].asJsonArray.map { it.asInt }, input.first.toList())
            assertEquals("call $next, bytes of $name", expected["sha256"].asString, sha256(input.second))
        }
        return call["outputs"].asJsonObject
    }

    /** Fills [into] with an output's bytes. */
    fun read(output: JsonObject, into: ByteArray) = RandomAccessFile(outputs, "r").use {
        it.seek(output["offset"].asLong)
        it.readFully(into)
    }

    /** Runs what Python ran on [engine]; every answer's logits must be the same, and every call must have been made. */
    fun replay(engine: Engine) {
        for (step in Parity.cases(File(folder, "steps.jsonl"))) {
            val tokens = step["tokens"].asJsonArray.map { it.asInt }.toIntArray()
            if (step["reset"].asBoolean) engine.reset()
            if (step["kind"].asString == "keep") {
                assertEquals("tokens kept", step["kept"].asInt, engine.keepPrefix(tokens))
                continue
            }
            val logits = if (step["kind"].asString == "prefill") engine.prefill(tokens) else engine.decode(tokens.single())
            assertEquals(step["logits"].asString, sha256(bytes(logits)))
        }
        assertEquals("calls made", calls.size, next)
    }

    companion object {
        fun bytes(values: FloatArray): ByteArray = ByteBuffer.allocate(4 * values.size).order(ByteOrder.nativeOrder()).also { it.asFloatBuffer().put(values) }.array()

        private fun sha256(bytes: ByteArray) = MessageDigest.getInstance("SHA-256").digest(bytes).joinToString("") { "%02x".format(it) }
    }
}
