package dev.firsttoken.core.tokenizer

/** A binary heap of longs, smallest first: rank in the upper half, position in the lower. */
internal class MergeQueue(capacity: Int) {
    private var heap = LongArray(maxOf(capacity, 4))
    private var size = 0

    fun isEmpty() = size == 0

    fun push(value: Long) {
        if (size == heap.size) heap = heap.copyOf(size * 2)
        var child = size++
        while (child > 0) {
            val parent = (child - 1) ushr 1
            if (heap[parent] <= value) break
            heap[child] = heap[parent]
            child = parent
        }
        heap[child] = value
    }

    fun pop(): Long {
        val top = heap[0]
        val last = heap[--size]
        var parent = 0
        while (true) {
            var child = 2 * parent + 1
            if (child >= size) break
            if (child + 1 < size && heap[child + 1] < heap[child]) child++
            if (heap[child] >= last) break
            heap[parent] = heap[child]
            parent = child
        }
        heap[parent] = last
        return top
    }
}
