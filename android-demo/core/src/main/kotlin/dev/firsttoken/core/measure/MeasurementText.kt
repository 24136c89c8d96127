package dev.firsttoken.core.measure

import com.google.gson.stream.JsonWriter
import dev.firsttoken.core.bundle.Proof
import dev.firsttoken.core.json.AtomicFile
import java.io.File
import java.io.StringWriter

/** Writes measurements as measurement.schema.json says. */
object MeasurementText {
    /** Writes the file whole or not at all; an older file stays until the new one is complete. Raises `IOException`. */
    fun write(measurement: Measurement, file: File) = AtomicFile.write(file, of(measurement))

    fun of(measurement: Measurement): String {
        val text = StringWriter()
        JsonWriter(text).apply {
            setIndent(" ")
            serializeNulls = false
            obj {
                name("schema_version").value(MeasurementReader.SCHEMA_VERSION)
                obj("writer") {
                    name("name").value(measurement.writer.name)
                    name("version").value(measurement.writer.version)
                }
                obj("device") { device(measurement.device) }
                list("results", measurement.results) { result(it) }
            }
        }
        return text.append("\n").toString()
    }

    private fun JsonWriter.device(device: Device) {
        name("kind").value(device.kind)
        name("model").value(device.model)
        name("manufacturer").value(device.manufacturer)
        name("soc").value(device.soc)
        name("hexagon").value(device.hexagon)
        name("system").value(device.system)
        name("identity").value(device.identity)
        obj("cpu") {
            name("model").value(device.cpu.model)
            name("cores").value(device.cpu.cores)
            texts("flags", device.cpu.flags)
            obj("clusters") { device.cpu.clusters.forEach { (frequency, cores) -> name(frequency).value(cores) } }
        }
        name("memory_bytes").value(device.memoryBytes)
    }

    private fun JsonWriter.conditions(conditions: Conditions) {
        name("time").value(conditions.time)
        name("thermal_status").value(conditions.thermalStatus)
        obj("temperatures") { conditions.temperatures.forEach { (sensor, degrees) -> if (degrees.isFinite()) name(sensor).value(degrees) } }
        name("battery_percent").value(conditions.batteryPercent)
        name("charging").value(conditions.charging)
        texts("governors", conditions.governors)
        name("available_memory_bytes").value(conditions.availableMemoryBytes)
    }

    private fun JsonWriter.result(result: Result) {
        obj("bundle") { bundle(result.bundle) }
        result.artifact?.let {
            obj("artifact") {
                name("kind").value(it.kind)
                name("sha256").value(it.sha256)
                name("bytes").value(it.bytes)
                name("soc").value(it.soc)
                name("fallback").value(it.fallback)
                name("instead_of").value(it.insteadOf.takeIf { _ -> it.fallback != null })
                proof(it.proof)
            }
        }
        name("runtime_version").value(result.runtimeVersion)
        result.runner?.let {
            obj("runner") {
                name("kind").value(it.kind)
                name("fallback").value(it.fallback)
                name("packed_for").value(it.packedFor)
                name("unpacked").value(it.unpacked)
            }
        }
        name("threads").value(result.threads)
        name("chat").value(result.chat)
        obj("before") { conditions(result.before) }
        result.after?.let { obj("after") { conditions(it) } }
        list("runs", result.runs) { run(it) }
        list("failures", result.failures) {
            name("prompt_tokens").value(it.promptTokens)
            name("state").value(it.state)
            name("stage").value(it.stage)
            name("message").value(it.message)
        }
    }

    private fun JsonWriter.bundle(bundle: BundleIdentity) {
        name("name").value(bundle.name)
        name("checkpoint").value(bundle.checkpoint)
        name("fingerprint").value(bundle.fingerprint)
        name("plan").value(bundle.plan)
        name("target").value(bundle.target)
        name("runtime").value(bundle.runtime)
        name("delegate").value(bundle.delegate)
        name("artifact_sha256").value(bundle.artifactSha256)
        name("artifact_bytes").value(bundle.artifactBytes)
        name("cache_length").value(bundle.cacheLength)
        proof(bundle.proof)
    }

    private fun JsonWriter.proof(proof: Proof?) {
        if (proof == null) return
        obj("proof") {
            name("mean_kld").value(proof.meanKld)
            name("p99_kld").value(proof.p99Kld)
            name("same_top").value(proof.sameTop)
            name("passed").value(proof.passed)
        }
    }

    private fun JsonWriter.run(run: Run) {
        name("prompt_tokens").value(run.promptTokens)
        name("state").value(run.state)
        name("page_cache").value(run.pageCache)
        name("at_seconds").value(run.atSeconds)
        obj("stages") { run.stages.byName.forEach { (stage, nanoseconds) -> name(stage).value(nanoseconds) } }
        run.decode?.let {
            obj("decode") {
                name("tokens").value(it.tokens)
                name("nanoseconds").value(it.nanoseconds)
            }
        }
        name("peak_memory_bytes").value(run.peakMemoryBytes)
        name("temperature").value(run.temperature)
        name("thermal_status").value(run.thermalStatus)
        name("other_load").value(run.otherLoad)
        name("turn").value(run.turn)
        name("cached_tokens").value(run.cachedTokens)
        name("first_answer").value(run.firstAnswer)
    }

    private fun JsonWriter.obj(name: String? = null, fields: () -> Unit) {
        if (name != null) name(name)
        beginObject()
        fields()
        endObject()
    }

    private fun <T> JsonWriter.list(name: String, items: List<T>, fields: (T) -> Unit) {
        name(name).beginArray()
        items.forEach { obj { fields(it) } }
        endArray()
    }

    private fun JsonWriter.texts(name: String, items: List<String>) {
        name(name).beginArray()
        items.forEach { value(it) }
        endArray()
    }
}
