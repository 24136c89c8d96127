package dev.firsttoken.core.bundle

/**
 * Weights of the CPU artifact as XNNPACK packs them, in [files]. Where [only] is true the artifact has no others, and computes no number without one of them.
 */
class PackedWeights(val only: Boolean, val files: List<PackedFile>)

/** One file of them: for CPUs of [isa], made by [version] of the runtime's Python package from the artifact of [artifactSha256]. */
class PackedFile(val file: String, val isa: String, val version: String, val artifactSha256: String)
