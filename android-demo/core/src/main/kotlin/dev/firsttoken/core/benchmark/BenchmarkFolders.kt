package dev.firsttoken.core.benchmark

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.bundle.MANIFEST_FILE
import java.io.File

/**
 * Where requests and bundles are read from and measurements written to.
 *
 * Paths are made from checked keys only, so nothing outside [requests], [bundles] and [measurements] is ever opened. A bundle is
 * looked for in every folder of [bundles], in their order.
 */
class BenchmarkFolders(private val requests: File, private val bundles: List<File>, private val measurements: File) {
    /** The folders of PROTOCOL.md: requests and bundles lie in [staging]. */
    constructor(staging: File, measurements: File) : this(File(staging, "requests"), listOf(File(staging, "bundles")), measurements)

    fun request(id: String): File = File(requests, "${checked("id", id)}.json")

    fun bundle(key: String): File {
        checked("bundle", key)
        val places = bundles.map { File(it, key) }
        return places.firstOrNull { File(it, MANIFEST_FILE).isFile } ?: places.first()
    }

    fun measurement(id: String): File = File(made(), "${checked("id", id)}.json")

    fun progress(id: String): File = File(made(), "${checked("id", id)}.progress")

    private fun made(): File {
        if (!measurements.isDirectory && !measurements.mkdirs() && !measurements.isDirectory) throw FirstTokenException("folder ${measurements.name} cannot be made; free some space on the phone")
        return measurements
    }

    private fun checked(what: String, key: String): String =
        if (Request.isKey(key)) key else throw FirstTokenException("$what is '${key.take(40)}'; expected 32 hexadecimal digits")
}
