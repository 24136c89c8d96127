package dev.firsttoken.core.measure

import java.time.DateTimeException
import java.time.Duration
import java.time.OffsetDateTime

/** Several measurement files of one phone as one: cold runs come from a process each, and so from a file each. */
object MeasurementMerge {
    /** Returns one measurement, in which runs of the same bundle with the same settings are one result, or null for none. */
    fun of(measurements: List<Measurement>): Measurement? {
        val first = measurements.firstOrNull() ?: return null
        val same = measurements.flatMap { it.results }.groupBy { listOf(it.bundle.name, it.bundle.artifactSha256, it.runtimeVersion, it.threads, it.chat, it.artifact?.kind, it.runner?.kind) }
        return Measurement(first.writer, first.device, same.values.map(::merged))
    }

    private fun merged(results: List<Result>): Result {
        val first = results.first()
        return Result(
            bundle = first.bundle,
            runtimeVersion = first.runtimeVersion,
            threads = first.threads,
            chat = first.chat,
            before = first.before,
            after = results.last().after,
            runs = results.flatMap { result -> seconds(first.before.time, result.before.time).let { later -> result.runs.map { it.after(later) } } },
            failures = results.flatMap { it.failures },
            artifact = first.artifact,
            runner = first.runner,
        )
    }

    private fun seconds(from: String, to: String): Double =
        try {
            maxOf(0.0, Duration.between(OffsetDateTime.parse(from), OffsetDateTime.parse(to)).toMillis() / 1e3)
        } catch (error: DateTimeException) { // a time that another program wrote in another way
            0.0
        }

    private fun Run.after(seconds: Double) =
        Run(promptTokens, state, pageCache, atSeconds + seconds, stages, decode, peakMemoryBytes, temperature, thermalStatus, otherLoad, turn, cachedTokens, firstAnswer)
}
