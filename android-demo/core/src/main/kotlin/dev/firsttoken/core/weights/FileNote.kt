package dev.firsttoken.core.weights

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.bundle.BundleKey
import dev.firsttoken.core.json.AtomicFile
import dev.firsttoken.core.json.JsonFields
import dev.firsttoken.core.json.JsonText
import java.io.File
import java.io.IOException
import java.nio.file.Files
import java.nio.file.attribute.FileTime
import java.util.concurrent.TimeUnit

/** What a file was when its SHA-256 was taken, kept in the file [note]: its size and times, so that it is read again only where these have changed. */
internal class FileNote(private val note: File) {
    /** Notes [file] as it is now. Raises `IOException`. */
    fun write(file: File, sha256: String) = facts(file).let { (size, modified, changed) ->
        AtomicFile.write(note, """{"size": $size, "modified": $modified, "changed": $changed, "sha256": "$sha256"}""")
    }

    /** Whether [file] is as noted, or holds what it held then, which is noted anew. */
    fun holds(file: File): Boolean =
        try {
            val said = JsonText.readObject(note, LARGEST, "a note on a file")
            val (noted, sha256) = JsonFields.read(note.name, said) { listOf(long("size"), long("modified"), long("changed")) to text("sha256") }
            val facts = facts(file)
            noted == facts || (noted.first() == facts.first() && BundleKey.sha256(file) == sha256).also { if (it) write(file, sha256) }
        } catch (unknown: FirstTokenException) { // no note, or none that says anything
            false
        } catch (gone: IOException) {
            false
        }

    /** Size and times; any write changes the last, where the system tells it. */
    private fun facts(file: File): List<Long> {
        val path = file.toPath()
        val changed = try {
            (Files.getAttribute(path, "unix:ctime") as FileTime).to(TimeUnit.NANOSECONDS)
        } catch (unknown: UnsupportedOperationException) { // not told on this system
            0
        } catch (unknown: IllegalArgumentException) {
            0
        }
        return listOf(Files.size(path), Files.getLastModifiedTime(path).to(TimeUnit.NANOSECONDS), changed)
    }

    private companion object {
        const val LARGEST = 4096L // bytes
    }
}
