package dev.firsttoken.demo.engine

import java.io.Closeable
import java.nio.ByteBuffer

/** What a tensor is in one call. */
class TensorShape(val element: Element, val dimensions: IntArray) {
    val bytes: Int get() = dimensions.fold(element.bytes, Math::multiplyExact)

    override fun equals(other: Any?) = other is TensorShape && other.element == element && other.dimensions.contentEquals(dimensions)

    override fun hashCode() = dimensions.contentHashCode()
}

/**
 * A loaded .tflite file, whose signatures run on memory of the runtime's own. Its class cannot be loaded on the JVM of a test.
 *
 * All may raise anything that the runtime raises.
 */
interface TfliteProgram : Closeable {
    /** Whether memory that [prepare] has replaced lives on until the next [invoke] or [prepare] of its signature. */
    val keepsOlder: Boolean get() = false

    /** Makes room for [inputs] of [signature], the largest that will ever come; before the first [invoke]. */
    fun reserve(signature: String, inputs: Map<String, TensorShape>) = Unit

    /**
     * Gives [signature] these shapes and returns its inputs' memory, in the phone's byte order; where the shapes were these already, it
     * is the same memory, holding what it held. Otherwise it is new, may hold anything, and the older is gone.
     */
    fun prepare(signature: String, inputs: Map<String, TensorShape>, outputs: Map<String, TensorShape>): Map<String, ByteBuffer>

    /** Runs [signature] on what is in its inputs' memory, which stays as it is. */
    fun invoke(signature: String)

    /** What the last [invoke] of [signature] returned; gone with the next one. */
    fun output(signature: String, name: String): ByteBuffer
}
