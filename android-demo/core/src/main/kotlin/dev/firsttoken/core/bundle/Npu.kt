package dev.firsttoken.core.bundle

/**
 * The artifact for a Snapdragon's NPU, beside the CPU artifact that the rest of the manifest describes.
 *
 * [compiled] "ahead": for [soc]. "device": the graphs themselves, which the phone compiles when it loads them. What the graphs are
 * fed is told in python/firsttoken/export/manifest.py and done by `core/npu`.
 */
class Npu(
    val artifact: Artifact,
    val compiled: String,
    val soc: String?,
    val hexagon: String?,
    val fp16: String,
    val qnn: String?,
    val sourceSha256: String,
    val weightsShared: Boolean,
    val prefillLengths: IntArray,
    val methods: List<Method>,
    val cache: Cache,
    val embedding: HostTable,
    val inverseFrequencies: FloatArray,
    val masked: Float,
    val graphs: List<NpuGraph>,
    val compileSeconds: Double,
    val compileMemory: Long,
    val audit: List<AuditRow>,
    val proof: NpuProof?,
)

/** The embedding in [file]: row t starts t * [columns] values after byte [offset]; an int8 row is multiplied by float32 number t after [scalesOffset]. */
class HostTable(val file: String, val dtype: String, val rows: Int, val columns: Int, val offset: Long, val scalesOffset: Long?)

/** One compiled graph: operators, how many the NPU took, in how many partitions, and what was left behind. */
class NpuGraph(val method: String, val operators: Int, val offloaded: Int, val partitions: Int, val left: List<String>)

/** What the NPU's contexts computed on Qualcomm's HTP backend for x86, and the CPU artifact at the same positions. */
class NpuProof(
    val backend: String,
    val text: String,
    val textSha256: String,
    val windows: Int,
    val lastPosition: Int,
    val prefill: Figures,
    val decode: Figures,
    val all: Figures,
    val cpu: Figures,
    val npuAgainstCpu: Figures,
    val passed: Boolean,
    val misses: List<String>,
)

/** What the target asks for an NPU. Lengths in tokens. */
class TargetNpu(val compile: String, val soc: String?, val prefillLengths: IntArray, val shareWeights: Boolean, val allowPartial: Boolean)
