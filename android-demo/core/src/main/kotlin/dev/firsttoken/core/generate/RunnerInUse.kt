package dev.firsttoken.core.generate

/**
 * How a runtime that can be called in two ways is called: [kind] is [NATIVE] or [JAVA]. [fallback] is why it is not the native way. [packedFor] is the kind of CPU whose packed weights were taken
 * out of the bundle, [unpacked] why none of those that it has were.
 */
data class RunnerInUse(val kind: String, val fallback: String? = null, val packedFor: String? = null, val unpacked: String? = null) {
    companion object {
        /** By the app's own library over LiteRT's C API. */
        const val NATIVE = "native"

        /** By LiteRT's `Interpreter`. */
        const val JAVA = "java"
    }
}
