package dev.firsttoken.demo.answer

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.benchmark.Engines
import dev.firsttoken.core.benchmark.Phone
import dev.firsttoken.core.generate.GenerationStatistics
import dev.firsttoken.core.measure.BundleIdentity
import dev.firsttoken.core.measure.Conditions
import dev.firsttoken.core.measure.Decode
import dev.firsttoken.core.measure.Measurement
import dev.firsttoken.core.measure.MeasurementMerge
import dev.firsttoken.core.measure.MeasurementReader
import dev.firsttoken.core.measure.MeasurementText
import dev.firsttoken.core.measure.RanArtifact
import dev.firsttoken.core.measure.Result
import dev.firsttoken.core.measure.Run
import dev.firsttoken.core.measure.Writer
import dev.firsttoken.core.chat.Turn
import java.io.File
import java.io.IOException

/** The turns of the conversation as a measurement file, one run a turn. Not for the main thread. */
class ConversationLog(private val file: File, private val phone: Phone, private val engines: Engines, private val writer: Writer) {
    /** The phone's conditions, to be taken before a turn. */
    fun conditions(): Conditions = phone.conditions()

    /** Adds [turn], number [number] of the conversation; [isFirst]: no model was loaded in this process before. Where the phone has no space the older turns stay. */
    fun add(ready: LoadedBundle.Ready, turn: Turn, number: Int, isFirst: Boolean, statistics: GenerationStatistics, before: Conditions) {
        val stages = turn.stages ?: return // it never got to a first token
        val now = phone.runConditions()
        val run = Run(
            promptTokens = turn.promptTokens,
            state = if (stages.load == null) "warm" else if (isFirst) "cold" else "warm-up",
            pageCache = if (stages.load == null) "cached" else "unknown",
            atSeconds = 0.0,
            stages = stages,
            decode = if (statistics.newTokens > 1) Decode(statistics.newTokens - 1, maxOf(1, statistics.decode)) else null,
            peakMemoryBytes = now.peakMemoryBytes,
            temperature = now.temperature,
            thermalStatus = now.thermalStatus,
            turn = number,
            cachedTokens = turn.cachedTokens,
            firstAnswer = turn.firstAnswer,
        )
        val manifest = ready.bundle.manifest
        val result = Result(
            BundleIdentity.of(ready.folder.name, manifest), engines.runtimeVersion(manifest), ready.threads, manifest.chat != null, before, phone.conditions(),
            listOf(run), emptyList(), turn.artifact?.let { RanArtifact.of(manifest, it) }, turn.runner,
        )
        write(MeasurementMerge.of(listOfNotNull(measurement(), Measurement(writer, phone.device(), listOf(result)))) ?: return)
    }

    /** What is measured so far, or null where nothing is. */
    fun measurement(): Measurement? =
        try {
            if (file.isFile) MeasurementReader.read(file) else null
        } catch (damaged: FirstTokenException) { // an app of another version wrote it
            null
        }

    fun forget() {
        file.delete()
    }

    private fun write(measurement: Measurement) {
        try {
            MeasurementText.write(measurement, file)
        } catch (full: IOException) {
            return // the conversation goes on; the file says of how many turns it is
        }
    }
}
