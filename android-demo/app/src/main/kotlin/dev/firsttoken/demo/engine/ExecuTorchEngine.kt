package dev.firsttoken.demo.engine

import dev.firsttoken.core.bundle.Manifest
import dev.firsttoken.core.generate.ArtifactInUse
import dev.firsttoken.core.generate.Engine
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer

private const val MASKED = -30000f // as python/firsttoken/backends/runner.py has it

/** Runs a .pte bundle: one method, whose program keeps the KV cache; the same calls as python/firsttoken/backends/executorch/runner.py makes. */
class ExecuTorchEngine(manifest: Manifest, private val program: ExecuTorchProgram, fallback: String? = null) : Engine(manifest) {
    override val artifact = ArtifactInUse(0, fallback)

    override fun prefillChunk(tokens: IntArray): FloatArray {
        val filled = position + tokens.size
        val mask = floats(tokens.size * filled)
        for (row in tokens.indices) for (column in 0 until filled) mask.put(if (column <= position + row) 0f else MASKED)
        return run(tokens, mask, filled)
    }

    override fun decodeToken(token: Int): FloatArray = run(intArrayOf(token), floats(position + 1), position + 1)

    override fun close() = program.close()

    private fun run(tokens: IntArray, mask: FloatBuffer, filled: Int): FloatArray {
        return program.forward(LongArray(tokens.size) { tokens[it].toLong() }, position.toLong(), mask.rewound(), filled)
    }

    private fun floats(count: Int): FloatBuffer = ByteBuffer.allocateDirect(Float.SIZE_BYTES * count).order(ByteOrder.nativeOrder()).asFloatBuffer()
}
