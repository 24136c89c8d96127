package dev.firsttoken.core.npu

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.bundle.HostTable
import java.io.Closeable
import java.io.EOFException
import java.io.File
import java.io.IOException
import java.io.RandomAccessFile
import java.nio.ByteBuffer
import java.nio.ByteOrder

/**
 * Rows of the embedding where the CPU artifact in [folder] stores it, as float32; the same as Python's `EmbeddingTable`.
 *
 * Raises [FirstTokenException] where they lie outside the file.
 */
class EmbeddingTable(folder: File, private val table: HostTable) : Closeable {
    private val rowBytes = table.columns.toLong() * WIDTHS.getValue(table.dtype)
    private val file: RandomAccessFile
    private val row: ByteBuffer
    private val scale = ByteBuffer.allocate(Float.SIZE_BYTES).order(ByteOrder.LITTLE_ENDIAN)

    init {
        val opened = try {
            RandomAccessFile(File(folder, table.file), "r")
        } catch (missing: IOException) {
            throw damaged()
        }
        if (!fits(opened.length())) {
            opened.close()
            throw damaged()
        }
        file = opened
        row = ByteBuffer.allocate(rowBytes.toInt()).order(ByteOrder.LITTLE_ENDIAN)
    }

    /** Writes the rows of [tokens], which are in the table, one after the other into [into]. */
    fun read(tokens: IntArray, into: FloatArray) {
        for ((place, token) in tokens.withIndex()) read(token, into, place * table.columns)
    }

    override fun close() = file.close()

    private fun read(token: Int, into: FloatArray, start: Int) {
        if (token !in 0 until table.rows) throw FirstTokenException("token $token is outside the embedding of ${table.rows} rows; export the bundle again")
        fill(row, table.offset + token * rowBytes)
        when (table.dtype) {
            "float32" -> row.asFloatBuffer().get(into, start, table.columns)
            "float16" -> for (column in 0 until table.columns) into[start + column] = floatOfHalf(row.getShort(2 * column))
            else -> for (column in 0 until table.columns) into[start + column] = row.get(column).toFloat()
        }
        val scales = table.scalesOffset ?: return
        fill(scale, scales + Float.SIZE_BYTES * token.toLong())
        val factor = scale.getFloat(0)
        for (column in start until start + table.columns) into[column] *= factor
    }

    private fun fill(buffer: ByteBuffer, offset: Long) {
        file.seek(offset)
        try {
            file.readFully(buffer.array())
        } catch (short: EOFException) {
            throw damaged()
        }
    }

    /** Whether rows and scales end within [length] bytes; offsets are untrusted and may be as large as they like. */
    private fun fits(length: Long): Boolean {
        if (rowBytes > Int.MAX_VALUE) return false
        val scales = table.scalesOffset
        return table.offset <= length - table.rows * rowBytes && (scales == null || scales <= length - Float.SIZE_BYTES.toLong() * table.rows)
    }

    private fun damaged() = FirstTokenException("${table.file}: does not hold the embedding that the manifest describes; export the bundle again")

    private companion object {
        val WIDTHS = mapOf("float32" to 4, "float16" to 2, "int8" to 1)
    }
}

/** The float32 of an IEEE 754 binary16; every one has one. */
fun floatOfHalf(half: Short): Float {
    val bits = half.toInt() and 0xffff
    val (exponent, fraction) = (bits shr 10 and 0x1f) to (bits and 0x3ff)
    val size = when (exponent) {
        0 -> fraction / 16777216f // below 2^-14, in steps of 2^-24
        0x1f -> if (fraction == 0) Float.POSITIVE_INFINITY else Float.NaN
        else -> Float.fromBits(exponent + 112 shl 23 or (fraction shl 13))
    }
    return if (bits shr 15 == 1) -size else size
}
