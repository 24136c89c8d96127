package dev.firsttoken.core.gpu

import com.google.gson.JsonObject
import com.google.gson.JsonPrimitive
import dev.firsttoken.core.Parity
import dev.firsttoken.core.RecordedCalls
import dev.firsttoken.core.assertRefused
import dev.firsttoken.core.bundle.Bundle
import dev.firsttoken.core.bundle.ManifestReader
import dev.firsttoken.core.bundle.Processor
import dev.firsttoken.core.json.JsonText
import dev.firsttoken.core.npu.NpuCall
import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test

/** Prefill through graphs of fixed lengths and decoding on a GPU's artifact, against what Python's runner fed to each graph (tests/android/parity_gpu.py). */
class GpuEngineTest {
    private val folder get() = File(Parity.folder(), "engines/gpu")

    private class Recorded(folder: File) : GpuProgram {
        val calls = RecordedCalls(folder)
        var closed = false

        override fun run(call: NpuCall): FloatArray? = calls.answer(call)["logits"]

        override fun close() {
            closed = true
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
            assertEquals(step["logits"].asString, RecordedCalls.sha256(RecordedCalls.bytes(logits)))
        }
        program.calls.checkAllMade()
        assertEquals(setOf("prefill_16", "prefill_64", "prefill_256", "decode"), program.calls.methods.toSet())
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
}
