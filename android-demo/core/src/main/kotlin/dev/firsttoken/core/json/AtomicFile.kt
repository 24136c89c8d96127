package dev.firsttoken.core.json

import java.io.File
import java.io.FileOutputStream
import java.nio.file.Files
import java.nio.file.StandardCopyOption

/** A file that appears complete or not at all. */
object AtomicFile {
    /** Writes [text] as UTF-8 under a temporary name, onto the disk, and renames it. Raises `IOException`; an older file then stays as it was. */
    fun write(file: File, text: String) {
        val temporary = File(file.parentFile, ".${file.name}.partial")
        try {
            FileOutputStream(temporary).use { stream ->
                stream.write(text.toByteArray(Charsets.UTF_8))
                stream.fd.sync()
            }
            Files.move(temporary.toPath(), file.toPath(), StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING)
        } finally {
            temporary.delete()
        }
    }
}
