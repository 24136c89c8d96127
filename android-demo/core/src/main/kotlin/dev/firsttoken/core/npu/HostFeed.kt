package dev.firsttoken.core.npu

import dev.firsttoken.core.bundle.Manifest
import dev.firsttoken.core.bundle.NpuFacts
import java.io.Closeable
import kotlin.math.cos
import kotlin.math.sin

/** One call of a graph: what goes in by name, in the order of the tensors' dimensions. */
class NpuCall(val method: String, val floats: Map<String, FloatArray>, val ints: Map<String, IntArray>)

/**
 * What the phone feeds to an NPU graph: embedding rows, cos and sin in FP32, masks; the same as Python's `HostFeed`.
 *
 * Graphs have fixed shapes, so a call with fewer tokens than its graph takes is padded; the padding lies behind the real tokens,
 * where the causal mask hides it, and its cache rows are not kept.
 */
class HostFeed(manifest: Manifest, private val npu: NpuFacts, private val table: EmbeddingTable) : Closeable {
    private val rows = manifest.target.cacheLength
    private val frequencies = manifest.rotations.single().inverseFrequencies // which `NpuLayout` has checked
    private val dimension = 2 * frequencies.size

    /**
     * Returns the inputs, other than the cache, of graph [method] of [length] tokens for [tokens], at most as many, the first of them
     * at [position]: `embedding [length, hidden]`, `cos` and `sin` `[length, 1, head_dim]`, `last [1]` and `cache_mask [1, rows]`.
     */
    fun call(method: String, tokens: IntArray, position: Int, length: Int): NpuCall {
        val embedded = FloatArray(length * npu.embedding.columns)
        table.read(tokens, embedded)
        val (cosines, sines) = rotation(position, length)
        val mask = FloatArray(rows) { if (it < position) 0f else npu.masked }
        val floats = mapOf("embedding" to embedded, "cos" to cosines, "sin" to sines, "cache_mask" to mask)
        return NpuCall(method, floats, mapOf("last" to intArrayOf(tokens.size - 1)))
    }

    /**
     * cos and sin of the angles of [count] positions from [start] on, each `[count, 1, head_dim]`: both halves alike, sin's first one
     * negated, so that the graph's rotate-half is a plain swap of halves (RoPE, arXiv 2104.09864).
     *
     * The angle is FP32, as in the model; its cos and sin are taken in FP64 and rounded, which every platform does alike.
     */
    fun rotation(start: Int, count: Int): Pair<FloatArray, FloatArray> {
        val (cosines, sines) = FloatArray(count * dimension) to FloatArray(count * dimension)
        val half = frequencies.size
        for (row in 0 until count) {
            val position = (start + row).toFloat()
            for ((place, frequency) in frequencies.withIndex()) {
                val angle = (position * frequency).toDouble()
                val (first, second) = row * dimension + place to row * dimension + half + place
                cosines[first] = cos(angle).toFloat()
                cosines[second] = cosines[first]
                sines[second] = sin(angle).toFloat()
                sines[first] = -sines[second]
            }
        }
        return cosines to sines
    }

    override fun close() = table.close()
}
