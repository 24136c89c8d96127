package dev.firsttoken.core.generate

/** Which artifact of a bundle is asked for: [AUTO] is the NPU's where it runs here, else the CPU's. */
enum class ArtifactChoice {
    AUTO,
    CPU,
    NPU;

    /** As requests name it. */
    val text: String get() = name.lowercase()

    companion object {
        /** As requests name them. */
        val TEXTS = entries.map { it.text }.toTypedArray()

        fun of(text: String): ArtifactChoice = entries.first { it.text == text }
    }
}

/**
 * Which of the manifest's artifacts runs, by its [place] there: the CPU's is the first, and of the others only NPUs' are run.
 *
 * [fallback] is why it is not an NPU's, where the bundle has one and it was not left out by choice.
 */
data class ArtifactInUse(val place: Int, val fallback: String? = null) {
    val isNpu: Boolean get() = place > 0

    companion object {
        val CPU = ArtifactInUse(0)
    }
}
