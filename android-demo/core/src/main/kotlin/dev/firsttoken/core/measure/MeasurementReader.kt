package dev.firsttoken.core.measure

import com.google.gson.JsonObject
import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.bundle.Processor
import dev.firsttoken.core.bundle.Proof
import dev.firsttoken.core.generate.RunnerInUse
import dev.firsttoken.core.json.JsonFields
import dev.firsttoken.core.json.JsonText
import java.io.File

/** Reads measurement files, as strict as measurement.schema.json. Raises [FirstTokenException] naming what is wrong. */
object MeasurementReader {
    const val SCHEMA_VERSION = 1
    private const val LARGEST = 64L shl 20 // bytes; 32 prompts of 1000 runs each take about 20 MB
    private val POSITIVE = 1..Int.MAX_VALUE
    private val NANOSECONDS = 0..Long.MAX_VALUE
    private val THERMAL = 0..6
    private val STATES = arrayOf("cold", "warm", "warm-up")

    fun read(file: File): Measurement = parse(JsonText.readObject(file, LARGEST, "a measurement file"), file.name)

    fun parse(values: JsonObject, source: String): Measurement {
        val version = values.get("schema_version")
        if (version == null || version.toString() != "$SCHEMA_VERSION") {
            throw FirstTokenException("$source: measurement schema version ${JsonText.describe(version)}; this app reads $SCHEMA_VERSION, update it or remove the file")
        }
        return JsonFields.read(source, values) {
            int("schema_version")
            Measurement(
                writer = objectOf("writer") { Writer(text("name"), text("version")) },
                device = objectOf("device") { device() },
                results = objects("results", POSITIVE) { result() },
            )
        }
    }

    private fun JsonFields.device() =
        Device(
            kind = choice("kind", "host", "phone"),
            model = text("model"),
            system = text("system"),
            cpu = objectOf("cpu") { Cpu(text("model"), int("cores", POSITIVE), textsOrEmpty("flags"), intMapOrEmpty("clusters")) },
            memoryBytes = long("memory_bytes", 1..Long.MAX_VALUE),
            manufacturer = textOrNull("manufacturer"),
            soc = textOrNull("soc"),
            hexagon = textOrNull("hexagon"),
            identity = textOrNull("identity"),
        )

    private fun JsonFields.conditions() =
        Conditions(
            time = text("time"),
            thermalStatus = intOrNull("thermal_status", THERMAL),
            temperatures = numberMapOrEmpty("temperatures"),
            batteryPercent = numberOrNull("battery_percent", "a number from 0 to 100") { it in 0.0..100.0 },
            charging = booleanOrNull("charging"),
            governors = textsOrEmpty("governors"),
            availableMemoryBytes = longOrNull("available_memory_bytes"),
        )

    private fun JsonFields.result() =
        Result(
            bundle = objectOf("bundle") { bundle() },
            runtimeVersion = text("runtime_version"),
            threads = int("threads", POSITIVE),
            chat = if (has("chat")) boolean("chat") else false,
            before = objectOf("before") { conditions() },
            after = objectOrNull("after") { conditions() },
            runs = objectsOrEmpty("runs") { run() },
            failures = objectsOrEmpty("failures") { failure() },
            artifact = objectOrNull("artifact") { artifact() },
            runner = objectOrNull("runner") { RunnerInUse(choice("kind", RunnerInUse.NATIVE, RunnerInUse.JAVA), textOrNull("fallback"), textOrNull("packed_for"), textOrNull("unpacked")) },
        )

    private fun JsonFields.bundle() =
        BundleIdentity(
            name = text("name"),
            checkpoint = text("checkpoint"),
            fingerprint = text("fingerprint"),
            plan = text("plan"),
            target = text("target"),
            runtime = text("runtime").also { if (it.isEmpty()) refuse("runtime", "an empty text", "a runtime's name") },
            delegate = text("delegate"),
            artifactSha256 = sha256("artifact_sha256"),
            artifactBytes = long("artifact_bytes", 1..Long.MAX_VALUE),
            cacheLength = int("cache_length", POSITIVE),
            proof = objectOrNull("proof") { proof() },
        )

    private fun JsonFields.artifact() =
        RanArtifact(
            choice("kind", *Processor.TEXTS), sha256("sha256"), long("bytes", 1..Long.MAX_VALUE), textOrNull("soc"), textOrNull("fallback"), objectOrNull("proof") { proof() },
            if (has("instead_of")) choice("instead_of", Processor.GPU.text, Processor.NPU.text) else Processor.NPU.text,
        )

    private fun JsonFields.proof() = Proof(number("mean_kld"), number("p99_kld"), number("same_top"), boolean("passed"))

    private fun JsonFields.sha256(name: String) = text(name).also { if (!Regex("[0-9a-f]{64}").matches(it)) refuse(name, "'$it'", "64 hexadecimal digits") }

    private fun JsonFields.run() =
        Run(
            promptTokens = int("prompt_tokens", POSITIVE),
            state = choice("state", *STATES),
            pageCache = choice("page_cache", "dropped", "cached", "unknown"),
            atSeconds = number("at_seconds", "a number from 0") { it >= 0 },
            stages = objectOf("stages") {
                Stages(
                    longOrNull("load", NANOSECONDS),
                    long("tokenize", NANOSECONDS),
                    long("prefill", NANOSECONDS),
                    long("sample", NANOSECONDS),
                    long("detokenize", NANOSECONDS),
                    longOrNull("render", NANOSECONDS),
                )
            },
            decode = objectOrNull("decode") { Decode(int("tokens", POSITIVE), long("nanoseconds", 1..Long.MAX_VALUE)) },
            peakMemoryBytes = longOrNull("peak_memory_bytes", 1..Long.MAX_VALUE),
            temperature = numberOrNull("temperature"),
            thermalStatus = intOrNull("thermal_status", THERMAL),
            otherLoad = numberOrNull("other_load", "a number from 0") { it >= 0 },
            turn = intOrNull("turn", POSITIVE),
            cachedTokens = intOrNull("cached_tokens", 0..Int.MAX_VALUE),
            firstAnswer = longOrNull("first_answer", NANOSECONDS),
        )

    private fun JsonFields.failure() =
        Failure(
            stage = text("stage"),
            message = text("message"),
            promptTokens = intOrNull("prompt_tokens"),
            state = if (has("state")) textOrNull("state")?.also { if (it !in STATES) refuse("state", "'$it'", "one of ${STATES.joinToString(", ")}") } else null,
        )
}
