package dev.firsttoken.demo

import android.content.Context
import dev.firsttoken.core.benchmark.BenchmarkFolders
import java.io.File

/** The app's folders. [staging] is filled by the command `firsttoken device`; the rest is the app's own. */
class AppFolders(context: Context, private val staging: File = File("/data/local/tmp/firsttoken"), private val mediaFolders: () -> Array<out File?> = { mediaFolders(context) }) {
    /** Bundles that the command has pushed. */
    val staged: File get() = File(staging, "bundles")

    /** Bundles imported from a document. */
    val imported = File(context.filesDir, "bundles")

    /** Requests and measurements of benchmarks started in the app. */
    val ownRequests = File(context.filesDir, "requests")
    val ownMeasurements = File(context.filesDir, "measurements")

    /** Where the command reads measurements from, or null while the phone's shared storage is away. */
    val media: File? get() = mediaFolders().firstOrNull { it != null }

    /** What PROTOCOL.md names. */
    fun protocol(): BenchmarkFolders? = media?.let { BenchmarkFolders(staging, File(it, "measurements")) }

    /** The same for benchmarks started in the app, which may also run imported bundles. */
    fun own(): BenchmarkFolders {
        ownRequests.mkdirs()
        return BenchmarkFolders(ownRequests, listOf(staged, imported), ownMeasurements)
    }

    private companion object {
        @Suppress("DEPRECATION") // adb reads this folder on every version; nothing newer is so
        fun mediaFolders(context: Context): Array<out File?> = context.externalMediaDirs
    }
}
