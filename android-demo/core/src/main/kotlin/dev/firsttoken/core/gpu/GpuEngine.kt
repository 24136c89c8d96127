package dev.firsttoken.core.gpu

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.bundle.Artifact
import dev.firsttoken.core.bundle.Manifest
import dev.firsttoken.core.bundle.Processor
import dev.firsttoken.core.generate.ArtifactInUse
import dev.firsttoken.core.generate.Engine
import dev.firsttoken.core.npu.NpuCall

/**
 * Runs a bundle's GPU artifact: the same calls as python/firsttoken/backends/litertlm/runner.py makes.
 *
 * All tokens of a prompt but the last fill the cache, in graphs of fixed lengths; the last one goes through `decode`, which gives the logits. Graphs
 * write the rows of their padding too, where a later call writes over them; until then the mask hides them. Raises [FirstTokenException] for a
 * manifest whose parts do not fit each other.
 */
class GpuEngine(manifest: Manifest, gpu: Artifact, private val program: GpuProgram) : Engine(manifest) {
    private val facts = GpuLayout.facts(gpu)
    private val lengths = facts.prefillLengths.sortedArray()
    private val rows: Int
    private val masks = HashMap<Int, FloatArray>() // by a graph's length

    init {
        GpuLayout.check(manifest, gpu)
        rows = GpuLayout.rows(gpu)
    }

    /** A whole prompt at once: how it goes into graphs is this engine's own. */
    override val prefillLength get() = cacheLength
    override val artifact = ArtifactInUse(manifest.artifacts.indexOf(gpu), processor = Processor.GPU)

    override fun prefillChunk(tokens: IntArray): FloatArray {
        val last = tokens.size - 1
        var done = 0
        while (done < last) {
            val length = length(last - done, position + done)
            val count = minOf(length, last - done)
            val name = if (length == 1) GpuLayout.DECODE else GpuLayout.prefill(length)
            program.run(call(name, tokens.copyOfRange(done, done + count), position + done, length))
            done += count
        }
        return decodeAt(tokens[last], position + last)
    }

    override fun decodeToken(token: Int): FloatArray = decodeAt(token, position)

    override fun close() = program.close()

    /**
     * Tokens of the next call, for [wanted] more at position [at]; 1 means through `decode`. A write that would run over the cache's end
     * is moved back over what is there, so a graph must fit with its padding.
     */
    private fun length(wanted: Int, at: Int): Int {
        val fitting = lengths.filter { at + it <= rows }
        return fitting.firstOrNull { it >= wanted } ?: fitting.lastOrNull() ?: 1
    }

    private fun decodeAt(token: Int, at: Int): FloatArray =
        checkNotNull(program.run(call(GpuLayout.DECODE, intArrayOf(token), at, 1))) { "'${GpuLayout.DECODE}' has given no logits" }

    /** Padding has token 0, positions that go on, and sees nothing. */
    private fun call(method: String, tokens: IntArray, at: Int, length: Int): NpuCall {
        val mask = masks.getOrPut(length) { FloatArray(length * rows) }
        for (row in 0 until length) {
            val seen = row * rows + if (row < tokens.size) at + row + 1 else 0
            mask.fill(0f, row * rows, seen)
            mask.fill(facts.masked, seen, (row + 1) * rows)
        }
        val ints = mapOf(GpuLayout.TOKENS to tokens.copyOf(length), GpuLayout.POSITIONS to IntArray(length) { at + it })
        return NpuCall(method, mapOf(GpuLayout.MASK to mask), ints)
    }
}
