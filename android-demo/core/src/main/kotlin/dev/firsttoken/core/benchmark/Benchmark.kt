package dev.firsttoken.core.benchmark

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.bundle.Bundle
import dev.firsttoken.core.generate.Clock
import dev.firsttoken.core.generate.SystemClock
import dev.firsttoken.core.generate.has
import dev.firsttoken.core.measure.Failure
import dev.firsttoken.core.measure.Writer
import java.io.IOException

/** Everything of the app that a benchmark needs. [cancelled] is asked after every token. */
class BenchmarkHost(
    val folders: BenchmarkFolders,
    val engines: Engines,
    val phone: Phone,
    val screen: Screen,
    val writer: Writer,
    val pid: Int,
    val clock: Clock = SystemClock,
    val cancelled: () -> Boolean = { false },
)

/** Carries out benchmark requests as PROTOCOL.md says. Not on the main thread: it waits for frames. */
class Benchmark(private val host: BenchmarkHost) {
    /**
     * Carries out request [id]; how it went is in its progress and measurement files.
     *
     * A run that fails is noted and the other prompts go on. Raises [FirstTokenException] for an id that is none, and `IOException`
     * where the files cannot be written.
     */
    fun carryOut(id: String) {
        val load = LoadTimer(host.clock)
        ProgressFile(host.folders.progress(id), host.clock).use { progress ->
            try {
                carryOut(id, load, progress)
            } catch (refusal: FirstTokenException) {
                progress.refused(refusal.message.orEmpty())
            } catch (error: IOException) {
                progress.refused("the measurement cannot be written (${error.message}); free some space on the phone")
            }
        }
    }

    /** Notes that request [id] is not carried out: another benchmark is running, the phone is locked. */
    fun refuse(id: String, message: String) = ProgressFile(host.folders.progress(id), host.clock).use { it.refused(message) }

    private fun carryOut(id: String, load: LoadTimer, progress: ProgressFile) {
        val request = Request.read(host.folders.request(id), id)
        val bundle = Bundle.open(host.folders.bundle(request.bundle))
        load.pause()
        host.engines.refusal(bundle.manifest)?.let { throw FirstTokenException(it) }
        if (request.chat && bundle.manifest.chat == null) throw FirstTokenException("bundle of '${bundle.manifest.checkpoint.name}' has no chat template; leave out chat")
        if (!bundle.manifest.has(request.artifact)) throw FirstTokenException("bundle of '${bundle.manifest.checkpoint.name}' has no ${request.artifact} artifact; ask for auto or cpu")
        val version = host.engines.runtimeVersion(bundle.manifest)
        val log = MeasurementLog.open(host.folders.measurement(id), request, bundle.manifest, version, host.writer, host.phone, host.clock)
        val plan = RunPlan(request, log)
        progress.started(host.pid, plan.total, plan.kept)
        if (plan.total > 0) run(request, bundle, load, log, plan, progress)
        log.end(host.phone.conditions())
        progress.done(log.runs.size, log.failures.size)
    }

    private fun run(request: Request, bundle: Bundle, load: LoadTimer, log: MeasurementLog, plan: RunPlan, progress: ProgressFile) {
        progress.phase("loading")
        val loaded = try {
            load.resume()
            val tokenizer = bundle.openTokenizer()
            bundle.artifact()
            tokenizer to host.engines.open(bundle, request.threads, request.artifact).also { load.pause() }
        } catch (error: Throwable) {
            val message = failureMessage(error)
            log.add(Failure("load", message))
            progress.failed(null, "load", message)
            return
        }
        val (tokenizer, first) = loaded
        log.ran(first.artifact, first.runner)
        LoadedEngine(first) { host.engines.open(bundle, request.threads, request.artifact) }.use { engine ->
            BenchmarkRuns(host, request, engine, tokenizer, load.spent, log, plan, progress).all()
        }
    }
}

/** Says in one line why something failed. Rethrows what no run can go on after. */
fun failureMessage(error: Throwable): String =
    when (error) {
        is FirstTokenException -> error.message.orEmpty()
        is OutOfMemoryError -> "out of memory; close other apps, or measure a smaller bundle"
        // a runtime's library that does not load is a LinkageError; a tokenizer's pattern may overflow the stack
        is Exception, is LinkageError, is StackOverflowError -> "${error.javaClass.simpleName}: ${told(error.message.orEmpty())}"
        else -> throw error
    }

/** A native message in one line: TensorFlow Lite says on the first what it was doing, and the failing operator on a later one. */
private fun told(message: String) = message.lineSequence().map(String::trim).filter(String::isNotEmpty).joinToString("; ").removePrefix("Internal error: ").take(300)
