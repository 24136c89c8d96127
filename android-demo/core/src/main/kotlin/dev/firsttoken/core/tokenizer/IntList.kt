package dev.firsttoken.core.tokenizer

/** A growing list of ints without boxing. */
internal class IntList(capacity: Int = 16) {
    private var values = IntArray(capacity)
    var size = 0
        private set

    operator fun get(place: Int): Int = values[place]

    fun add(value: Int) {
        if (size == values.size) values = values.copyOf(size * 2)
        values[size++] = value
    }

    fun addAll(more: IntArray) {
        if (size + more.size > values.size) values = values.copyOf(maxOf(values.size * 2, size + more.size))
        more.copyInto(values, size)
        size += more.size
    }

    fun toArray(): IntArray = values.copyOf(size)
}
