package dev.firsttoken.core.bundle

/** `manifest.json`, as python/firsttoken/export/manifest.py describes it: what a bundle is, holds and was proven to be. */
class Manifest(
    val artifact: Artifact,
    val checkpoint: CheckpointIdentity,
    val lineage: Lineage?,
    val plan: Plan,
    val target: Target,
    val methods: List<Method>,
    val cache: Cache,
    val tokenizer: TokenizerFacts,
    val chat: Chat?,
    val proof: Proof?,
    val audit: List<AuditRow>,
    val provenOn: List<ArmProof>,
    val npu: Npu?,
    val packages: Map<String, String>,
)

class Artifact(val file: String, val sha256: String, val bytes: Long)

class CheckpointIdentity(
    val name: String,
    val fingerprint: String,
    val family: String,
    val parameters: Long,
    val hiddenSize: Int,
    val layers: Int,
    val vocabularySize: Int,
)

/** Where a distilled checkpoint comes from: recipe, teachers by their place in it, and data, each by a fingerprint. */
class Lineage(
    val recipe: String,
    val recipeSha256: String,
    val teachers: Map<String, String>,
    val trainingData: String,
    val heldOutData: String,
    val tokensSeen: Long,
    val reference: String?,
)

class Plan(val name: String, val summary: String, val groupSize: Int, val rules: List<Rule>, val gate: Gate)

class Rule(val match: String, val precision: String)

/** Bounds of the proof. KL divergence in nats per token. */
class Gate(val meanKld: Double, val p99Kld: Double, val sameTop: Double, val magnitude: Double)

/** Lengths in tokens; a prompt longer than [prefillChunk] goes in pieces of that length. */
class Target(
    val name: String,
    val summary: String,
    val runtime: String,
    val delegate: String,
    val cacheLength: Int,
    val prefillChunk: Int,
    val minRuntime: String,
    val npu: TargetNpu?,
)

/** A named entry of the artifact. */
class Method(val name: String, val inputs: List<Tensor>, val outputs: List<Tensor>)

/** A dimension is a number, or the name of one that the host chooses at run time. */
class Tensor(val name: String, val shape: List<String>, val dtype: String)

/** Where the KV cache lives ("host" or "artifact") and how it is laid out. */
class Cache(val heldBy: String, val layers: Int, val shape: List<String>, val axis: Int, val dtype: String, val length: Int, val step: Int)

/** [vocabularySize] counts the tokenizer's tokens: logits past it are padding and must never be sampled. */
class TokenizerFacts(val files: List<String>, val vocabularySize: Int, val begin: Int?, val end: IntArray, val special: Map<String, Int>)

class Affix(val text: String, val tokens: IntArray)

/** One user turn of the chat template: prefix, the user's text, suffix. */
class Chat(val prefix: Affix, val suffix: Affix)

/** One layer: precision asked, stored and computed in, and whether the delegate took it. */
class AuditRow(val layer: String, val asked: String, val stored: String, val computed: String, val delegated: Boolean)

/** Divergence from the FP32 checkpoint over [tokens] positions. KL divergence in nats per token. */
class Figures(
    val tokens: Int,
    val meanKld: Double,
    val p99Kld: Double,
    val p999Kld: Double,
    val sameTop: Double,
    val perplexity: Double,
    val referencePerplexity: Double,
    val perplexityChange: Double,
    val magnitudeRatio: Double,
    val firstDiverging: String?,
)

class Proof(
    val text: String,
    val textSha256: String,
    val prefill: Figures,
    val decode: Figures,
    val all: Figures,
    val passed: Boolean,
    val misses: List<String>,
)

/** A passed proof on an emulated ARM core: figures there, on the host, and between the two. */
class ArmProof(
    val core: String,
    val runtime: String,
    val runtimeVersion: String,
    val text: String,
    val textSha256: String,
    val windows: Int,
    val arm: Figures,
    val host: Figures,
    val armAgainstHost: Figures,
    val kernels: List<String>,
)
