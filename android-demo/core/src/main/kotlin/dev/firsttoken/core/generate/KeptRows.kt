package dev.firsttoken.core.generate

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.bundle.KeptPrompt
import java.io.File
import java.io.IOException
import java.nio.Buffer
import java.nio.ByteBuffer
import java.nio.ByteOrder

/**
 * What a bundle in [folder] keeps of a system prompt, read when it is wanted first; the same as Python's `Prefix` (python/firsttoken/run/prefix.py).
 *
 * Raises [FirstTokenException] where the file does not hold what is asked of it.
 */
class KeptRows(private val folder: File, prompt: KeptPrompt) {
    val tokens: IntArray = prompt.tokens
    private val name = prompt.file
    private val arrays: Map<String, NpyArray> by lazy(LazyThreadSafetyMode.NONE) {
        try {
            NpyArray.readAll(File(folder, name))
        } catch (error: IOException) {
            throw wrong(error.message ?: "cannot be read")
        }
    }

    /** Positions that the cache's rows have held. */
    val written: Int get() = arrays[WRITTEN]?.longs()?.singleOrNull()?.toInt() ?: throw wrong("says not what was written")

    /** The array of this name, of [shape], in [dtype] "float32" or "float16", little endian. */
    fun bytes(array: String, shape: IntArray, dtype: String): ByteBuffer {
        val found = arrays[array] ?: throw wrong("has no $array")
        if (!found.shape.contentEquals(shape)) throw wrong("$array is ${found.shape.toList()}; expected ${shape.toList()}")
        if (found.type == TYPES[dtype]) return found.data
        val values = found.floats() ?: throw wrong("$array is ${found.type}; expected $dtype")
        arrays[array + SCALES]?.let { scale(values, it.floats() ?: throw wrong("$array has no scales"), shape.last()) }
        val made = ByteBuffer.allocate(values.size * if (dtype == "float16") 2 else 4).order(ByteOrder.LITTLE_ENDIAN)
        for (value in values) if (dtype == "float16") made.putShort(halfOf(value)) else made.putFloat(value)
        (made as Buffer).flip() // before Android 9 `ByteBuffer` has no method of its own for this
        return made
    }

    /** Multiplies every [row] of values by its scale. */
    private fun scale(values: FloatArray, scales: FloatArray, row: Int) {
        if (scales.size != values.size / row) throw wrong("has ${scales.size} scales for ${values.size / row} rows")
        for (place in values.indices) values[place] *= scales[place / row]
    }

    private fun wrong(what: String) = FirstTokenException("the kept system prompt $name: $what; export the bundle again")

    private companion object {
        const val WRITTEN = "written"
        const val SCALES = ".scales"
        val TYPES = mapOf("float32" to "<f4", "float16" to "<f2")
    }
}
