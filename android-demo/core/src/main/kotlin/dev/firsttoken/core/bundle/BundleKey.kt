package dev.firsttoken.core.bundle

import java.io.File
import java.security.MessageDigest

/** Hashes of files, and the key that names a bundle by them. */
object BundleKey {
    private const val BLOCK = 1 shl 20

    /** Returns the SHA-256 of [file] in hexadecimal digits. Raises `IOException`. */
    fun sha256(file: File): String {
        val digest = MessageDigest.getInstance("SHA-256")
        file.inputStream().use { stream ->
            val block = ByteArray(BLOCK)
            while (true) {
                val count = stream.read(block)
                if (count < 0) break
                digest.update(block, 0, count)
            }
        }
        return hex(digest.digest())
    }

    /** Returns the key of PROTOCOL.md: 32 digits of the SHA-256 over the lines `<sha256>  <name>`, sorted by name. */
    fun of(hashes: Map<String, String>): String {
        val lines = hashes.toSortedMap().entries.joinToString("") { (name, sha256) -> "$sha256  $name\n" }
        return hex(MessageDigest.getInstance("SHA-256").digest(lines.toByteArray(Charsets.UTF_8))).take(32)
    }

    private fun hex(bytes: ByteArray) = bytes.joinToString("") { "%02x".format(it) }
}
