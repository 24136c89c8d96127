package dev.firsttoken.core.measure

import dev.firsttoken.core.bundle.Manifest
import dev.firsttoken.core.bundle.Processor
import dev.firsttoken.core.bundle.Proof
import dev.firsttoken.core.generate.ArtifactInUse
import dev.firsttoken.core.generate.RunnerInUse

/** A measurement file, as python/firsttoken/measure/measurement.py describes it. Absent values are null and are not written. */
class Measurement(val writer: Writer, val device: Device, val results: List<Result>)

class Writer(val name: String, val version: String)

/** [clusters] counts cores by their highest frequency in kHz, where it can be read. */
class Cpu(val model: String, val cores: Int, val flags: List<String> = emptyList(), val clusters: Map<String, Int> = emptyMap())

/** What it ran on. [identity] is the start of a hash of the serial number. */
class Device(
    val kind: String,
    val model: String,
    val system: String,
    val cpu: Cpu,
    val memoryBytes: Long,
    val manufacturer: String? = null,
    val soc: String? = null,
    val hexagon: String? = null,
    val identity: String? = null,
)

/** The state of the device at a moment; [time] is ISO 8601 with its offset, [thermalStatus] counts as Android does, [temperatures] are degrees Celsius by sensor. */
class Conditions(
    val time: String,
    val thermalStatus: Int? = null,
    val temperatures: Map<String, Double> = emptyMap(),
    val batteryPercent: Double? = null,
    val charging: Boolean? = null,
    val governors: List<String> = emptyList(),
    val availableMemoryBytes: Long? = null,
)

/** Nanoseconds from "send" to the first token on the screen; they add up to TTFT. */
class Stages(
    val load: Long? = null,
    val tokenize: Long,
    val prefill: Long,
    val sample: Long,
    val detokenize: Long,
    val render: Long? = null,
) {
    /** TTFT: the sum of the stages. */
    val firstToken: Long get() = (load ?: 0) + tokenize + prefill + sample + detokenize + (render ?: 0)

    /** The stages by name, in the order they happen. */
    val byName: Map<String, Long?>
        get() = linkedMapOf("load" to load, "tokenize" to tokenize, "prefill" to prefill, "sample" to sample, "detokenize" to detokenize, "render" to render)
}

/** The tokens after the first one and the nanoseconds all of them took. */
class Decode(val tokens: Int, val nanoseconds: Long)

/**
 * One prompt up to its first token, and decoding after it. [atSeconds] counts from the measurement's start.
 *
 * [turn] counts the questions of a conversation, from 1; [promptTokens] is then all of it, of which [cachedTokens] were in the KV cache already.
 * [firstAnswer] is the nanoseconds to the first token of the answer itself, where thoughts came before it.
 */
class Run(
    val promptTokens: Int,
    val state: String,
    val pageCache: String,
    val atSeconds: Double,
    val stages: Stages,
    val decode: Decode? = null,
    val peakMemoryBytes: Long? = null,
    val temperature: Double? = null,
    val thermalStatus: Int? = null,
    val otherLoad: Double? = null,
    val turn: Int? = null,
    val cachedTokens: Int? = null,
    val firstAnswer: Long? = null,
)

/** A run that did not end: what was asked, in which stage it stopped, and why. */
class Failure(val stage: String, val message: String, val promptTokens: Int? = null, val state: String? = null)

/** The measured bundle: its name, and what its manifest says. */
class BundleIdentity(
    val name: String,
    val checkpoint: String,
    val fingerprint: String,
    val plan: String,
    val target: String,
    val runtime: String,
    val delegate: String,
    val artifactSha256: String,
    val artifactBytes: Long,
    val cacheLength: Int,
    val proof: Proof? = null,
) {
    companion object {
        /** What a measurement keeps of a bundle's manifest. */
        fun of(name: String, manifest: Manifest) =
            BundleIdentity(
                name = name,
                checkpoint = manifest.checkpoint.name,
                fingerprint = manifest.checkpoint.fingerprint,
                plan = manifest.plan,
                target = manifest.target.name,
                runtime = manifest.cpu.needs.runtime,
                delegate = manifest.target.delegate,
                artifactSha256 = manifest.facts(manifest.cpu).sha256,
                artifactBytes = manifest.facts(manifest.cpu).bytes,
                cacheLength = manifest.target.cacheLength,
                proof = manifest.cpu.proof,
            )
    }
}

/**
 * Which artifact ran of a bundle that has one for a GPU or a Snapdragon's NPU ([soc], or null where the phone compiles it) beside the CPU's.
 *
 * [kind] is "npu", "gpu" or "cpu"; [fallback] is why it is not the one for [insteadOf], where that was not asked for. [proof] is that artifact's own.
 */
class RanArtifact(
    val kind: String, val sha256: String, val bytes: Long, val soc: String? = null, val fallback: String? = null, val proof: Proof? = null, val insteadOf: String = Processor.NPU.text,
) {
    companion object {
        /** Null for a bundle with the CPU's alone. */
        fun of(manifest: Manifest, inUse: ArtifactInUse): RanArtifact? {
            if (manifest.accelerated.isEmpty()) return null
            val artifact = manifest.artifacts[inUse.place]
            val facts = manifest.facts(artifact)
            return RanArtifact(inUse.processor.text, facts.sha256, facts.bytes, artifact.needs.soc, inUse.fallback, artifact.proof, inUse.insteadOf.text)
        }
    }
}

/** One bundle on one device with one number of threads. [after] is absent while the measurement is not finished, [artifact] where the bundle has but one, [runner] where its runtime is called in one way only. */
class Result(
    val bundle: BundleIdentity,
    val runtimeVersion: String,
    val threads: Int,
    val chat: Boolean,
    val before: Conditions,
    val after: Conditions?,
    val runs: List<Run>,
    val failures: List<Failure>,
    val artifact: RanArtifact? = null,
    val runner: RunnerInUse? = null,
)
