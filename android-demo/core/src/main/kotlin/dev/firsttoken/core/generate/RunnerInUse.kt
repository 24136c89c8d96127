package dev.firsttoken.core.generate

/** How a runtime that can be called in two ways is called: [kind] is [NATIVE] or [JAVA]. [fallback] is why it is not the native way. */
data class RunnerInUse(val kind: String, val fallback: String? = null) {
    companion object {
        /** By the app's own library over LiteRT's C API. */
        const val NATIVE = "native"

        /** By LiteRT's `Interpreter`. */
        const val JAVA = "java"
    }
}
