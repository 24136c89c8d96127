package dev.firsttoken.demo.engine

import java.nio.ByteBuffer

/**
 * What libfirsttoken_litert.so (android-demo/native) does: LiteRT's C API, on memory of its own. A loaded model is a number, a signature its place.
 *
 * Texts go in as UTF-8. All raise `IllegalStateException` with what LiteRT said and what to do.
 */
internal object NativeFunctions {
    /** Loads LiteRT's [library] and looks its functions up; raises where one is missing. */
    external fun find(library: ByteArray)

    /** Loads [model]; [weightCache] is the file of packed weights, empty for none. One that [isOnlyRead] has to fit: the runtime ends the process where it would have to write ([takes]). */
    external fun open(library: ByteArray, model: ByteArray, threads: Int, weightCache: ByteArray, isOnlyRead: Boolean): Long

    /** Whether LiteRT takes the kernels that the packed weights in the file [packed] were made for; it is asked with files in [folder] that have no name. */
    external fun takes(library: ByteArray, packed: ByteArray, folder: ByteArray): Boolean

    /** The CPU's features as the kernel tells them: AT_HWCAP, or AT_HWCAP2. */
    external fun capability(second: Boolean): Long

    external fun signatures(program: Long): Array<String>

    external fun inputs(program: Long, signature: Int): Array<String>

    external fun outputs(program: Long, signature: Int): Array<String>

    /** Makes room for inputs of these shapes, the largest that will ever come; before the first [run]. */
    external fun reserve(program: Long, signature: Int, inputs: Array<IntArray>)

    /** The memory of the inputs, then of the outputs, all zero; what there was before lives on until the next [run] or [prepare] of this signature. */
    external fun prepare(program: Long, signature: Int, inputs: Array<IntArray>, outputs: Array<IntArray>): Array<ByteBuffer>

    external fun run(program: Long, signature: Int)

    /** Frees all of its memory; every other call then raises. */
    external fun close(program: Long)
}
