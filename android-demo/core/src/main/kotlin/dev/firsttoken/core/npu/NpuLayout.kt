package dev.firsttoken.core.npu

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.bundle.Manifest
import dev.firsttoken.core.bundle.Method
import dev.firsttoken.core.bundle.Npu
import dev.firsttoken.core.bundle.Tensor

/** Whether the parts of a manifest's `npu` fit each other and what the app feeds: each alone is checked by its reader. */
object NpuLayout {
    /** Returns why the app cannot feed these graphs, or null where it can. */
    fun problem(manifest: Manifest, npu: Npu): String? =
        try {
            check(manifest, npu)
            null
        } catch (refusal: FirstTokenException) {
            refusal.message
        }

    /** Raises [FirstTokenException] naming the field that does not fit. */
    fun check(manifest: Manifest, npu: Npu) {
        checkCache(npu)
        val columns = npu.embedding.columns
        if (columns != manifest.checkpoint.hiddenSize) refuse("embedding.columns is $columns", "the checkpoint's hidden_size ${manifest.checkpoint.hiddenSize}")
        if (npu.embedding.rows < manifest.checkpoint.vocabularySize) refuse("embedding.rows is ${npu.embedding.rows}", "the vocabulary's ${manifest.checkpoint.vocabularySize} at least")
        if (npu.embedding.file != manifest.artifact.file) refuse("embedding.file is '${npu.embedding.file}'", "the CPU artifact '${manifest.artifact.file}'")
        val lengths = npu.prefillLengths
        if (lengths.any { it !in 1..npu.cache.length }) refuse("prefill_lengths are ${lengths.joinToString()}", "lengths from 1 to the cache's ${npu.cache.length}")
        for (length in lengths) checkMethod(manifest, npu, "first_$length", length, overCache = false)
        checkMethod(manifest, npu, "extend_${lengths.max()}", lengths.max(), overCache = true)
        checkMethod(manifest, npu, "decode", 1, overCache = true)
    }

    private fun checkCache(npu: Npu) {
        val cache = npu.cache
        if (cache.dtype != "float32") refuse("cache is ${cache.dtype}", "float32, since LiteRT's Kotlin interface reads no float16 tensor whole; export the bundle again")
        if (cache.heldBy != "host") refuse("cache is held by the ${cache.heldBy}", "the host")
        val sizes = cache.shape.map { it.toIntOrNull() ?: 0 }
        if (cache.axis !in sizes.indices || sizes.any { it < 1 } || sizes[cache.axis] != cache.length || cache.layers !in 1..MOST_LAYERS) {
            refuse("cache has shape ${cache.shape}, axis ${cache.axis} and ${cache.layers} layers", "fixed sizes with ${cache.length} rows along the axis")
        }
        if (sizes.fold(1.0) { size, dimension -> size * dimension } * Float.SIZE_BYTES > Int.MAX_VALUE) refuse("cache has shape ${cache.shape}", "at most 2 GiB a tensor")
    }

    private fun checkMethod(manifest: Manifest, npu: Npu, name: String, tokens: Int, overCache: Boolean) {
        val method = npu.methods.firstOrNull { it.name == name } ?: refuse("methods are ${npu.methods.map { it.name }}", "'$name' among them")
        val cached = (0 until npu.cache.layers).flatMap { listOf("key.$it", "value.$it") }
        val rotation = listOf(tokens, 1, 2 * npu.inverseFrequencies.size)
        val wanted = LinkedHashMap<String, Pair<String, List<Int>>>()
        wanted["embedding"] = "float32" to listOf(tokens, npu.embedding.columns)
        wanted["cos"] = "float32" to rotation
        wanted["sin"] = "float32" to rotation
        if (tokens > 1) wanted["last"] = "int32" to listOf(1)
        if (overCache) {
            wanted["cache_mask"] = "float32" to listOf(1, npu.cache.length)
            for (tensor in cached) wanted[tensor] = "float32" to rows(npu, npu.cache.length)
        }
        checkTensors(method, "inputs", method.inputs, wanted)
        val returned = cached.associateWith { "float32" to rows(npu, tokens) } + ("logits" to ("float32" to listOf(1, manifest.checkpoint.vocabularySize)))
        checkTensors(method, "outputs", method.outputs, returned)
    }

    private fun checkTensors(method: Method, side: String, found: List<Tensor>, wanted: Map<String, Pair<String, List<Int>>>) {
        val names = found.map { it.name }
        if (names.toSet() != wanted.keys || names.size != wanted.size) refuse("$side of '${method.name}' are $names", wanted.keys.joinToString())
        for (tensor in found) {
            val (dtype, shape) = wanted.getValue(tensor.name)
            if (tensor.dtype != dtype || tensor.shape != shape.map { "$it" }) refuse("'${tensor.name}' of '${method.name}' is ${tensor.dtype} ${tensor.shape}", "$dtype $shape")
        }
    }

    private fun rows(npu: Npu, count: Int) = npu.cache.shape.mapIndexed { axis, size -> if (axis == npu.cache.axis) count else size.toInt() }

    private fun refuse(found: String, expected: String): Nothing = throw FirstTokenException("manifest.json: npu: $found; expected $expected")

    private const val MOST_LAYERS = 10_000
}
