package dev.firsttoken.core.benchmark

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.bundle.Manifest
import dev.firsttoken.core.generate.ArtifactInUse
import dev.firsttoken.core.generate.Clock
import dev.firsttoken.core.generate.RunnerInUse
import dev.firsttoken.core.measure.BundleIdentity
import dev.firsttoken.core.measure.Conditions
import dev.firsttoken.core.measure.Device
import dev.firsttoken.core.measure.Failure
import dev.firsttoken.core.measure.Measurement
import dev.firsttoken.core.measure.MeasurementReader
import dev.firsttoken.core.measure.MeasurementText
import dev.firsttoken.core.measure.RanArtifact
import dev.firsttoken.core.measure.Result
import dev.firsttoken.core.measure.Run
import dev.firsttoken.core.measure.Writer
import java.io.File
import java.time.DateTimeException
import java.time.Duration
import java.time.Instant
import java.time.OffsetDateTime

/**
 * The measurement file of a request: rewritten as a whole after every run, so a kill loses at most the run it was in.
 *
 * Runs that an earlier process has written are kept; its failures are not, since what failed is tried again.
 */
internal class MeasurementLog private constructor(
    private val file: File,
    private val writer: Writer,
    private val device: Device,
    private val manifest: Manifest,
    private val empty: Result,
    kept: List<Run>,
    private var artifact: RanArtifact?,
    private var runner: RunnerInUse?,
    private val clock: Clock,
) {
    private val mutableRuns = kept.toMutableList()
    private val isContinued = kept.isNotEmpty()
    private val mutableFailures = ArrayList<Failure>()
    private val began = clock.nanoTime()
    private val earlier = secondsSince(empty.before.time, kept)

    val runs: List<Run> get() = mutableRuns
    val failures: List<Failure> get() = mutableFailures

    /** How many runs of a prompt of [tokens] tokens there are. */
    fun count(tokens: Int, state: String): Int = mutableRuns.count { it.promptTokens == tokens && it.state == state }

    /** Seconds since the measurement started, in whichever process that was. */
    fun seconds(): Double = earlier + (clock.nanoTime() - began) / 1e9

    fun add(run: Run) {
        mutableRuns += run
        write(null)
    }

    fun add(failure: Failure) {
        mutableFailures += failure
        write(null)
    }

    /** Notes which artifact runs, and how its runtime is called. Raises [FirstTokenException] where an earlier process has written runs of the other one, or other way. */
    fun ran(inUse: ArtifactInUse, called: RunnerInUse?) {
        val before = runner
        if (isContinued && before != null && called != null && before.kind != called.kind) {
            val reason = called.fallback?.let { " ($it)" }.orEmpty()
            throw FirstTokenException("${file.name}: its runs are the ${before.kind} runner's, but now the ${called.kind} one runs$reason; start a request with another id")
        }
        runner = called
        val now = RanArtifact.of(manifest, inUse) ?: return
        val was = artifact
        if (isContinued && was != null && was.kind != now.kind) {
            val reason = inUse.fallback?.let { " ($it)" }.orEmpty()
            throw FirstTokenException("${file.name}: its runs are the ${was.kind.uppercase()} artifact's, but now the ${now.kind.uppercase()}'s runs$reason; start a request with another id")
        }
        artifact = now
    }

    fun end(after: Conditions) = write(after)

    private fun write(after: Conditions?) {
        val result = with(empty) { Result(bundle, runtimeVersion, threads, chat, before, after, runs = mutableRuns, failures = mutableFailures, artifact = this@MeasurementLog.artifact, runner = this@MeasurementLog.runner) }
        MeasurementText.write(Measurement(writer, device, listOf(result)), file)
    }

    private fun secondsSince(time: String, kept: List<Run>): Double {
        if (kept.isEmpty()) return 0.0
        val last = kept.maxOf { it.atSeconds }
        return try {
            maxOf(last, Duration.between(OffsetDateTime.parse(time).toInstant(), Instant.ofEpochMilli(clock.wallMillis())).toMillis() / 1e3)
        } catch (error: DateTimeException) { // a time that another program wrote in another way
            last
        }
    }

    companion object {
        /** Opens the file, or starts one with the conditions of now. Raises [FirstTokenException] for a file about something else. */
        fun open(file: File, request: Request, manifest: Manifest, runtimeVersion: String, writer: Writer, phone: Phone, clock: Clock): MeasurementLog {
            val old = if (file.exists()) MeasurementReader.read(file).results else emptyList()
            val before = old.firstOrNull()?.before ?: phone.conditions()
            val identity = BundleIdentity.of(request.bundle, manifest)
            val fresh = Result(identity, runtimeVersion, request.threads, request.chat, before, after = null, runs = emptyList(), failures = emptyList())
            for (result in old) checkSame(file, result, fresh)
            if (old.size > 1) throw FirstTokenException("${file.name}: holds ${old.size} results, expected 1; remove it with `firsttoken device clean`")
            return MeasurementLog(file, writer, phone.device(), manifest, fresh, old.flatMap { it.runs }, old.firstOrNull()?.artifact, old.firstOrNull()?.runner, clock)
        }

        private fun checkSame(file: File, old: Result, fresh: Result) {
            val differences = listOf(
                Triple("bundle", old.bundle.name, fresh.bundle.name),
                Triple("artifact", old.bundle.artifactSha256, fresh.bundle.artifactSha256),
                Triple("runtime", old.runtimeVersion, fresh.runtimeVersion),
                Triple("number of threads", old.threads, fresh.threads),
                Triple("chat", old.chat, fresh.chat),
            )
            val (what, was, now) = differences.firstOrNull { it.second != it.third } ?: return
            throw FirstTokenException("${file.name}: its $what is $was, but the request's is $now; start a request with another id")
        }
    }
}
