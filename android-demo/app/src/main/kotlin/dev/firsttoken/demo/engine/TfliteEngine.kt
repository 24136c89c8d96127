package dev.firsttoken.demo.engine

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.bundle.Manifest
import dev.firsttoken.core.bundle.Method
import dev.firsttoken.core.generate.ArtifactInUse
import dev.firsttoken.core.generate.Engine
import dev.firsttoken.core.generate.KeptRows
import dev.firsttoken.core.generate.RunnerInUse
import java.nio.ByteBuffer

/** Runs a .tflite bundle: three signatures over one KV cache; the same calls as python/firsttoken/backends/tflite/runner.py makes. */
class TfliteEngine(manifest: Manifest, private val program: TfliteProgram, override val artifact: ArtifactInUse = ArtifactInUse.CPU, override val runner: RunnerInUse? = null) :
    Engine(manifest) {
    private val cached = manifest.cpu.states.filter { it.advances != REPLACE }
    private val cache = KeyValueCache(cached, manifest.target.cacheLength) { rows -> CacheRows(rows, prepare(DECODE, 1, rows)) }
    private val rings = cached.mapNotNull { state -> state.window?.let { it to state.length } }.toMap() // rows by window
    private val inputs = manifest.cpu.states.filter { it.advances == REPLACE }.associate { it.tensors.single() to LastInputs(it) } // of convolutions
    private val logits = method(DECODE).outputs.single { it.name == LOGITS }.shape.fold(1) { size, dimension -> size * dimension.toInt() }
    private var used = 0 // positions whose rows may hold something other than zero
    private var written = 0 // and that have held something since all were zero

    init {
        for (method in manifest.cpu.methods) {
            val count = if (method.name == DECODE) 1 else minOf(prefillLength, cacheLength)
            program.reserve(method.name, shapes(method.name, count, cacheLength))
        }
    }

    override fun prefillChunk(tokens: IntArray): FloatArray {
        val (start, count) = position to tokens.size
        val name = if (start > 0) EXTEND else FIRST
        val memory = prepare(name, count, start)
        val before = CacheRows(start, memory)
        if (start > 0) {
            cache.copyTo(before, start)
            memory[CACHE_MASK]?.putFloats(FloatArray(start))
            for ((window, length) in rings) memory["${CACHE_MASK}_$window"]?.putFloats(ringMask(window, length, minOf(start, length), start, count, start))
        }
        memory.getValue(TOKENS).rewound().asIntBuffer().put(tokens)
        memory[POSITIONS]?.putFloats(FloatArray(count) { (start + it).toFloat() })
        memory[LAST]?.rewound()?.asIntBuffer()?.put(count - 1)
        program.invoke(name)
        // at once as far as the whole prompt goes, and one row more, so that the first decode step finds its slot without growing
        cache.grow(minOf(promptEnd + 1, cacheLength), start) { before }
        return added(name, count)
    }

    override fun decodeToken(token: Int): FloatArray {
        // where resizing ends the memory's life, what is kept has to wait elsewhere, and is copied there and back
        cache.grow(position + 1, position) { if (program.keepsOlder) cache.current else CacheRows(position, prepare(EXTEND, 1, position)).also { cache.copyTo(it, position) } }
        val memory = prepare(DECODE, 1, cache.rows)
        memory.getValue(TOKENS).rewound().asIntBuffer().put(token)
        memory[POSITIONS]?.putFloats(floatArrayOf(position.toFloat()))
        memory[CACHE_MASK]?.putFloats(FloatArray(cache.rows) { if (it <= position) 0f else MASKED })
        memory[SLOT]?.putFloats(FloatArray(cache.rows) { if (it == position) 1f else 0f })
        for ((window, length) in rings) {
            val rows = minOf(cache.rows, length)
            memory["${CACHE_MASK}_$window"]?.putFloats(ringMask(window, length, rows, position, 1, position + 1))
            memory["${SLOT}_$window"]?.putFloats(FloatArray(rows) { if (it == position % length) 1f else 0f })
        }
        cache.clearUsed(position)
        program.invoke(DECODE)
        return added(DECODE, 1)
    }

    /** A ring has lost what stood before its last rows: where a window would reach back to them nothing can be kept, nor of a convolution. */
    override fun keepable(length: Int): Int = when {
        inputs.isNotEmpty() && length != position -> 0
        rings.all { (window, rows) -> maxOf(0, written - rows) <= maxOf(0, length - window + 1) } -> length
        else -> 0
    }

    override fun take(rows: KeptRows) {
        fun bytes(name: String, shape: TensorShape) = rows.bytes(name, shape.dimensions, shape.element.name.lowercase())
        val count = rows.tokens.size
        cache.grow(minOf(count + 1, cacheLength), 0) { throw IllegalStateException("nothing is to be kept") }
        cache.put(count, ::bytes)
        for ((tensor, last) in inputs) last.take(bytes(tensor, last.shape))
        used = count
        written = rows.written
    }

    /** Decoding relies on the rows it fills being zero. */
    override fun forget(length: Int) {
        cache.clear(used, length)
        inputs.values.forEach { it.clear() }
        used = length
        if (length == 0) written = 0
    }

    override fun reset() {
        cache.clear(used)
        inputs.values.forEach { it.clear() }
        used = 0
        written = 0
        super.reset()
    }

    override fun close() {
        cache.release()
        used = 0
        program.close()
    }

    /** Puts the rows that a call has returned into the cache, and returns its logits. */
    private fun added(name: String, count: Int): FloatArray {
        cache.append({ program.output(name, it) }, position, count)
        for ((tensor, last) in inputs) last.take(program.output(name, tensor))
        used = maxOf(used, position + count)
        written = maxOf(written, position + count)
        return FloatArray(logits).also { program.output(name, LOGITS).rewound().asFloatBuffer().get(it) }
    }

    /** Gives a signature the shapes of a call of [count] tokens over [cached] rows. */
    private fun prepare(name: String, count: Int, cached: Int): Map<String, ByteBuffer> {
        val outputs = cache.shapes(count) + inputs.mapValues { it.value.shape } + (LOGITS to floats(1, logits))
        return program.prepare(name, shapes(name, count, cached), outputs).also { memory -> for ((tensor, last) in inputs) memory[tensor]?.let(last::put) }
    }

    /** The inputs of such a call. */
    private fun shapes(name: String, count: Int, cached: Int): Map<String, TensorShape> {
        val all = mapOf(
            TOKENS to ints(count), LAST to ints(1), POSITIONS to floats(count), CACHE_MASK to floats(1, cached), SLOT to floats(1, cached),
        ) + cache.heldShapes(cached) + inputs.mapValues { it.value.shape } + rings.flatMap { (window, length) ->
            val rows = minOf(cached, length)
            listOf("${CACHE_MASK}_$window" to floats(if (name == DECODE) 1 else count, rows), "${SLOT}_$window" to floats(1, rows))
        }
        return method(name).inputs.associate { input ->
            input.name to (all[input.name] ?: throw FirstTokenException("method '$name' has an input '${input.name}', which this app does not know; update it"))
        }
    }

    private fun method(name: String): Method =
        manifest.cpu.methods.firstOrNull { it.name == name } ?: throw FirstTokenException("the bundle has no method '$name'; export it again")

    private fun ints(vararg dimensions: Int) = TensorShape(Element.INT32, dimensions)

    private fun floats(vararg dimensions: Int) = TensorShape(Element.FLOAT32, dimensions)

    private fun ByteBuffer.putFloats(values: FloatArray) = rewound().asFloatBuffer().put(values)

    private companion object {
        const val FIRST = "first"
        const val EXTEND = "extend"
        const val DECODE = "decode"
        const val TOKENS = "tokens"
        const val POSITIONS = "positions"
        const val LAST = "last"
        const val CACHE_MASK = "cache_mask"
        const val SLOT = "slot"
        const val LOGITS = "logits"
        const val REPLACE = "replace"
    }
}
