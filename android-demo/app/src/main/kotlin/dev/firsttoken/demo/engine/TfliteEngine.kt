package dev.firsttoken.demo.engine

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.bundle.Manifest
import dev.firsttoken.core.bundle.Method
import dev.firsttoken.core.generate.ArtifactInUse
import dev.firsttoken.core.generate.Engine

private const val MASKED = -30000f // as python/firsttoken/backends/tflite/runner.py has it

/** Runs a .tflite bundle: three signatures over one KV cache; the same calls as python/firsttoken/backends/tflite/runner.py makes. */
class TfliteEngine(manifest: Manifest, private val program: TfliteProgram, fallback: String? = null) : Engine(manifest) {
    override val artifact = ArtifactInUse(0, fallback)
    private val cache = KeyValueCache(manifest.cpu.states, manifest.target.cacheLength)
    private val logits = HostTensor(Element.FLOAT32, method("decode").outputs.single { it.name == "logits" }.shape.map { it.toInt() }.toIntArray())
    private var used = 0 // rows that may hold something other than zero
    private var decode: DecodeCall? = null

    override fun prefillChunk(tokens: IntArray): FloatArray {
        val start = position
        // one row more, so that the first decode step finds its slot without growing
        if (cache.grow(minOf(start + tokens.size + 1, cacheLength), start)) decode = null
        val inputs = LinkedHashMap<String, HostTensor>()
        inputs["tokens"] = ints(tokens)
        inputs["positions"] = floats(FloatArray(tokens.size) { (start + it).toFloat() }, tokens.size)
        inputs["last"] = ints(intArrayOf(tokens.size - 1))
        if (start > 0) {
            inputs["cache_mask"] = HostTensor(Element.FLOAT32, intArrayOf(1, start))
            inputs += cache.first(start)
        }
        val name = if (start > 0) "extend" else "first"
        return call(name, inputs, cache.added(tokens.size), tokens.size)
    }

    override fun decodeToken(token: Int): FloatArray {
        if (cache.grow(position + 1, position)) decode = null
        val step = decode ?: DecodeCall().also { decode = it }
        step.set(token, position)
        return call("decode", step.inputs, step.added, 1)
    }

    /** Decoding relies on the rows it fills being zero. */
    override fun forget(length: Int) {
        cache.clear(used, length)
        used = length
    }

    override fun reset() {
        cache.clear(used)
        used = 0
        super.reset()
    }

    override fun close() = program.close()

    private fun call(name: String, inputs: Map<String, HostTensor>, added: Map<String, HostTensor>, count: Int): FloatArray {
        program.run(name, inputs.filterKeys { input -> method(name).inputs.any { it.name == input } }, added + ("logits" to logits))
        cache.append(added, position, count)
        used = maxOf(used, position + count)
        return logits.floats()
    }

    private fun method(name: String): Method =
        manifest.cpu.methods.firstOrNull { it.name == name } ?: throw FirstTokenException("the bundle has no method '$name'; export it again")

    /** The decode step's tensors, made once for a size of the cache. */
    private inner class DecodeCall {
        private val token = ints(intArrayOf(0))
        private val place = floats(floatArrayOf(0f), 1)
        private val mask = HostTensor(Element.FLOAT32, intArrayOf(1, cache.rows))
        private val slot = HostTensor(Element.FLOAT32, intArrayOf(1, cache.rows))
        val inputs = linkedMapOf("tokens" to token, "positions" to place, "cache_mask" to mask, "slot" to slot) + cache.tensors
        val added = cache.added(1)

        fun set(value: Int, position: Int) {
            token.putInts(intArrayOf(value))
            place.putFloats(floatArrayOf(position.toFloat()))
            mask.putFloats(FloatArray(cache.rows) { if (it <= position) 0f else MASKED })
            slot.putFloats(FloatArray(cache.rows) { if (it == position) 1f else 0f })
        }
    }

    private fun ints(values: IntArray) = HostTensor(Element.INT32, intArrayOf(values.size)).also { it.putInts(values) }

    private fun floats(values: FloatArray, vararg shape: Int) = HostTensor(Element.FLOAT32, shape).also { it.putFloats(values) }
}
