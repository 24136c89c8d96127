package dev.firsttoken.core.bundle

import dev.firsttoken.core.FirstTokenException
import java.io.File
import java.io.IOException
import java.io.InputStream
import java.util.zip.ZipException
import java.util.zip.ZipInputStream

/**
 * Takes a bundle out of a .zip archive, which is untrusted: names, number and size of its members are checked before anything is
 * written, and every file's size and hash before the bundle appears.
 *
 * [bundles] is the folder that the bundle will lie in, under its key; [largest] bounds the bytes of all members together.
 */
class BundleArchive(private val bundles: File, private val largest: Long) {
    /**
     * Unpacks [stream] and returns the bundle's folder. [progress] gets the bytes written so far and answers whether to go on.
     *
     * Raises [FirstTokenException] for an archive that is none, holds other files than a bundle's or a damaged one, and where it was
     * cancelled; `IOException` where it cannot be read or written. Nothing is left behind then.
     */
    fun unpack(stream: InputStream, progress: (Long) -> Boolean = { true }): File {
        val partial = File(bundles, ".import.partial")
        try {
            partial.deleteRecursively()
            if (!partial.mkdirs()) throw IOException("folder ${bundles.name} cannot be written")
            members(stream, partial, progress)
            return finished(partial)
        } catch (error: ZipException) {
            throw FirstTokenException("the archive is damaged (${error.message}); copy it again")
        } finally {
            partial.deleteRecursively()
        }
    }

    private fun members(stream: InputStream, into: File, progress: (Long) -> Boolean) {
        var left = largest
        val names = HashSet<String>()
        ZipInputStream(stream).use { zip ->
            while (true) {
                val entry = try {
                    zip.nextEntry
                } catch (error: IllegalArgumentException) { // Java's word for a name that is no UTF-8
                    throw FirstTokenException("the archive is damaged (${error.message}); copy it again")
                } ?: break
                if (entry.isDirectory) continue
                val name = plainName(entry.name)
                if (names.size == MOST_MEMBERS) throw FirstTokenException("the archive holds more than $MOST_MEMBERS files; expected one bundle")
                if (!names.add(name)) throw FirstTokenException("the archive holds $name twice; expected the files of one bundle")
                left = copy(zip, File(into, name), left, progress)
            }
        }
        if (names.isEmpty()) throw FirstTokenException("not a .zip archive of a bundle; expected the files that `firsttoken export` wrote, zipped")
    }

    private fun copy(zip: ZipInputStream, file: File, left: Long, progress: (Long) -> Boolean): Long {
        var room = left
        file.outputStream().use { out ->
            val block = ByteArray(BLOCK)
            while (true) {
                val count = zip.read(block)
                if (count < 0) break
                room -= count
                if (room < 0) throw FirstTokenException("the archive unpacks to more than ${largest shr 20} MiB, which is what this phone has room for; free some space, or import a smaller bundle")
                out.write(block, 0, count)
                if (!progress(largest - room)) throw FirstTokenException("the import was cancelled")
            }
        }
        return room
    }

    /** A member may lie in one folder, as when a whole folder was zipped; nothing else of its path is used. */
    private fun plainName(path: String): String {
        val parts = path.split('/')
        val name = parts.last()
        if (parts.size > 2 || parts.any { it.isEmpty() || it == "." || it == ".." || '\\' in it || it.any(Char::isISOControl) } || name.length > LONGEST_NAME) {
            throw FirstTokenException("the archive holds '${path.take(80)}'; expected the plain files of one bundle")
        }
        return name
    }

    private fun finished(partial: File): File {
        val hashes = BundleFiles.check(partial, ManifestReader.read(partial))
        val folder = File(bundles, BundleKey.of(hashes))
        if (File(folder, MANIFEST_FILE).isFile) return folder // the same bytes are already here
        folder.deleteRecursively()
        if (!partial.renameTo(folder)) throw IOException("${folder.name} cannot be written")
        return folder
    }

    private companion object {
        const val BLOCK = 1 shl 18
        const val MOST_MEMBERS = 64
        const val LONGEST_NAME = 128
    }
}
