package dev.firsttoken.core.bundle

import dev.firsttoken.core.chat.ConversationPieces
import dev.firsttoken.core.chat.Trim

/**
 * What the app uses of a bundle's `manifest.json`; python/firsttoken/bundle/manifest.py describes all of it.
 *
 * [plan] is the plan's name. [artifacts]: the first is the CPU's and runs wherever the runtime does. [files]: every file of the bundle
 * but the manifest.
 */
class Manifest(
    val checkpoint: CheckpointIdentity,
    val plan: String,
    val target: Target,
    val artifacts: List<Artifact>,
    val rotations: List<Rotation>,
    val tokenizer: TokenizerFacts,
    val chat: Chat?,
    val files: Map<String, FileFacts>,
    val keptPrompt: KeptPrompt? = null,
    val packed: PackedWeights? = null,
) {
    val cpu: Artifact get() = artifacts.first()

    /** Those for an NPU or a GPU, the one to be preferred first. */
    val accelerated: List<Artifact> = artifacts.drop(1).filter { it.processor != Processor.CPU }

    /** Those for an NPU, the one to be preferred first. */
    val npuArtifacts: List<Artifact> get() = accelerated.filter { it.processor == Processor.NPU }

    fun facts(artifact: Artifact): FileFacts = files.getValue(artifact.file)
}

/** What a file of the bundle must be. */
class FileFacts(val sha256: String, val bytes: Long)

class CheckpointIdentity(val name: String, val fingerprint: String, val parameters: Long, val hiddenSize: Int, val vocabularySize: Int)

/** Lengths in tokens; a prompt longer than [prefillChunk] goes in pieces of that length. */
class Target(val name: String, val delegate: String, val cacheLength: Int, val prefillChunk: Int)

/** A rotary embedding: angle = position * inverse frequency. Its factor is applied by the graphs, not by who feeds cos and sin to them. */
class Rotation(val inverseFrequencies: FloatArray)

/** [vocabularySize] counts the tokenizer's tokens: logits past it are padding and must never be sampled. [special] are tokens by their text. */
class TokenizerFacts(val files: List<String>, val vocabularySize: Int, val begin: Int?, val end: IntArray, val special: Map<String, Int>)

class Affix(val text: String, val tokens: IntArray)

/**
 * One user turn of the chat template: prefix, the user's text less the white space that [trim] says, suffix.
 *
 * [conversation] writes several turns; where it is null, [conversationRefused] says why that needs Jinja, or is null too in a bundle from before.
 */
class Chat(
    val prefix: Affix,
    val suffix: Affix,
    val conversation: ConversationPieces? = null,
    val conversationRefused: String? = null,
    val trim: Trim = Trim.NONE,
) {
    /** The text of one turn that asks [question]. */
    fun turn(question: String): String = prefix.text + trim.of(question) + suffix.text
}
