package dev.firsttoken.core.gpu

import com.google.gson.JsonObject
import com.google.gson.JsonPrimitive
import dev.firsttoken.core.Parity
import dev.firsttoken.core.assertRefused
import dev.firsttoken.core.bundle.Bundle
import dev.firsttoken.core.bundle.ManifestReader
import dev.firsttoken.core.bundle.Processor
import dev.firsttoken.core.json.JsonText
import dev.firsttoken.core.npu.NpuCall
import java.io.File
import java.io.RandomAccessFile
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.security.MessageDigest
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test

/** Prefill through graphs of fixed lengths and decoding on a GPU's artifact, against what Python's runner fed to each graph (tests/android/parity_gpu.py). */
class GpuEngineTest {
    private val folder get() = File(Parity.folder(), "engines/gpu")

    /** Answers with what a graph gave when Python fed the same bytes. */
    private class Recorded(private val folder: File) : GpuProgram {
        private val calls = Parity.cases(File(folder, "calls.jsonl"))
        val methods = ArrayList<String>()
        var closed = false

        override fun run(call: NpuCall): FloatArray? {
            val wanted = calls[methods.size].also { methods += call.method }
            val number = "call ${methods.size}"
            assertEquals(number, wanted["method"].asString, call.method)
            val bytes = call.floats.mapValues { bytes(it.value) } + call.ints.mapValues { bytes(it.value) }
            val inputs = wanted["inputs"].asJsonObject
            assertEquals(number, inputs.keySet(), bytes.keys)
            for ((name, given) in bytes) assertEquals("$number, $name", inputs[name].asJsonObject["sha256"].asString, sha256(given))
            return wanted["outputs"].asJsonObject["logits"]?.let { floats(it.asJsonObject) }
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

    @Test fun theCallsAreThoseOfPythonsRunner() {
        val program = Recorded(folder)
        val bundle = Bundle.open(File(Parity.folder(), "bundles/tflite-gpu"))
        val gpu = bundle.manifest.accelerated.single()
        assertTrue(bundle.artifact(gpu).isFile)
        val engine = GpuEngine(bundle.manifest, gpu, program)
        for (step in Parity.cases(File(folder, "steps.jsonl"))) {
            val tokens = step["tokens"].asJsonArray.map { it.asInt }.toIntArray()
            if (step["reset"].asBoolean) engine.reset()
            if (step["kind"].asString == "keep") {
                assertEquals(step["kept"].asInt, engine.keepPrefix(tokens))
                continue
            }
            val logits = if (step["kind"].asString == "prefill") engine.prefill(tokens) else engine.decode(tokens.single())
            assertEquals(step["logits"].asString, sha256(bytes(logits)))
        }
        program.checkAllMade()
        assertEquals(setOf("prefill_16", "prefill_64", "prefill_256", "decode"), program.methods.toSet())
        assertRefused("do not fit the cache of 320") { engine.decode(1) }
        assertEquals(Processor.GPU, engine.artifact.processor)
        engine.close()
        assertTrue(program.closed)
    }

    @Test fun theBundleFitsAndWhatDoesNotIsNamed() {
        assertNull(problem { })
        fun refused(said: String, change: JsonObject.() -> Unit) = problem(change).let { assertTrue("$it does not say $said", it != null && said in it) }
        refused("the state of layer 1 is float16; expected float32") { state(1).addProperty("dtype", "float16") }
        refused("the state of layer 2 is held by the host and advances 'append'; expected the host and 'in_place'") { state(2).addProperty("advances", "append") }
        refused("expected 'prefill_64' among them") { method("prefill_64").addProperty("name", "prefill_65") }
        refused("'decode' takes 8 tensors of the cache; expected two for each of 3 states") { artifact().getAsJsonArray("states").remove(3) }
        refused("outputs of 'prefill_16' are") { method("prefill_16").getAsJsonArray("outputs").remove(0) }
        refused("'mask' float32 [1, 1, 16, 9]; expected 'mask' float32 [1, 1, 16, ") { method("prefill_16").tensor("mask").getAsJsonArray("shape").set(3, JsonPrimitive(9)) }
        refused("the mask has 9 rows; expected the cache's 320 at least") { method("decode").tensor("mask").getAsJsonArray("shape").set(3, JsonPrimitive(9)) }
        refused("'kv_cache_k_0' is [2, 1, length, 64]; expected fixed sizes") { method("decode").tensor("kv_cache_k_0").getAsJsonArray("shape").set(2, JsonPrimitive("length")) }
        refused("prefill_lengths are 16, 64, 99999") { artifact().getAsJsonObject("gpu").getAsJsonArray("prefill_lengths").set(2, JsonPrimitive(99999)) }
        refused("'input_pos' float32 [1]; expected 'input_pos' int32 [1]") { method("decode").tensor("input_pos").addProperty("dtype", "float32") }
    }

    private fun problem(change: JsonObject.() -> Unit): String? {
        val values = JsonText.parseObject(File(folder, "manifest.json").readText(), "m").apply(change)
        return ManifestReader.parse(values).let { manifest -> GpuLayout.problem(manifest, manifest.accelerated.single()) }
    }

    private fun JsonObject.artifact() = getAsJsonArray("artifacts")[1].asJsonObject

    private fun JsonObject.state(place: Int) = artifact().getAsJsonArray("states")[place].asJsonObject

    private fun JsonObject.method(name: String) = artifact().getAsJsonArray("methods").map { it.asJsonObject }.single { it["name"].asString == name }

    private fun JsonObject.tensor(name: String) = getAsJsonArray("inputs").map { it.asJsonObject }.single { it["name"].asString == name }

    private companion object {
        fun bytes(values: FloatArray): ByteArray = ByteBuffer.allocate(4 * values.size).order(ByteOrder.LITTLE_ENDIAN).also { it.asFloatBuffer().put(values) }.array()

        fun bytes(values: IntArray): ByteArray = ByteBuffer.allocate(4 * values.size).order(ByteOrder.LITTLE_ENDIAN).also { it.asIntBuffer().put(values) }.array()

        fun sha256(bytes: ByteArray) = MessageDigest.getInstance("SHA-256").digest(bytes).joinToString("") { "%02x".format(it) }
    }
}
