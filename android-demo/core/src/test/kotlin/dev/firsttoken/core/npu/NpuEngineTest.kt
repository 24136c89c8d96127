package dev.firsttoken.core.npu

import com.google.gson.JsonObject
import dev.firsttoken.core.Parity
import dev.firsttoken.core.assertRefused
import dev.firsttoken.core.bundle.Bundle
import dev.firsttoken.core.bundle.Manifest
import dev.firsttoken.core.bundle.ManifestReader
import dev.firsttoken.core.json.JsonText
import java.io.File
import java.io.RandomAccessFile
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.security.MessageDigest
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Assume.assumeTrue
import org.junit.Test

/** Prefill in pieces and decoding on a compiled bundle, against what Python's runner passed to each graph on the HTP backend for x86. */
class NpuEngineTest {
    /** Answers with what a graph gave when Python passed the same bytes. */
    private class Recorded(private val folder: File) : NpuProgram {
        private val calls = Parity.cases(File(folder, "calls.jsonl"))
        val methods = ArrayList<String>()
        var closed = false

        override fun run(call: NpuCall): Map<String, FloatArray> {
            val wanted = calls[methods.size].also { methods += call.method }
            val number = "call ${methods.size}"
            assertEquals(number, wanted["method"].asString, call.method)
            val bytes = call.floats.mapValues { bytes(it.value) } + call.ints.mapValues { bytes(it.value) }
            val inputs = wanted["inputs"].asJsonObject
            assertEquals(number, inputs.keySet(), bytes.keys)
            for ((name, given) in bytes) assertEquals("$number, $name", inputs[name].asJsonObject["sha256"].asString, sha256(given))
            return wanted["outputs"].asJsonObject.entrySet().associate { (name, output) -> name to floats(output.asJsonObject) }
        }

        override fun close() {
            closed = true
        }

        fun checkAllMade() = assertEquals(calls.size, methods.size)

        private fun floats(output: JsonObject): FloatArray = RandomAccessFile(File(folder, "outputs.bin"), "r").use { file ->
            val bytes = ByteArray(4 * output["shape"].asJsonArray.fold(1) { size, dimension -> size * dimension.asInt })
            file.seek(output["offset"].asLong)
            file.readFully(bytes)
            FloatArray(bytes.size / 4).also { ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(it) }
        }
    }

    private fun recordedFolder(): File = File(Parity.folder(), "engines/npu").also {
        assumeTrue("needs graphs compiled for the NPU; run scripts/setup hexagon", File(it, "calls.jsonl").isFile)
    }

    @Test fun theCallsAreThoseOfPythonsRunner() {
        val program = Recorded(recordedFolder())
        val bundle = Bundle.open(File(Parity.folder(), "bundles/tflite-hexagon-sm8550"))
        bundle.npuArtifact()
        val npu = bundle.manifest.npu!!
        val engine = NpuEngine(bundle.manifest, npu, HostFeed(npu, EmbeddingTable(bundle.folder, npu.embedding)), program)
        for (step in Parity.cases(File(recordedFolder(), "steps.jsonl"))) {
            val tokens = step["tokens"].asJsonArray.map { it.asInt }.toIntArray()
            if (step["reset"].asBoolean) engine.reset()
            val logits = if (step["kind"].asString == "prefill") engine.prefill(tokens) else engine.decode(tokens.single())
            assertEquals(step["logits"].asString, sha256(bytes(logits)))
        }
        program.checkAllMade()
        assertEquals(setOf("first_32", "first_128", "extend_128", "decode"), program.methods.toSet())
        assertRefused("do not fit the cache of 320") { engine.decode(1) }
        assertTrue(engine.artifact.isNpu)
        engine.close()
        assertTrue(program.closed)
    }

    @Test fun theCompiledBundleFitsAndWhatDoesNotIsNamed() {
        val text = File(recordedFolder(), "manifest.json").readText()
        assertNull(problem(text))
        fun refused(said: String, old: String, new: String) {
            assertTrue("nothing to change: $old", old in text)
            val found = problem(text.replace(old, new))
            assertTrue("$found does not say $said", found != null && said in found)
        }
        val cache = Regex("\"npu\": \\{.*?\"dtype\": \"float32\"\\s*,\\s*\"length\": 320", RegexOption.DOT_MATCHES_ALL).find(text)!!.value
        refused("cache is float16; expected float32", cache, cache.replace(Regex("\"dtype\": \"float32\"(\\s*,\\s*\"length\")"), "\"dtype\": \"float16\"$1"))
        refused("'extend_128' among them", "\"extend_128\"", "\"extend_129\"")
        refused("outputs of 'first_32'", "\"value.3\"", "\"value.4\"")
        refused("embedding.columns is 255", "\"columns\": 256", "\"columns\": 255")
        refused("embedding.rows is 12", "\"rows\": 4096", "\"rows\": 12")
        refused("prefill_lengths are 32, 999", Regex("\"prefill_lengths\": \\[\\s*32,\\s*128\\s*\\],\\s*\"methods\"").find(text)!!.value, "\"prefill_lengths\": [32, 999], \"methods\"")
    }

    private fun problem(text: String): String? = ManifestReader.parse(JsonText.parseObject(text, "m")).let { manifest: Manifest -> NpuLayout.problem(manifest, manifest.npu!!) }

    private companion object {
        fun bytes(values: FloatArray): ByteArray = ByteBuffer.allocate(4 * values.size).order(ByteOrder.LITTLE_ENDIAN).also { it.asFloatBuffer().put(values) }.array()

        fun bytes(values: IntArray): ByteArray = ByteBuffer.allocate(4 * values.size).order(ByteOrder.LITTLE_ENDIAN).also { it.asIntBuffer().put(values) }.array()

        fun sha256(bytes: ByteArray) = MessageDigest.getInstance("SHA-256").digest(bytes).joinToString("") { "%02x".format(it) }
    }
}
