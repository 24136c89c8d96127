package dev.firsttoken.core.weights

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.bundle.BundleKey
import java.io.File
import java.io.IOException
import java.nio.file.Files
import java.nio.file.StandardCopyOption
import java.util.concurrent.atomic.AtomicInteger

/**
 * Where XNNPACK keeps a model's packed weights between starts, as python/firsttoken/backends/tflite/weight_cache.py does.
 *
 * The runtime notices neither a stale, a half-written nor a damaged file. So the name carries the artifact's hash and [runtime] (name and version), a new file is packed
 * under another name and renamed when it is complete, and beside it lies a note of its size, times and SHA-256: a file that is no longer as noted is read once, and
 * packed anew unless its content is what it was. [folder] may be emptied by anyone, at any time that no model is loaded.
 *
 * A new file is read once more, for its hash, which no answer has to wait for: [later] may run that on another thread. Where the process ends before, the next start packs again.
 */
class WeightCache(private val folder: File, private val runtime: String, private val later: (() -> Unit) -> Unit = { it() }) {
    private val lock = Any()
    private val begun = AtomicInteger() // two loads of one process pack into a file each

    /**
     * Lets [load] load the artifact with the file of its packed weights, or with null, where the folder cannot be written or has no room for [artifactBytes] more: a
     * runtime that finds the disk full while it packs ends the process. Raises what [load] raises, and leaves no file that it has begun.
     */
    fun <T> load(artifactSha256: String, artifactBytes: Long, load: (File?) -> T): T {
        if (!folder.isDirectory && !folder.mkdirs()) return load(null)
        prune()
        val complete = file(artifactSha256)
        if (synchronized(lock) { isWhole(complete) }) {
            note(complete).setLastModified(System.currentTimeMillis()) // marks it as used
            return load(complete)
        }
        if (folder.usableSpace < (artifactBytes * COPIES).toLong() + MARGIN) return load(null)
        val partial = File(folder, "${complete.name}.${begun.incrementAndGet()}.${pid()}$PARTIAL")
        var isPacked = false
        try {
            val loaded = load(partial)
            isPacked = partial.length() > 0 // the runtime has it open and mapped already
            return loaded
        } finally {
            if (isPacked) later { keep(partial, complete) } else partial.delete()
        }
    }

    /**
     * Makes sure that [artifact] has this hash, by reading it where it has changed since that was made sure: a runtime may end the process over a damaged file, and
     * packed weights would stand for another's. Raises [FirstTokenException].
     */
    fun check(artifact: File, sha256: String) {
        val note = FileNote(File(folder, "$sha256$CHECKED$NOTE"))
        if (note.holds(artifact)) return
        try {
            if (BundleKey.sha256(artifact) != sha256) throw FirstTokenException("${artifact.name}: its SHA-256 is not the manifest's; it is damaged, copy the bundle again")
            if (folder.isDirectory || folder.mkdirs()) note.write(artifact, sha256)
        } catch (error: IOException) {
            throw FirstTokenException("${artifact.name}: cannot be read, or checked (${error.message}); copy the bundle again, or free some space")
        }
    }

    /**
     * Whether [ask] said yes to [file], which has this hash, now or at an earlier time since which it has not changed; [kind] says what was asked, in letters of a file's name. Raises what
     * [ask] raises.
     */
    fun once(file: File, sha256: String, kind: String, ask: () -> Boolean): Boolean {
        val note = FileNote(File(folder, "$sha256.$kind$CHECKED$NOTE"))
        if (note.holds(file)) return true
        if (!ask()) return false
        try {
            if (folder.isDirectory || folder.mkdirs()) note.write(file, sha256)
        } catch (full: IOException) {
            return true // it is asked again next time
        }
        return true
    }

    /** Where an artifact's packed weights lie once they are packed. */
    fun file(artifactSha256: String) = File(folder, "$artifactSha256.$runtime$PACKED")

    /** Where that fails the next start packs again. */
    private fun keep(partial: File, complete: File) {
        try {
            val sha256 = BundleKey.sha256(partial)
            synchronized(lock) {
                note(complete).delete() // of an older file: it must not stand beside the new one
                Files.move(partial.toPath(), complete.toPath(), StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING)
                FileNote(note(complete)).write(complete, sha256)
            }
        } catch (error: IOException) {
            synchronized(lock) { remove(complete) }
        } finally {
            partial.delete()
        }
        prune()
    }

    /** Whether the file is as it was packed; one that is not is removed, with its note. */
    private fun isWhole(packed: File) = FileNote(note(packed)).holds(packed) || remove(packed)

    private fun remove(packed: File): Boolean {
        packed.delete()
        note(packed).delete()
        return false
    }

    /** Removes what processes that died while packing left, notes without a file, and the least recently used files past [KEPT]. */
    private fun prune() {
        val files = folder.listFiles().orEmpty()
        for (file in files) {
            val name = file.name
            if (name.endsWith(PARTIAL) && !File("/proc/${name.removeSuffix(PARTIAL).substringAfterLast('.')}").exists()) file.delete()
            if (name.endsWith(PACKED + NOTE) && !File(folder, name.removeSuffix(NOTE)).exists()) file.delete()
        }
        files.filter { it.name.endsWith(CHECKED + NOTE) }.sortedByDescending { it.lastModified() }.drop(KEPT_NOTES).forEach { it.delete() }
        files.filter { it.name.endsWith(PACKED) }.sortedByDescending { note(it).lastModified() }.drop(KEPT).forEach { remove(it) }
    }

    private fun note(packed: File) = File(folder, packed.name + NOTE)

    private fun pid() = File("/proc/self").canonicalFile.name

    companion object {
        const val KEPT = 4 // files; one is about as large as its artifact, so the least recently used ones go
        private const val KEPT_NOTES = 64
        private const val CHECKED = ".artifact"
        private const val PACKED = ".cache"
        private const val NOTE = ".json"
        private const val PARTIAL = ".partial"
        private const val COPIES = 1.15 // of an artifact's bytes: what its packed file takes, measured, and erring upwards
        private const val MARGIN = 8L shl 20
    }
}
