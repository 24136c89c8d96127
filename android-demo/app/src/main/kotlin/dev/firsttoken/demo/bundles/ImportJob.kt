package dev.firsttoken.demo.bundles

import android.content.Context
import android.net.Uri
import android.os.Handler
import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.bundle.BundleArchive
import java.io.File
import java.io.IOException
import java.util.concurrent.Executor
import java.util.concurrent.Executors
import java.util.concurrent.atomic.AtomicBoolean

/** How an import goes: bytes while it runs, a message once it has ended. */
data class ImportState(val isRunning: Boolean = false, val bytes: Long = 0, val message: String? = null, val isDone: Boolean = false)

/** Takes bundles out of documents that the user picked, one at a time, off the main thread. */
class ImportJob(
    private val context: Context,
    private val main: Handler,
    private val bundles: File,
    private val worker: Executor = Executors.newSingleThreadExecutor { Thread(it, "import") },
) {
    /** Main thread only. */
    var state = ImportState()
        private set
    private var watcher: ((ImportState) -> Unit)? = null
    private val cancelled = AtomicBoolean()

    fun watch(watcher: ((ImportState) -> Unit)?) {
        this.watcher = watcher
        watcher?.invoke(state)
    }

    fun cancel() = cancelled.set(true)

    /** Starts importing [document]. Does nothing while another import runs. */
    fun start(document: Uri) {
        if (state.isRunning) return
        cancelled.set(false)
        tell(ImportState(isRunning = true))
        worker.execute {
            val end = try {
                unpack(document)
                ImportState(isDone = true)
            } catch (refusal: FirstTokenException) {
                ImportState(message = refusal.message)
            } catch (error: IOException) {
                ImportState(message = "the document cannot be read or written (${error.message.orEmpty().take(200)}); free some space, or copy it again")
            } catch (error: SecurityException) { // the permission to read it has ended
                ImportState(message = "the document may not be read any more; pick it again")
            }
            main.post { tell(end) }
        }
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
                    main.post { if (state.isRunning) tell(ImportState(isRunning = true, bytes = bytes)) }
                }
                !cancelled.get()
            }
        }
    }

    private fun tell(state: ImportState) {
        this.state = state
        watcher?.invoke(state)
    }

    private companion object {
        const val SPARE = 256L shl 20 // bytes that are left to the phone
        const val STEP = 8L shl 20 // bytes between two reports
    }
}
