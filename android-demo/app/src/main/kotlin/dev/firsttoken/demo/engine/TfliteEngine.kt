package dev.firsttoken.demo.engine

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.bundle.Manifest
import dev.firsttoken.core.bundle.Method
import dev.firsttoken.core.generate.ArtifactInUse
import dev.firsttoken.core.generate.Engine
import java.nio.ByteBuffer

private const val MASKED = -30000f // as python/firsttoken/backends/tflite/runner.py has it

/** Runs a .tflite bundle: three signatures over one KV cache; the same calls as python/firsttoken/backends/tflite/runner.py makes. */
class TfliteEngine(manifest: Manifest, private val program: TfliteProgram, fallback: String? = null) : Engine(manifest) {
    override val artifact = ArtifactInUse(0, fallback)
    private val cache = KeyValueCache(manifest.cpu.states, manifest.target.cacheLength) { rows -> CacheRows(rows, prepare(DECODE, 1, rows)) }
    private val logits = method(DECODE).outputs.single { it.name == LOGITS }.shape.fold(1) { size, dimension -> size * dimension.toInt() }
    private var used = 0 // rows that may hold something other than zero

    override fun prefillChunk(tokens: IntArray): FloatArray {
        val (start, count) = position to tokens.size
        val name = if (start > 0) EXTEND else FIRST
        val memory = prepare(name, count, start)
        val before = CacheRows(start, memory)
        if (start > 0) {
            cache.copyTo(before, start)
            memory[CACHE_MASK]?.putFloats(FloatArray(start))
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
        // resizing ends the memory's life: what is kept has to wait elsewhere, and is copied there and back
        cache.grow(position + 1, position) { CacheRows(position, prepare(EXTEND, 1, position)).also { cache.copyTo(it, position) } }
        val memory = prepare(DECODE, 1, cache.rows)
        memory.getValue(TOKENS).rewound().asIntBuffer().put(token)
        memory[POSITIONS]?.putFloats(floatArrayOf(position.toFloat()))
        memory[CACHE_MASK]?.putFloats(FloatArray(cache.rows) { if (it <= position) 0f else MASKED })
        memory[SLOT]?.putFloats(FloatArray(cache.rows) { if (it == position) 1f else 0f })
        program.invoke(DECODE)
        return added(DECODE, 1)
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

    /** Puts the rows that a call has returned into the cache, and returns its logits. */
    private fun added(name: String, count: Int): FloatArray {
        cache.append({ program.output(name, it) }, position, count)
        used = maxOf(used, position + count)
        return FloatArray(logits).also { program.output(name, LOGITS).rewound().asFloatBuffer().get(it) }
    }

    /** Gives a signature the shapes of a call of [count] tokens over [cached] rows. */
    private fun prepare(name: String, count: Int, cached: Int): Map<String, ByteBuffer> {
        val all = mapOf(
            TOKENS to ints(count), LAST to ints(1), POSITIONS to floats(count), CACHE_MASK to floats(1, cached), SLOT to floats(1, cached),
        ) + cache.shapes(cached)
        val shapes = method(name).inputs.associate { input ->
            input.name to (all[input.name] ?: throw FirstTokenException("method '$name' has an input '${input.name}', which this app does not know; update it"))
        }
        return program.prepare(name, shapes, cache.shapes(count) + (LOGITS to floats(1, logits)))
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
    }
}
