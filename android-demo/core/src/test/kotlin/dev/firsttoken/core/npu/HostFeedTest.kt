package dev.firsttoken.core.npu

import com.google.gson.JsonObject
import com.google.gson.JsonParser
import dev.firsttoken.core.Parity
import dev.firsttoken.core.assertRefused
import dev.firsttoken.core.bundle.Artifact
import dev.firsttoken.core.bundle.HostTable
import dev.firsttoken.core.bundle.Manifest
import dev.firsttoken.core.bundle.NpuFacts
import dev.firsttoken.core.bundle.Rotation
import dev.firsttoken.core.bundle.Target
import dev.firsttoken.core.generate.DemoFiles
import dev.firsttoken.core.holding
import java.io.File
import java.io.RandomAccessFile
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

/** What goes into NPU graphs, bit for bit what Python feeds (tests/android/parity_npu.py). */
class HostFeedTest {
    @get:Rule val folder = TemporaryFolder()

    private val place by lazy { File(Parity.folder(), "npu") }
    private val facts by lazy { JsonParser.parseString(File(place, "feeds.json").readText()).asJsonObject }
    private val frequencies by lazy { facts["inverse_frequencies"].asJsonArray.map { it.asFloat }.toFloatArray() }

    private fun array(of: JsonObject): FloatArray = RandomAccessFile(File(place, "feeds.bin"), "r").use { file ->
        val bytes = ByteArray(4 * of["count"].asInt).also { file.seek(of["offset"].asLong); file.readFully(it) }
        FloatArray(bytes.size / 4).also { ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(it) }
    }

    private fun bits(values: FloatArray) = IntArray(values.size) { values[it].toRawBits() }

    /** The manifest that Python fed by: [table], and rotation and cache length of `feeds.json`. */
    private fun manifest(table: HostTable): Manifest {
        val like = DemoFiles.manifest(DemoFiles.npuManifestText)
        val npu = with(like.npuArtifacts.single()) { Artifact(file, needs, methods, states, NpuFacts("ahead", intArrayOf(8), table, facts["masked"].asFloat), proof) }
        val target = with(like.target) { Target(name, delegate, facts["cache"].asInt, prefillChunk) }
        return with(like) { Manifest(checkpoint, plan, target, listOf(cpu, npu), listOf(Rotation(frequencies)), tokenizer, chat, files) }
    }

    private fun table(of: JsonObject) = with(of) {
        HostTable(get("file").asString, get("dtype").asString, get("rows").asInt, get("columns").asInt, get("offset").asLong, get("scales_offset").takeUnless { it.isJsonNull }?.asLong)
    }

    private fun feed(table: HostTable) = manifest(table).let { HostFeed(it, NpuLayout.facts(it.npuArtifacts.single()), EmbeddingTable(place, table)) }

    @Test fun everyCallIsPythonsBitForBit() {
        val kinds = HashSet<String>()
        for (case in facts["calls"].asJsonArray.map { it.asJsonObject }) {
            val table = table(case["table"].asJsonObject).also { kinds += it.dtype }
            val call = feed(table).use { it.call("m", case["tokens"].asJsonArray.map { token -> token.asInt }.toIntArray(), case["position"].asInt, case["length"].asInt) }
            for (name in listOf("embedding", "cos", "sin", "cache_mask")) {
                assertArrayEquals("$name of ${table.dtype} at ${case["position"]}", bits(array(case["arrays"].asJsonObject[name].asJsonObject)), bits(call.floats.getValue(name)))
            }
            assertArrayEquals(intArrayOf(case["tokens"].asJsonArray.size() - 1), call.ints.getValue("last"))
        }
        assertEquals(setOf("float32", "float16", "int8"), kinds)
    }

    /** cos and sin are of doubles, which libraries may give one unit of the last place apart; rounded to floats nothing is left of it. */
    @Test fun anglesAtLargePositionsArePythonsBitForBit() {
        val table = table(facts["calls"].asJsonArray[0].asJsonObject["table"].asJsonObject)
        feed(table).use { feed ->
            for (case in facts["rotations"].asJsonArray.map { it.asJsonObject }) {
                val (cosines, sines) = feed.rotation(case["position"].asInt, 3)
                assertArrayEquals("cos at ${case["position"]}", bits(array(case["cos"].asJsonObject)), bits(cosines))
                assertArrayEquals("sin at ${case["position"]}", bits(array(case["sin"].asJsonObject)), bits(sines))
            }
        }
    }

    @Test fun everyHalfHasItsFloat() {
        assertEquals(1f, floatOfHalf(0x3c00), 0f)
        assertEquals(-2f, floatOfHalf(0xc000.toShort()), 0f)
        assertEquals(65504f, floatOfHalf(0x7bff), 0f)
        assertEquals(5.9604645e-8f, floatOfHalf(1), 0f)
        assertEquals(Float.NEGATIVE_INFINITY, floatOfHalf(0xfc00.toShort()), 0f)
        assertTrue(floatOfHalf(0x7e00).isNaN())
        assertEquals("negative zero stays", (-0f).toRawBits(), floatOfHalf(0x8000.toShort()).toRawBits())
    }

    @Test fun aTableOutsideTheFileIsRefused() {
        val file = folder.newFile("model.tflite").holding("x".repeat(100))
        val good = HostTable(file.name, "int8", 4, 8, 10, 50)
        EmbeddingTable(folder.root, good).close()
        for (bad in listOf(
            HostTable(file.name, "int8", 4, 8, 69, null),
            HostTable(file.name, "int8", 4, 8, 10, 85),
            HostTable(file.name, "float32", 4, 8, 0, null),
            HostTable(file.name, "int8", 4, 8, Long.MAX_VALUE, null),
            HostTable(file.name, "int8", 4, 8, 0, Long.MAX_VALUE),
            HostTable(file.name, "float32", Int.MAX_VALUE, Int.MAX_VALUE, 0, null),
            HostTable("absent.tflite", "int8", 4, 8, 10, null),
        )) assertRefused("does not hold the embedding") { EmbeddingTable(folder.root, bad) }
        assertRefused("token 4 is outside the embedding of 4 rows") { EmbeddingTable(folder.root, good).use { it.read(intArrayOf(4), FloatArray(8)) } }
    }
}
