package dev.firsttoken.core.npu

import com.google.gson.JsonObject
import com.google.gson.JsonPrimitive
import dev.firsttoken.core.Parity
import dev.firsttoken.core.RecordedCalls
import dev.firsttoken.core.assertRefused
import dev.firsttoken.core.bundle.Bundle
import dev.firsttoken.core.bundle.ManifestReader
import dev.firsttoken.core.json.JsonText
import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Assume.assumeTrue
import org.junit.Test

/** Prefill in pieces and decoding on a compiled bundle, against what Python's runner passed to each graph on the HTP backend for x86. */
class NpuEngineTest {
    private class Recorded(folder: File) : NpuProgram {
        val calls = RecordedCalls(folder)
        var closed = false

        override fun run(call: NpuCall): Map<String, FloatArray> = calls.answer(call)

        override fun close() {
            closed = true
        }
    }

    private fun recordedFolder(): File = File(Parity.folder(), "engines/npu").also {
        assumeTrue("needs graphs compiled for the NPU; run scripts/setup hexagon", File(it, "calls.jsonl").isFile)
    }

    @Test fun theCallsAreThoseOfPythonsRunner() {
        val program = Recorded(recordedFolder())
        val bundle = Bundle.open(File(Parity.folder(), "bundles/tflite-hexagon-sm8550"))
        val npu = bundle.manifest.npuArtifacts.single()
        assertTrue(bundle.artifact(npu).isFile)
        val facts = NpuLayout.facts(npu)
        val engine = NpuEngine(bundle.manifest, npu, HostFeed(bundle.manifest, facts, EmbeddingTable(bundle.folder, facts.embedding)), program)
        for (step in Parity.cases(File(recordedFolder(), "steps.jsonl"))) {
            val tokens = step["tokens"].asJsonArray.map { it.asInt }.toIntArray()
            if (step["reset"].asBoolean) engine.reset()
            val logits = if (step["kind"].asString == "prefill") engine.prefill(tokens) else engine.decode(tokens.single())
            assertEquals(step["logits"].asString, RecordedCalls.sha256(RecordedCalls.bytes(logits)))
        }
        program.calls.checkAllMade()
        assertEquals(setOf("first_32", "first_128", "extend_128", "decode"), program.calls.methods.toSet())
        assertRefused("do not fit the cache of 320") { engine.decode(1) }
        assertTrue(engine.artifact.isNpu)
        engine.close()
        assertTrue(program.closed)
    }

    @Test fun theCompiledBundleFitsAndWhatDoesNotIsNamed() {
        assertNull(problem { })
        fun refused(said: String, change: JsonObject.() -> Unit) = problem(change).let { assertTrue("$it does not say $said", it != null && said in it) }
        refused("state of layer 1 is float16; expected float32") { state(1).addProperty("dtype", "float16") }
        refused("state of layer 2 is held by the artifact") { state(2).addProperty("held_by", "artifact") }
        refused("and 319 rows; expected fixed sizes with the cache's 320 rows") { state(0).addProperty("length", 319) }
        refused("states are of layers [1, 1, 2, 3]; expected one state a layer") { state(0).addProperty("layer", 1) }
        refused("'key.3' of 'first_32' is float32 [2, 1, 32, 64]; expected float32 [4, 1, 32, 64]") { state(3).getAsJsonArray("shape").set(0, JsonPrimitive(4)) }
        refused("'extend_128' among them") { method("extend_128").addProperty("name", "extend_129") }
        refused("outputs of 'first_32'") { method("first_32").getAsJsonArray("outputs").remove(0) }
        refused("embedding.columns is 255") { npu().getAsJsonObject("embedding").addProperty("columns", 255) }
        refused("embedding.rows is 12") { npu().getAsJsonObject("embedding").addProperty("rows", 12) }
        refused("embedding.file is 'tokenizer.json'; expected the CPU artifact 'model.tflite'") { npu().getAsJsonObject("embedding").addProperty("file", "tokenizer.json") }
        refused("prefill_lengths are 32, 999") { npu().getAsJsonArray("prefill_lengths").set(1, JsonPrimitive(999)) }
        refused("has 2 rotations") { getAsJsonArray("rotations").let { it.add(it[0]) } }
        refused("'cos' of 'first_32' is float32") { getAsJsonArray("rotations")[0].asJsonObject.getAsJsonArray("inverse_frequencies").add(1) }
    }

    private fun problem(change: JsonObject.() -> Unit): String? {
        val values = JsonText.parseObject(File(recordedFolder(), "manifest.json").readText(), "m").apply(change)
        return ManifestReader.parse(values).let { manifest -> NpuLayout.problem(manifest, manifest.npuArtifacts.single()) }
    }

    private fun JsonObject.artifact() = getAsJsonArray("artifacts")[1].asJsonObject

    private fun JsonObject.npu() = artifact().getAsJsonObject("npu")

    private fun JsonObject.state(place: Int) = artifact().getAsJsonArray("states")[place].asJsonObject

    private fun JsonObject.method(name: String) = artifact().getAsJsonArray("methods").map { it.asJsonObject }.single { it["name"].asString == name }
}
