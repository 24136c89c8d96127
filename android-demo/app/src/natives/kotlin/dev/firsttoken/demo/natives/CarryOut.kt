package dev.firsttoken.demo.natives

import com.google.gson.JsonObject
import dev.firsttoken.core.benchmark.Benchmark
import dev.firsttoken.core.benchmark.BenchmarkFolders
import dev.firsttoken.core.benchmark.BenchmarkHost
import dev.firsttoken.core.benchmark.Engines
import dev.firsttoken.core.benchmark.Phone
import dev.firsttoken.core.benchmark.RunConditions
import dev.firsttoken.core.measure.Conditions
import dev.firsttoken.core.measure.Cpu
import dev.firsttoken.core.measure.Device
import dev.firsttoken.core.measure.Writer
import java.io.File

/** No phone: nothing of what it says of itself is compared with anything. */
internal object NoPhone : Phone {
    override fun device() = Device("phone", "a JVM with a phone's library", "Android 14", Cpu("none", 1), 1L shl 30)

    override fun conditions() = Conditions("2026-01-01T00:00:00+00:00")

    override fun runConditions() = RunConditions()
}

/** Carries out the requests that `firsttoken device profile` would have staged; progress and measurements lie where the app leaves them. */
fun carryOut(engines: Engines, job: JsonObject) {
    val folders = BenchmarkFolders(File(job["staging"].asString), File(job["measurements"].asString))
    val host = BenchmarkHost(folders, engines, NoPhone, { System.nanoTime() }, Writer("android_natives", "0"), pid = 1)
    for (id in job["requests"].asJsonArray) Benchmark(host).carryOut(id.asString)
}
