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

/** Which artifact runs. [fallback] is why it is not the NPU's, where the bundle has one and it was not left out by choice. */
data class ArtifactInUse(val isNpu: Boolean, val fallback: String? = null)
