package dev.firsttoken.demo.bundles

import android.content.Context
import android.content.Intent
import android.net.Uri
import android.os.Handler
import android.util.Log
import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.bundle.BundleArchive
import java.io.File
import java.io.IOException
import java.util.concurrent.Executor
import java.util.concurrent.Executors
import java.util.concurrent.atomic.AtomicBoolean

/** How an import goes: bytes while it runs, a message once it has ended badly. [isAgain]: an earlier process was killed in the middle of it. */
data class ImportState(val isRunning: Boolean = false, val bytes: Long = 0, val message: String? = null, val isDone: Boolean = false, val isAgain: Boolean = false)

/**
 * Takes bundles out of documents that the user picked, one at a time, off the main thread; [ImportService] keeps the process alive meanwhile.
 *
 * A killed import starts from the beginning in the next process: a .zip cannot be entered in the middle.
 */
class ImportJob(
    private val context: Context,
    private val main: Handler,
    private val bundles: File,
    private val memory: ImportMemory,
    private val worker: Executor = Executors.newSingleThreadExecutor { Thread(it, "import") },
) {
    /** Main thread only. */
    var state = ImportState()
        private set
    private val watchers = LinkedHashSet<(ImportState) -> Unit>()
    private val cancelled = AtomicBoolean()

    /** Tells [watcher] the state now and every change, on the main thread. */
    fun watch(watcher: (ImportState) -> Unit) {
        watchers += watcher
        watcher(state)
    }

    fun unwatch(watcher: (ImportState) -> Unit) {
        watchers -= watcher
    }

    fun cancel() = cancelled.set(true)

    /** Starts importing [document]. Does nothing while another import runs. To be called from a screen in front. */
    fun start(document: Uri) = start(document, isAgain = false)

    /** Starts anew what an earlier process did not finish, if there is such a document. */
    fun resume() {
        if (state.isRunning) return
        worker.execute { memory.unfinished?.let { document -> main.post { start(document, isAgain = true) } } }
    }

    private fun start(document: Uri, isAgain: Boolean) {
        if (state.isRunning) return
        cancelled.set(false)
        tell(ImportState(isRunning = true, isAgain = isAgain))
        ImportService.start(context)
        worker.execute {
            val message = try {
                keepReadable(document)
                memory.begin(document)
                unpack(document)
                null
            } catch (failed: Throwable) {
                explain(failed)
            }
            memory.end()
            forget(document)
            main.post { tell(ImportState(message = message, isDone = message == null)) }
        }
    }

    /** The document comes from another app, whose provider may throw anything. Rethrows what this process cannot go on after. */
    private fun explain(failed: Throwable): String =
        when (failed) {
            is FirstTokenException -> failed.message.orEmpty()
            is IOException -> "the document cannot be read or written (${failed.message.orEmpty().take(200)}); free some space, or copy it again"
            is SecurityException -> "the document may not be read any more; pick it again" // the permission to read it has ended
            is RuntimeException -> "the app that holds the document failed (${failed.javaClass.simpleName}: ${failed.message.orEmpty().take(200)}); copy it to the phone's own storage and pick it there"
            is OutOfMemoryError -> "out of memory; close other apps, then import it again"
            else -> throw failed
        }

    private fun unpack(document: Uri) {
        bundles.mkdirs()
        val room = maxOf(0L, bundles.usableSpace - SPARE)
        val stream = context.contentResolver.openInputStream(document) ?: throw FirstTokenException("the document cannot be opened; copy it to the phone and pick it again")
        var told = 0L
        stream.use {
            BundleArchive(bundles, room).unpack(it) { bytes ->
                if (bytes - told >= STEP) {
                    told = bytes
                    main.post { if (state.isRunning) tell(state.copy(bytes = bytes)) }
                }
                !cancelled.get()
            }
        }
    }

    /** So that a later process may read it too. Not every provider offers that. */
    private fun keepReadable(document: Uri) {
        try {
            context.contentResolver.takePersistableUriPermission(document, Intent.FLAG_GRANT_READ_URI_PERMISSION)
        } catch (notOffered: RuntimeException) {
            Log.i("firsttoken", "an interrupted import of this document cannot be started again by itself", notOffered)
        }
    }

    private fun forget(document: Uri) {
        try {
            context.contentResolver.releasePersistableUriPermission(document, Intent.FLAG_GRANT_READ_URI_PERMISSION)
        } catch (neverTaken: RuntimeException) {
            Log.i("firsttoken", "no lasting permission to give back", neverTaken)
        }
    }

    private fun tell(state: ImportState) {
        this.state = state
        watchers.toList().forEach { it(state) }
    }

    private companion object {
        const val SPARE = 256L shl 20 // bytes that are left to the phone
        const val STEP = 8L shl 20 // bytes between two reports
    }
}
