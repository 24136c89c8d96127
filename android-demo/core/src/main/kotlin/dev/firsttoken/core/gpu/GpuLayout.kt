package dev.firsttoken.core.gpu

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.bundle.Artifact
import dev.firsttoken.core.bundle.GpuFacts
import dev.firsttoken.core.bundle.Manifest
import dev.firsttoken.core.bundle.Method
import dev.firsttoken.core.bundle.Tensor

/** Whether the parts of a manifest's GPU artifact fit each other and what the app feeds: each alone is checked by its schema. */
object GpuLayout {
    const val TOKENS = "tokens"
    const val POSITIONS = "input_pos"
    const val MASK = "mask"
    const val LOGITS = "logits"
    const val DECODE = "decode"
    private val FED = setOf(TOKENS, POSITIONS, MASK)

    fun prefill(length: Int) = "prefill_$length"

    /** How the host drives [gpu], which must be a GPU's. */
    fun facts(gpu: Artifact): GpuFacts = checkNotNull(gpu.gpu) { "${gpu.file} is not for a GPU" }

    /** Rows of the cache: as many as the target's, or a few more for padding. */
    fun rows(gpu: Artifact): Int = method(gpu, DECODE).inputs.singleOrNull { it.name == MASK }?.shape?.lastOrNull()?.toIntOrNull() ?: refuse("'$DECODE' has no input '$MASK' of a fixed size", "one")

    /** The tensors of the cache, which every graph takes and gives. */
    fun cached(method: Method): List<Tensor> = method.inputs.filter { it.name !in FED }

    /** Returns why the app cannot feed these graphs, or null where it can. */
    fun problem(manifest: Manifest, gpu: Artifact): String? =
        try {
            check(manifest, gpu)
            null
        } catch (refusal: FirstTokenException) {
            refusal.message
        }

    /** Raises [FirstTokenException] naming what does not fit. */
    fun check(manifest: Manifest, gpu: Artifact) {
        val (lengths, rows) = facts(gpu).prefillLengths to rows(gpu)
        if (rows < manifest.target.cacheLength) refuse("the mask has $rows rows", "the cache's ${manifest.target.cacheLength} at least")
        if (lengths.any { it !in 1..rows }) refuse("prefill_lengths are ${lengths.joinToString()}", "lengths from 1 to the cache's $rows")
        for (state in gpu.states) {
            val name = "the state of layer ${state.layer}"
            if (state.advances != "in_place" || state.heldBy != "host") refuse("$name is held by the ${state.heldBy} and advances '${state.advances}'", "the host and 'in_place'")
            if (state.dtype != "float32") refuse("$name is ${state.dtype}", "float32; export the bundle again")
        }
        val cache = cached(method(gpu, DECODE))
        if (cache.size != 2 * gpu.states.size) refuse("'$DECODE' takes ${cache.size} tensors of the cache", "two for each of ${gpu.states.size} states")
        for (tensor in cache) {
            val size = tensor.shape.fold(Float.SIZE_BYTES.toDouble()) { all, dimension -> all * (dimension.toIntOrNull()?.takeIf { it > 0 } ?: refuse("'${tensor.name}' is ${tensor.shape}", "fixed sizes")) }
            if (size > Int.MAX_VALUE) refuse("'${tensor.name}' has shape ${tensor.shape}", "at most 2 GiB a tensor")
        }
        for (length in lengths) checkMethod(method(gpu, prefill(length)), length, rows, cache, emptyList())
        checkMethod(method(gpu, DECODE), 1, rows, cache, listOf(Tensor(LOGITS, listOf("1", "1", "${manifest.checkpoint.vocabularySize}"), "float32")))
    }

    private fun checkMethod(method: Method, tokens: Int, rows: Int, cache: List<Tensor>, given: List<Tensor>) {
        val fed = listOf(
            Tensor(TOKENS, listOf("1", "$tokens"), "int32"), Tensor(POSITIONS, listOf("$tokens"), "int32"), Tensor(MASK, listOf("1", "1", "$tokens", "$rows"), "float32"),
        )
        checkTensors("inputs of '${method.name}'", method.inputs, fed + cache)
        checkTensors("outputs of '${method.name}'", method.outputs, cache + given)
    }

    private fun checkTensors(what: String, found: List<Tensor>, wanted: List<Tensor>) {
        val (have, want) = found.map(::text).sorted() to wanted.map(::text).sorted()
        if (have != want) refuse("$what are ${(have - want.toSet()).ifEmpty { have }.joinToString()}", (want - have.toSet()).ifEmpty { want }.joinToString())
    }

    private fun text(tensor: Tensor) = "'${tensor.name}' ${tensor.dtype} ${tensor.shape}"

    private fun method(gpu: Artifact, name: String): Method = gpu.methods.firstOrNull { it.name == name } ?: refuse("methods are ${gpu.methods.map { it.name }}", "'$name' among them")

    private fun refuse(found: String, expected: String): Nothing = throw FirstTokenException("manifest.json: GPU artifact: $found; expected $expected")
}
