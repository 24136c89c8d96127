package dev.firsttoken.core.generate

/** Where every figure comes from, as an interface so that tests can say what time it is. */
interface Clock {
    /** Nanoseconds from some moment; never goes back. */
    fun nanoTime(): Long

    /** Milliseconds since 1970. */
    fun wallMillis(): Long
}

object SystemClock : Clock {
    override fun nanoTime(): Long = System.nanoTime()

    override fun wallMillis(): Long = System.currentTimeMillis()
}
