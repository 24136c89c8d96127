package dev.firsttoken.demo.natives

import com.google.gson.JsonObject
import com.google.gson.JsonParser
import dev.firsttoken.demo.engine.ExecuTorchRuntime
import dev.firsttoken.demo.engine.NativeRunner
import dev.firsttoken.demo.engine.RuntimeEngines
import dev.firsttoken.demo.engine.TfliteBuild
import dev.firsttoken.demo.engine.TfliteRuntime
import java.io.File

/**
 * The app's own classes with a phone's own native library, in a JVM (scripts/android_natives). The argument is a job, a file of JSON:
 * `mode` (logits, benchmark, answer, steps, misuse or timing), `runtimes` (the versions of what is carried, empty where that is nothing), for the native runner
 * `native` (LiteRT's `library` and the folder `cache` of packed weights) and what the mode reads.
 */
fun main(arguments: Array<String>) {
    val job = JsonParser.parseString(File(arguments.single()).readText()).asJsonObject
    val engines = carried(job["runtimes"].asJsonObject, job["native"]?.asJsonObject)
    when (val mode = job["mode"].asString) {
        "logits" -> job["cases"].asJsonArray.forEach { LogitsCase(engines, it.asJsonObject).run() }
        "benchmark" -> carryOut(engines, job)
        "answer" -> answer(engines, job)
        "steps" -> Steps(engines, job).run()
        "misuse" -> misuse(job)
        "timing" -> timing(job)
        else -> error("mode '$mode'; expected logits, benchmark, answer, steps, misuse or timing")
    }
}

/** As `CarriedRuntimes` makes them from the APK's resources. */
private fun carried(versions: JsonObject, native: JsonObject?): RuntimeEngines {
    val (litert, tflite, executorch) = listOf("litert", "tflite", "executorch").map { versions[it].asString }
    val build = if (litert.isNotEmpty()) TfliteBuild(isLiteRt = true, litert) else TfliteBuild(isLiteRt = false, tflite).takeIf { tflite.isNotEmpty() }
    val runner = if (build != null && native != null) NativeRunner.of(build, File(native["cache"].asString), native["library"].asString) { it() } else null
    return RuntimeEngines(listOf(TfliteRuntime(build, native = runner), ExecuTorchRuntime(executorch.ifEmpty { null })))
}
