package dev.firsttoken.core.bundle

/**
 * Weights of the CPU artifact as XNNPACK packs them, in [files]. Where [only] is true the artifact has no others, and computes no number without one of them;
 * whether it computes with one what it should is asked by [prompt].
 */
class PackedWeights(val only: Boolean, val prompt: List<Int>, val files: List<PackedFile>)

/**
 * One file of them: for CPUs of [isa], made by [version] of the runtime's Python package [runtime] from the artifact of [artifactSha256]. After the prompt the tokens [top] are the likeliest,
 * with the logits [largest].
 */
class PackedFile(val file: String, val isa: String, val runtime: String, val version: String, val artifactSha256: String, val top: List<Int>, val largest: List<Double>)
