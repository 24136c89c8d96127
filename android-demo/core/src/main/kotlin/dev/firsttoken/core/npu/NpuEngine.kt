package dev.firsttoken.core.npu

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.bundle.Artifact
import dev.firsttoken.core.bundle.Manifest
import dev.firsttoken.core.generate.ArtifactInUse
import dev.firsttoken.core.generate.Engine

/**
 * Runs one of a bundle's NPU artifacts: the same calls as python/firsttoken/backends/tflite_hexagon/runner.py makes.
 *
 * A prompt goes into the smallest graph that holds it; one longer than the largest goes in pieces of that length. Raises
 * [FirstTokenException] for a manifest whose parts do not fit each other.
 */
class NpuEngine(manifest: Manifest, npu: Artifact, private val feed: HostFeed, private val program: NpuProgram) : Engine(manifest) {
    private val lengths = NpuLayout.facts(npu).prefillLengths.sortedArray()
    private val longest = lengths.last()
    private val inputs = npu.methods.associate { method -> method.name to method.inputs.map { it.name }.toSet() }
    private val cache: NpuCache

    init {
        NpuLayout.check(manifest, npu)
        cache = NpuCache(npu.states)
    }

    override val prefillLength = longest
    override val artifact = ArtifactInUse(manifest.artifacts.indexOf(npu))

    override fun prefillChunk(tokens: IntArray): FloatArray {
        if (position > 0) return run("extend_$longest", tokens, longest)
        val length = lengths.first { it >= tokens.size }
        return run("first_$length", tokens, length)
    }

    override fun decodeToken(token: Int): FloatArray = run("decode", intArrayOf(token), 1)

    override fun close() {
        program.close()
        feed.close()
    }

    private fun run(method: String, tokens: IntArray, length: Int): FloatArray {
        val fed = feed.call(method, tokens, position, length)
        val wanted = inputs.getValue(method)
        val outputs = program.run(NpuCall(method, (fed.floats + cache.tensors).filterKeys { it in wanted }, fed.ints.filterKeys { it in wanted }))
        cache.append(outputs, length, position, tokens.size)
        return outputs.getValue("logits")
    }
}
