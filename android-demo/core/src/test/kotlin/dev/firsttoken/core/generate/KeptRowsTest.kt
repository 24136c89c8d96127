package dev.firsttoken.core.generate

import dev.firsttoken.core.assertRefused
import dev.firsttoken.core.bundle.KeptPrompt
import dev.firsttoken.core.npu.floatOfHalf
import java.io.ByteArrayOutputStream
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.file.Files
import java.util.zip.CRC32
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Test

class KeptRowsTest {
    private val prompt = KeptPrompt("prefix.npz", "Be brief.", intArrayOf(1, 2))

    @Test fun everyHalfIsItselfAgain() {
        for (bits in 0..0xffff) {
            val value = floatOfHalf(bits.toShort())
            if (!value.isNaN()) assertEquals(bits, halfOf(value).toInt() and 0xffff)
        }
    }

    @Test fun whatLiesBetweenGoesToTheNearestAndToTheEvenOne() {
        // 1 and its next are 2^-10 apart
        assertEquals(1f, floatOfHalf(halfOf(1f + 0.00048828125f)), 0f)
        assertEquals(1.001953125f, floatOfHalf(halfOf(1.00146484375f)), 0f)
        assertEquals(1.0009765625f, floatOfHalf(halfOf(1.0005f)), 0f)
        assertEquals(65504f, floatOfHalf(halfOf(65519f)), 0f)
        assertEquals(Float.NEGATIVE_INFINITY, floatOfHalf(halfOf(-65520f)), 0f)
        assertEquals(0f, floatOfHalf(halfOf(2.98e-8f)), 0f) // less than half of the least
        assertEquals(5.9604645e-8f, floatOfHalf(halfOf(2.99e-8f)), 0f)
    }

    @Test fun integersAreMultipliedByTheirRowsScales() {
        val rows = rows("key.0" to array("|i1", "2, 3", byteArrayOf(1, -2, 3, 4, 5, -127)), "key.0.scales" to array("<f4", "2, 1", floats(0.5f, 2f)), "written" to array("<i8", "1,", longs(70)))
        val values = FloatArray(6).also { rows.bytes("key.0", intArrayOf(2, 3), "float32").asFloatBuffer().get(it) }
        assertArrayEquals(floatArrayOf(0.5f, -1f, 1.5f, 8f, 10f, -254f), values, 0f)
        assertEquals(-254f, floatOfHalf(rows.bytes("key.0", intArrayOf(2, 3), "float16").getShort(10)), 0f)
        assertEquals(70, rows.written)
    }

    @Test fun whatIsNotAsAskedIsRefused() {
        val rows = rows("key.0" to array("<f4", "1, 2", floats(1f, 2f)))
        assertEquals(2f, rows.bytes("key.0", intArrayOf(1, 2), "float32").getFloat(4), 0f)
        assertRefused("kept system prompt prefix.npz: key.0 is [1, 2]; expected [1, 3]", "export the bundle again") { rows.bytes("key.0", intArrayOf(1, 3), "float32") }
        assertRefused("has no value.0") { rows.bytes("value.0", intArrayOf(1, 2), "float32") }
        assertRefused("says not what was written") { rows.written }
        for (bad in listOf(array("<f4", "9, 9", floats(1f)), array("<f8", "1,", longs(1)), "text".repeat(5).toByteArray(), array("<f4", "1,", floats(1f), fortran = "True"))) {
            assertRefused("kept system prompt prefix.npz: ") { rows("key.0" to bad).bytes("key.0", intArrayOf(1), "float32") }
        }
        val folder = Files.createTempDirectory("kept").toFile()
        File(folder, "prefix.npz").writeText("no archive")
        assertRefused("kept system prompt prefix.npz: ") { KeptRows(folder, prompt).written }
    }

    private fun rows(vararg arrays: Pair<String, ByteArray>): KeptRows {
        val folder = Files.createTempDirectory("kept").toFile()
        ZipOutputStream(File(folder, "prefix.npz").outputStream()).use { archive ->
            for ((name, bytes) in arrays) {
                archive.putNextEntry(
                    ZipEntry("$name.npy").apply {
                        method = ZipEntry.STORED
                        size = bytes.size.toLong()
                        crc = CRC32().apply { update(bytes) }.value
                    },
                )
                archive.write(bytes)
                archive.closeEntry()
            }
        }
        return KeptRows(folder, prompt)
    }

    private fun array(type: String, shape: String, values: ByteArray, fortran: String = "False"): ByteArray {
        val header = "{'descr': '$type', 'fortran_order': $fortran, 'shape': ($shape), }\n"
        val made = ByteArrayOutputStream()
        made.write(byteArrayOf(0x93.toByte()) + "NUMPY".toByteArray() + byteArrayOf(1, 0, header.length.toByte(), 0))
        made.write(header.toByteArray())
        made.write(values)
        return made.toByteArray()
    }

    private fun floats(vararg values: Float) = ByteBuffer.allocate(4 * values.size).order(ByteOrder.LITTLE_ENDIAN).also { it.asFloatBuffer().put(values) }.array()

    private fun longs(vararg values: Long) = ByteBuffer.allocate(8 * values.size).order(ByteOrder.LITTLE_ENDIAN).also { it.asLongBuffer().put(values) }.array()
}
