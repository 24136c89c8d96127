package dev.firsttoken.demo

import android.content.Context
import android.os.Handler
import android.os.Looper
import dev.firsttoken.core.benchmark.BenchmarkFolders
import dev.firsttoken.core.benchmark.BenchmarkHost
import dev.firsttoken.core.benchmark.Engines
import dev.firsttoken.core.benchmark.Phone
import dev.firsttoken.core.chat.ConversationFile
import dev.firsttoken.core.measure.Writer
import dev.firsttoken.demo.answer.AnswerJob
import dev.firsttoken.demo.answer.AnswerMemory
import dev.firsttoken.demo.answer.ConversationLog
import dev.firsttoken.demo.answer.LoadedBundle
import dev.firsttoken.demo.bundles.BundleLibrary
import dev.firsttoken.demo.bundles.ImportJob
import dev.firsttoken.demo.bundles.ImportMemory
import dev.firsttoken.demo.measure.HeadlessBenchmark
import dev.firsttoken.demo.measure.MeasureJob
import dev.firsttoken.demo.screen.Frames
import dev.firsttoken.demo.screen.ScreenSlot
import java.io.File
import java.util.concurrent.ExecutorService
import java.util.concurrent.Executors

/** What outlives a screen: jobs go on while the phone is turned. One per process. */
class Services(
    context: Context,
    val engines: Engines,
    val phone: Phone,
    val folders: AppFolders,
    isLocked: () -> Boolean,
    /** How a screen learns of its frames. */
    val frames: Frames = Frames.ofThisAndroid(),
    /** One thread, since one engine takes the whole phone. */
    val worker: ExecutorService = Executors.newSingleThreadExecutor { Thread(it, "engine") },
) {
    private val main = Handler(Looper.getMainLooper())

    /** Where a first token is shown, whichever screen is in front. */
    val screen = ScreenSlot()
    val library = BundleLibrary(folders, engines)
    val loaded = LoadedBundle(engines)
    private val writer = Writer("firsttoken demo app", BuildFacts.VERSION)
    val answers = AnswerJob(
        worker, main, loaded, screen, AnswerMemory(ConversationFile(File(context.filesDir, "conversation.json"))),
        ConversationLog(File(context.filesDir, "conversation.measurement.json"), phone, engines, writer),
    )
    val imports = ImportJob(context.applicationContext, main, folders.imported, ImportMemory(File(context.filesDir, "import.txt")))

    /** Small reads that the main thread must not wait for. */
    val reader: ExecutorService = Executors.newSingleThreadExecutor { Thread(it, "reader") }
    val headless = HeadlessBenchmark(worker, loaded, folders::protocol, isLocked, { measures.state.isRunning }, ::host)

    /** The same for cold runs that the app starts itself, in the process of their own. */
    val ownHeadless = HeadlessBenchmark(worker, loaded, folders::own, { false }, { false }, ::host)
    val measures = MeasureJob(context.applicationContext, worker, main, loaded, folders, screen::isInFront, ::host)

    /** Whether a benchmark has the engine's thread. Main thread. */
    val isMeasuring: Boolean get() = measures.state.isRunning || headless.isRunning

    private fun host(folders: BenchmarkFolders, cancelled: () -> Boolean) =
        BenchmarkHost(folders, engines, phone, screen, writer, android.os.Process.myPid(), cancelled = cancelled)
}
