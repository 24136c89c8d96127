package dev.firsttoken.demo

import com.google.gson.JsonObject
import dev.firsttoken.core.bundle.MANIFEST_FILE
import dev.firsttoken.core.json.JsonText
import java.io.File
import java.io.RandomAccessFile

/**
 * The bundles of the pictures: names, sizes and proofs are those of real exports, `firsttoken export` of SmolLM2-135M-Instruct and of the
 * demo checkpoint. The artifacts are empty files of that size; an engine that plays answers for them.
 */
object SampleBundles {
    private class Sample(val key: String, val name: String, val parameters: Long, val plan: String, val target: String, val bytes: Long, val kld: Double, val sameTop: Double, val passed: Boolean = true)

    private val samples = listOf(
        Sample(TestWorld.FIRST, "SmolLM2-135M-Instruct", 134_515_008, "fp16-attention", "tflite-xnnpack", 167_819_200, 0.017546, 0.93621),
        Sample(TestWorld.SECOND, "SmolLM2-135M-Instruct", 134_515_008, "int8", "tflite-xnnpack", 142_907_264, 0.024834, 0.91897, passed = false),
        Sample(TestWorld.REFUSED, "firsttoken demo", 3_803_392, "int8", "executorch-xnnpack", 6_331_648, 0.001155, 0.97173),
    )

    /** Puts them where the command would have put them, and one that was cut off on its way. */
    fun stage() {
        samples.forEach(::put)
        TestWorld.stage("44444444444444444444444444444444") { it.take(400) }
    }

    /** Puts only the first of them there, [TestWorld.FIRST]. */
    fun stageOne() = put(samples.first())

    private fun put(sample: Sample) {
        val folder = TestWorld.stage(sample.key)
        val manifest = File(folder, MANIFEST_FILE)
        val values = JsonText.parseObject(manifest.readText(), MANIFEST_FILE)
        fill(values, sample)
        RandomAccessFile(File(folder, "model.tflite"), "rw").use { it.setLength(sample.bytes) }
        manifest.writeText(values.toString())
    }

    private fun fill(values: JsonObject, sample: Sample) {
        values.getAsJsonObject("checkpoint").apply {
            addProperty("name", sample.name)
            addProperty("parameters", sample.parameters)
        }
        values.getAsJsonObject("plan").addProperty("name", sample.plan)
        values.getAsJsonObject("target").addProperty("name", sample.target)
        val artifact = values.getAsJsonArray("artifacts").first().asJsonObject
        artifact.getAsJsonObject("needs").addProperty("runtime", sample.target.substringBefore('-'))
        artifact.getAsJsonObject("proof").apply {
            addProperty("passed", sample.passed)
            getAsJsonObject("all").apply {
                addProperty("mean_kld", sample.kld)
                addProperty("same_top", sample.sameTop)
            }
        }
        values.getAsJsonObject("files").getAsJsonObject("model.tflite").addProperty("bytes", sample.bytes)
    }
}
