package dev.firsttoken.core.npu

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.bundle.Artifact
import dev.firsttoken.core.bundle.Manifest
import dev.firsttoken.core.bundle.Method
import dev.firsttoken.core.bundle.NpuFacts
import dev.firsttoken.core.bundle.State
import dev.firsttoken.core.bundle.Tensor

/** Whether the parts of a manifest's NPU artifact fit each other and what the app feeds: each alone is checked by its schema. */
object NpuLayout {
    /** What the host feeds to [npu], which must be an NPU's. */
    fun facts(npu: Artifact): NpuFacts = checkNotNull(npu.npu) { "${npu.file} is not for an NPU" }

    /** Returns why the app cannot feed these graphs, or null where it can. */
    fun problem(manifest: Manifest, npu: Artifact): String? =
        try {
            check(manifest, npu)
            null
        } catch (refusal: FirstTokenException) {
            refusal.message
        }

    /** Raises [FirstTokenException] naming the field that does not fit. */
    fun check(manifest: Manifest, npu: Artifact) {
        val (facts, rows) = facts(npu) to manifest.target.cacheLength
        if (manifest.rotations.size != 1) refuse("the manifest has ${manifest.rotations.size} rotations", "one, which its graphs take")
        if (npu.states.distinctBy { it.layer }.size != npu.states.size) refuse("states are of layers ${npu.states.map { it.layer }}", "one state a layer")
        for (state in npu.states) checkState(state, rows)
        val columns = facts.embedding.columns
        if (columns != manifest.checkpoint.hiddenSize) refuse("embedding.columns is $columns", "the checkpoint's hidden_size ${manifest.checkpoint.hiddenSize}")
        if (facts.embedding.rows < manifest.checkpoint.vocabularySize) refuse("embedding.rows is ${facts.embedding.rows}", "the vocabulary's ${manifest.checkpoint.vocabularySize} at least")
        if (facts.embedding.file != manifest.cpu.file) refuse("embedding.file is '${facts.embedding.file}'", "the CPU artifact '${manifest.cpu.file}'")
        val lengths = facts.prefillLengths
        if (lengths.any { it !in 1..rows }) refuse("prefill_lengths are ${lengths.joinToString()}", "lengths from 1 to the cache's $rows")
        for (length in lengths) checkMethod(manifest, npu, "first_$length", length, overCache = false)
        checkMethod(manifest, npu, "extend_${lengths.max()}", lengths.max(), overCache = true)
        checkMethod(manifest, npu, "decode", 1, overCache = true)
    }

    private fun checkState(state: State, rows: Int) {
        val name = "the state of layer ${state.layer}"
        if (state.dtype != "float32") refuse("$name is ${state.dtype}", "float32, since LiteRT's Kotlin interface reads no float16 tensor whole; export the bundle again")
        if (state.heldBy != "host") refuse("$name is held by the ${state.heldBy}", "the host")
        val sizes = state.shape.map { it.toIntOrNull() ?: 0 }
        if (state.axis !in sizes.indices || sizes.any { it < 1 } || sizes[state.axis] != rows || state.length != rows) {
            refuse("$name has shape ${state.shape}, axis ${state.axis} and ${state.length} rows", "fixed sizes with the cache's $rows rows along the axis")
        }
        if (sizes.fold(1.0) { size, dimension -> size * dimension } * Float.SIZE_BYTES > Int.MAX_VALUE) refuse("$name has shape ${state.shape}", "at most 2 GiB a tensor")
    }

    private fun checkMethod(manifest: Manifest, npu: Artifact, name: String, tokens: Int, overCache: Boolean) {
        val method = npu.methods.firstOrNull { it.name == name } ?: refuse("methods are ${npu.methods.map { it.name }}", "'$name' among them")
        val rotation = listOf(tokens, 1, 2 * manifest.rotations.single().inverseFrequencies.size)
        val wanted = LinkedHashMap<String, Pair<String, List<Int>>>()
        wanted["embedding"] = "float32" to listOf(tokens, manifest.checkpoint.hiddenSize)
        wanted["cos"] = "float32" to rotation
        wanted["sin"] = "float32" to rotation
        if (tokens > 1) wanted["last"] = "int32" to listOf(1)
        if (overCache) {
            wanted["cache_mask"] = "float32" to listOf(1, manifest.target.cacheLength)
            wanted += cached(npu, manifest.target.cacheLength)
        }
        checkTensors(method, "inputs", method.inputs, wanted)
        checkTensors(method, "outputs", method.outputs, cached(npu, tokens) + ("logits" to ("float32" to listOf(1, manifest.checkpoint.vocabularySize))))
    }

    private fun cached(npu: Artifact, rows: Int) = npu.states.flatMap { state -> state.tensors.map { it to (state.dtype to state.shape(rows).toList()) } }.toMap()

    private fun checkTensors(method: Method, side: String, found: List<Tensor>, wanted: Map<String, Pair<String, List<Int>>>) {
        val names = found.map { it.name }
        if (names.toSet() != wanted.keys || names.size != wanted.size) refuse("$side of '${method.name}' are $names", wanted.keys.joinToString())
        for (tensor in found) {
            val (dtype, shape) = wanted.getValue(tensor.name)
            if (tensor.dtype != dtype || tensor.shape != shape.map { "$it" }) refuse("'${tensor.name}' of '${method.name}' is ${tensor.dtype} ${tensor.shape}", "$dtype $shape")
        }
    }

    private fun refuse(found: String, expected: String): Nothing = throw FirstTokenException("manifest.json: NPU artifact: $found; expected $expected")
}
