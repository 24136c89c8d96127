package dev.firsttoken.core

import com.google.gson.JsonObject
import dev.firsttoken.core.npu.NpuCall
import java.io.File
import java.io.RandomAccessFile
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.security.MessageDigest
import org.junit.Assert.assertEquals

/** The calls of graphs that Python made, in [folder]: each of ours must be the next of them, byte for byte, and gets what the graph gave. */
class RecordedCalls(private val folder: File) {
    private val calls = Parity.cases(File(folder, "calls.jsonl"))
    val methods = ArrayList<String>()

    /** What the graph gave by name, for the same inputs. */
    fun answer(call: NpuCall): Map<String, FloatArray> {
        val wanted = calls[methods.size].also { methods += call.method }
        val number = "call ${methods.size}"
        assertEquals(number, wanted["method"].asString, call.method)
        val bytes = call.floats.mapValues { bytes(it.value) } + call.ints.mapValues { bytes(it.value) }
        val inputs = wanted["inputs"].asJsonObject
        assertEquals(number, inputs.keySet(), bytes.keys)
        for ((name, given) in bytes) assertEquals("$number, $name", inputs[name].asJsonObject["sha256"].asString, sha256(given))
        return wanted["outputs"].asJsonObject.entrySet().associate { (name, output) -> name to floats(output.asJsonObject) }
    }

    fun checkAllMade() = assertEquals(calls.size, methods.size)

    private fun floats(output: JsonObject): FloatArray = RandomAccessFile(File(folder, "outputs.bin"), "r").use { file ->
        val bytes = ByteArray(4 * output["shape"].asJsonArray.fold(1) { size, dimension -> size * dimension.asInt })
        file.seek(output["offset"].asLong)
        file.readFully(bytes)
        FloatArray(bytes.size / 4).also { ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(it) }
    }

    companion object {
        fun bytes(values: FloatArray): ByteArray = ByteBuffer.allocate(4 * values.size).order(ByteOrder.LITTLE_ENDIAN).also { it.asFloatBuffer().put(values) }.array()

        fun bytes(values: IntArray): ByteArray = ByteBuffer.allocate(4 * values.size).order(ByteOrder.LITTLE_ENDIAN).also { it.asIntBuffer().put(values) }.array()

        fun sha256(bytes: ByteArray) = MessageDigest.getInstance("SHA-256").digest(bytes).joinToString("") { "%02x".format(it) }
    }
}
