package dev.firsttoken.core.bundle

/** What an artifact is for. */
enum class Processor {
    CPU,
    GPU,
    NPU;

    /** As measurements name it. */
    val text: String get() = name.lowercase()

    companion object {
        val TEXTS = entries.map { it.text }.toTypedArray()

        fun of(text: String): Processor = entries.first { it.text == text }
    }
}

/** One file that a runtime loads: what it needs, its methods, what its layers remember, and its own proof. */
class Artifact(
    val file: String, val needs: Needs, val methods: List<Method>, val states: List<State>, val npu: NpuFacts?, val proof: Proof?, val gpu: GpuFacts? = null,
) {
    val processor: Processor
        get() = when {
            npu != null -> Processor.NPU
            gpu != null -> Processor.GPU
            else -> Processor.CPU
        }
}

/** What a device must have to run an artifact; [soc] only for one that was compiled ahead of time for an NPU. */
class Needs(val runtime: String, val minRuntime: String, val soc: String?)

/** A named entry of an artifact. */
class Method(val name: String, val inputs: List<Tensor>, val outputs: List<Tensor>)

/** A dimension is a number, or the name of one that the host chooses at run time. */
class Tensor(val name: String, val shape: List<String>, val dtype: String)

/**
 * What layer [layer] remembers between calls: a tensor for keys and one for values, each with a row a token along [axis].
 *
 * [heldBy] "host": the app passes them and appends the rows that come back, to [length] at most, growing in steps of [step] rows.
 * [advances] "in_place": a call writes them itself, as graphs for a GPU do; of the CPU's those are for LiteRT-LM and plain interpreters, not for the app. "ring": of a layer that sees
 * a [window] of positions, its own included, row p modulo [length] is position p's. "replace": not keys and values but a convolution's last inputs,
 * which a call takes and returns anew.
 */
class State(
    val layer: Int, val heldBy: String, val shape: List<String>, val dtype: String, val axis: Int, val length: Int, val step: Int, val advances: String, val window: Int?,
) {
    /** Their names. */
    val tensors: List<String> get() = if (advances == "replace") listOf("convolution.$layer") else listOf("key.$layer", "value.$layer")

    /** How many blocks of rows a tensor has: the dimensions before the axis. */
    val blocks: Int get() = shape.take(axis).fold(1) { size, dimension -> size * dimension.toInt() }

    /** How many values a row of a block has: the dimensions behind the axis. */
    val rowValues: Int get() = shape.drop(axis + 1).fold(1) { size, dimension -> size * dimension.toInt() }

    /** The shape of a tensor of [rows] rows. */
    fun shape(rows: Int): IntArray = IntArray(shape.size) { if (it == axis) rows else shape[it].toInt() }
}

/** How far it is from the FP32 checkpoint. KL divergence in nats per token. */
class Proof(val meanKld: Double, val p99Kld: Double, val sameTop: Double, val passed: Boolean)

/**
 * What the host feeds to graphs for a Snapdragon's NPU, as python/firsttoken/bundle/manifest.py tells and `core/npu` does.
 *
 * [compiled] "ahead": for `needs.soc`. "device": the graphs themselves, which the phone compiles when it loads them.
 */
class NpuFacts(val compiled: String, val prefillLengths: IntArray, val embedding: HostTable, val masked: Float)

/** How the host drives an artifact for a GPU, as python/firsttoken/bundle/gpu_facts.py tells and `core/gpu` does; its arithmetic is FP32. [weights] is the file that it takes its weights from, or null. */
class GpuFacts(val prefillLengths: IntArray, val masked: Float, val weights: String? = null)

/** The embedding in [file]: row t starts t * [columns] values after byte [offset]; an int8 row is multiplied by float32 number t after [scalesOffset]. */
class HostTable(val file: String, val dtype: String, val rows: Int, val columns: Int, val offset: Long, val scalesOffset: Long?)
