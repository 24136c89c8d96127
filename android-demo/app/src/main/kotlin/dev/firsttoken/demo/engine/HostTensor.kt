package dev.firsttoken.demo.engine

import dev.firsttoken.core.FirstTokenException
import java.lang.reflect.Array
import java.nio.Buffer
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** What a tensor holds, in the phone's own byte order. Float16 is carried about but never computed with. */
enum class Element(val bytes: Int) {
    FLOAT32(4),
    INT32(4),
    FLOAT16(2);

    companion object {
        /** The element of a manifest's dtype. */
        fun of(dtype: String): Element = entries.firstOrNull { it.name.lowercase() == dtype } ?: throw FirstTokenException("a tensor is $dtype, which this app does not know; update it")
    }
}

/** A tensor in memory of the app's that native code reads: a direct buffer of [shape]'s size, zero at first. */
class HostTensor(val element: Element, val shape: IntArray) {
    constructor(shape: TensorShape) : this(shape.element, shape.dimensions)

    val data: ByteBuffer = ByteBuffer.allocateDirect(element.bytes * shape.fold(1, Int::times)).order(ByteOrder.nativeOrder())

    fun putInts(values: IntArray) = data.rewound().asIntBuffer().put(values)

    fun putFloats(values: FloatArray) = data.rewound().asFloatBuffer().put(values)

    fun floats(): FloatArray = FloatArray(data.capacity() / element.bytes).also { data.rewound().asFloatBuffer().get(it) }

    /** The values as arrays of arrays, which is how `Interpreter` is told of another shape. */
    fun nested(): Any {
        data.rewound()
        return nested(0)
    }

    private fun nested(axis: Int): Any {
        val length = shape[axis]
        if (axis == shape.size - 1) {
            return when (element) {
                Element.FLOAT32 -> FloatArray(length) { data.float }
                Element.INT32 -> IntArray(length) { data.int }
                Element.FLOAT16 -> throw IllegalStateException("the JVM has no float16")
            }
        }
        val rows = Array.newInstance(rowClass(axis + 1), length)
        for (row in 0 until length) Array.set(rows, row, nested(axis + 1))
        return rows
    }

    private fun rowClass(axis: Int): Class<*> {
        val last: Class<*> = if (element == Element.FLOAT32) FloatArray::class.java else IntArray::class.java
        return (axis until shape.size - 1).fold(last) { inner, _ -> Array.newInstance(inner, 0).javaClass }
    }
}

/** The whole buffer, at its start. Called on `Buffer`: before Android 9 `ByteBuffer` has no methods of its own for this. */
internal fun <B : Buffer> B.rewound(): B = apply { clear() }

/** Only the bytes or values from [start] to before [end]. */
internal fun <B : Buffer> B.window(start: Int, end: Int): B = apply {
    clear()
    limit(end)
    position(start)
}
