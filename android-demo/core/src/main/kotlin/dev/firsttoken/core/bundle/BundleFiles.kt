package dev.firsttoken.core.bundle

import dev.firsttoken.core.FirstTokenException
import java.io.File

/** Whether a folder holds just the files that its manifest names, byte for byte. */
object BundleFiles {
    /**
     * Returns the SHA-256 of every file of [folder], the manifest's too. It reads all of them: not for the main thread.
     *
     * Raises [FirstTokenException] naming a file that is missing, not named, of another size or another hash; `IOException` where one cannot be read.
     */
    fun check(folder: File, manifest: Manifest): Map<String, String> {
        val wanted = manifest.files.keys + MANIFEST_FILE
        val found = folder.list().orEmpty().toSet()
        (found - wanted).firstOrNull()?.let { throw FirstTokenException("the archive holds $it, which its manifest does not name; zip only the bundle's files") }
        (wanted - found).firstOrNull()?.let { throw FirstTokenException("$it: missing from the archive; zip all files of the bundle") }
        for ((name, facts) in manifest.files) checkSize(File(folder, name), facts) // of all, before any is hashed
        return wanted.associateWith { name ->
            BundleKey.sha256(File(folder, name)).also {
                if (it != (manifest.files[name]?.sha256 ?: it)) throw FirstTokenException("$name: its SHA-256 is not the manifest's; the archive is damaged, make it again")
            }
        }
    }

    /** Raises [FirstTokenException] for a file that is missing or not of the manifest's size. */
    fun checkSize(file: File, facts: FileFacts) {
        if (!file.isFile) throw FirstTokenException("${file.name}: missing from the bundle; copy the bundle again")
        if (file.length() != facts.bytes) throw FirstTokenException("${file.name}: ${file.length()} bytes, but the manifest says ${facts.bytes}; copy the bundle again")
    }
}
