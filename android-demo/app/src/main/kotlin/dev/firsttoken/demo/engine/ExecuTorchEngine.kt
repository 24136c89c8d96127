package dev.firsttoken.demo.engine

import dev.firsttoken.core.bundle.Manifest
import dev.firsttoken.core.generate.ArtifactInUse
import dev.firsttoken.core.generate.Engine

/** Runs a .pte bundle: one method, whose program keeps the KV cache; the same calls as python/firsttoken/backends/executorch/runner.py makes. */
class ExecuTorchEngine(manifest: Manifest, private val program: ExecuTorchProgram, fallback: String? = null) : Engine(manifest) {
    override val artifact = ArtifactInUse(0, fallback)
    private val hasConvolutions = manifest.cpu.states.any { it.advances == "replace" }

    private val logits = manifest.checkpoint.vocabularySize

    override fun prefillChunk(tokens: IntArray): FloatArray =
        lastOf(program.forward(LongArray(tokens.size) { tokens[it].toLong() }, LongArray(tokens.size) { (position + it).toLong() }))

    override fun decodeToken(token: Int): FloatArray = lastOf(program.forward(longArrayOf(token.toLong()), longArrayOf(position.toLong())))

    /** The last token's logits: a program that can check drafts gives those of the tokens before it, too. */
    private fun lastOf(rows: FloatArray): FloatArray = if (rows.size > logits) rows.copyOfRange(rows.size - logits, rows.size) else rows

    /** What a convolution remembers of its last inputs cannot be taken back; the program makes it zero where a call begins at position 0. */
    override fun keepable(length: Int): Int = if (hasConvolutions && length != position) 0 else length

    override fun close() = program.close()
}
