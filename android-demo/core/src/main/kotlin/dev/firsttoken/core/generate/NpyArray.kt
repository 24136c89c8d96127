package dev.firsttoken.core.generate

import dev.firsttoken.core.npu.floatOfHalf
import java.io.File
import java.io.IOException
import java.nio.Buffer
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.zip.ZipEntry
import java.util.zip.ZipFile

/** An array of NumPy's format 1.0: [type] as it writes it ("<f4"), rows one after the other, little endian. */
internal class NpyArray(val type: String, val shape: IntArray, bytes: ByteArray, private val start: Int) {
    private val size = bytes.size - start
    private val all: ByteBuffer = ByteBuffer.wrap(bytes)

    /** The values' bytes. */
    val data: ByteBuffer
        get() {
            val view = all.duplicate()
            (view as Buffer).position(start) // before Android 9 `ByteBuffer` has no method of its own for this
            return view.slice().order(ByteOrder.LITTLE_ENDIAN)
        }

    /** The values of a float32, float16 or int8 array; null of others. */
    fun floats(): FloatArray? = when (type) {
        "<f4" -> FloatArray(size / 4).also { data.asFloatBuffer().get(it) }
        "<f2" -> data.let { from -> FloatArray(size / 2) { floatOfHalf(from.getShort(2 * it)) } }
        "|i1" -> data.let { from -> FloatArray(size) { from.get(it).toFloat() } }
        else -> null
    }

    fun longs(): LongArray? = if (type == "<i8") LongArray(size / 8).also { data.asLongBuffer().get(it) } else null

    companion object {
        private const val MAGIC = 10 // bytes before the header's text: a mark, the version, the text's length
        private const val LARGEST = 1L shl 30
        private val WIDTHS = mapOf("<f4" to 4, "<f2" to 2, "|i1" to 1, "<i8" to 8)
        private val HEADER = Regex("""\{'descr': '([^']+)', 'fortran_order': False, 'shape': \(([\d, ]*)\), *\}\s*""")

        /** The arrays of an `.npz` by name. Raises [IOException] for a file that is none, or whose members are compressed or no arrays that fill them. */
        fun readAll(file: File): Map<String, NpyArray> =
            ZipFile(file).use { archive ->
                archive.entries().asSequence().associate { it.name.removeSuffix(".npy") to read(archive, it) }
            }

        private fun read(archive: ZipFile, entry: ZipEntry): NpyArray {
            if (entry.method != ZipEntry.STORED || entry.size !in MAGIC..LARGEST) throw IOException("${entry.name} is compressed or has ${entry.size} bytes")
            val bytes = archive.getInputStream(entry).use { it.readBytes() }
            val length = (bytes[8].toInt() and 0xff) or (bytes[9].toInt() and 0xff shl 8)
            val header = if (MAGIC + length <= bytes.size) HEADER.matchEntire(String(bytes, MAGIC, length, Charsets.ISO_8859_1)) else null
            val (type, sizes) = header?.destructured ?: throw IOException("${entry.name} is no array of NumPy's")
            val shape = sizes.split(",").mapNotNull { it.trim().takeIf(String::isNotEmpty)?.toIntOrNull() }.toIntArray()
            val width = WIDTHS[type] ?: throw IOException("${entry.name} is of type $type")
            if (shape.fold(width.toLong()) { product, length -> product * length } != (bytes.size - MAGIC - length).toLong()) throw IOException("${entry.name} is cut short")
            return NpyArray(type, shape, bytes, MAGIC + length)
        }
    }
}

/** The IEEE 754 binary16 nearest to [value], of two as near the even one. */
fun halfOf(value: Float): Short {
    val bits = value.toRawBits()
    val (sign, size) = (bits ushr 16 and 0x8000) to Math.abs(value)
    val rest = when {
        value.isNaN() -> 0x7e00
        size >= 65520f -> 0x7c00 // half a step beyond the largest
        size < 6.103515625e-5f -> Math.rint(size * 16777216.0).toInt() // in steps of 2^-24
        else -> ((bits and 0x7fffffff) + 0xfff + (bits ushr 13 and 1) ushr 13) - (112 shl 10)
    }
    return (sign or rest).toShort()
}
