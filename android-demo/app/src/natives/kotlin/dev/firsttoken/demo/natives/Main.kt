package dev.firsttoken.demo.natives

import com.google.gson.JsonObject
import com.google.gson.JsonParser
import dev.firsttoken.demo.engine.ExecuTorchRuntime
import dev.firsttoken.demo.engine.RuntimeEngines
import dev.firsttoken.demo.engine.TfliteBuild
import dev.firsttoken.demo.engine.TfliteRuntime
import java.io.File

/**
 * The app's own classes with a phone's own native library, in a JVM (scripts/android_natives). The argument is a job, a file of JSON:
 * `mode` (logits, benchmark or answer), `runtimes` (the versions of what is carried, empty where that is nothing) and what the mode reads.
 */
fun main(arguments: Array<String>) {
    val job = JsonParser.parseString(File(arguments.single()).readText()).asJsonObject
    val engines = carried(job["runtimes"].asJsonObject)
    when (val mode = job["mode"].asString) {
        "logits" -> job["cases"].asJsonArray.forEach { LogitsCase(engines, it.asJsonObject).run() }
        "benchmark" -> carryOut(engines, job)
        "answer" -> answer(engines, job)
        else -> error("mode '$mode'; expected logits, benchmark or answer")
    }
}

/** As `CarriedRuntimes` makes them from the APK's resources. */
private fun carried(versions: JsonObject): RuntimeEngines {
    val (litert, tflite, executorch) = listOf("litert", "tflite", "executorch").map { versions[it].asString }
    val build = if (litert.isNotEmpty()) TfliteBuild(isLiteRt = true, litert) else TfliteBuild(isLiteRt = false, tflite).takeIf { tflite.isNotEmpty() }
    return RuntimeEngines(listOf(TfliteRuntime(build), ExecuTorchRuntime(executorch.ifEmpty { null })))
}
