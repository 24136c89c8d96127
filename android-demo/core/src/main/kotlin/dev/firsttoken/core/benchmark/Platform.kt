package dev.firsttoken.core.benchmark

import dev.firsttoken.core.bundle.Bundle
import dev.firsttoken.core.bundle.Manifest
import dev.firsttoken.core.generate.ArtifactChoice
import dev.firsttoken.core.generate.ArtifactInUse
import dev.firsttoken.core.generate.Engine
import dev.firsttoken.core.measure.Conditions
import dev.firsttoken.core.measure.Device

/** The runtimes that this build of the app carries. */
interface Engines {
    /** Says in one sentence why this app or phone cannot run the bundle, or null where it can. */
    fun refusal(manifest: Manifest): String?

    /** The runtime's name and version, for the measurement. */
    fun runtimeVersion(manifest: Manifest): String

    /** Which of the bundle's artifacts would run here, as far as can be told without loading it; null where it has but one. */
    fun artifact(bundle: Bundle): ArtifactInUse? = null

    /**
     * Loads the artifact with [threads] threads. Where [choice] leaves it open and the NPU's or the GPU's does not load or run, the next
     * is taken, at last the CPU's; the engine says why. May raise anything that a runtime raises.
     */
    fun open(bundle: Bundle, threads: Int, choice: ArtifactChoice = ArtifactChoice.AUTO): Engine
}

/** What is known of the process and the phone at the end of a run; what cannot be read is null. */
class RunConditions(val peakMemoryBytes: Long? = null, val temperature: Double? = null, val thermalStatus: Int? = null)

/** The phone and its state. */
interface Phone {
    fun device(): Device

    fun conditions(): Conditions

    fun runConditions(): RunConditions
}

/** Where the first token is shown. */
fun interface Screen {
    /**
     * Shows [text] and waits for the frame that shows it. Returns when that frame was committed, in the clock's nanoseconds, or null
     * where no frame came.
     */
    fun show(text: String): Long?
}
