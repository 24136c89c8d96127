package dev.firsttoken.core.generate

import dev.firsttoken.core.bundle.Manifest
import dev.firsttoken.core.bundle.Processor

/** Which artifact of a bundle is asked for: [AUTO] is the first of its NPU's and GPU's that runs here, else the CPU's. [processor] is null for it. */
enum class ArtifactChoice(val processor: Processor?) {
    AUTO(null),
    CPU(Processor.CPU),
    GPU(Processor.GPU),
    NPU(Processor.NPU);

    /** As requests name it. */
    val text: String get() = name.lowercase()

    companion object {
        /** As requests name them. */
        val TEXTS = entries.map { it.text }.toTypedArray()

        fun of(text: String): ArtifactChoice = entries.first { it.text == text }
    }
}

/**
 * Which of the manifest's artifacts runs, by its [place] there, the CPU's being the first, and what it is for.
 *
 * [fallback] is why it is not the one for [insteadOf], where the bundle has one that is to be preferred and it was not left out by choice.
 */
data class ArtifactInUse(
    val place: Int, val fallback: String? = null, val processor: Processor = if (place > 0) Processor.NPU else Processor.CPU, val insteadOf: Processor = Processor.NPU,
) {
    val isNpu: Boolean get() = processor == Processor.NPU

    companion object {
        val CPU = ArtifactInUse(0)
    }
}

/** Whether the bundle has what [choice] asks for. */
fun Manifest.has(choice: ArtifactChoice): Boolean = choice.processor == null || artifacts.any { it.processor == choice.processor }
