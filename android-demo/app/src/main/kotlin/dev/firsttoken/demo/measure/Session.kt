package dev.firsttoken.demo.measure

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.benchmark.BenchmarkFolders
import dev.firsttoken.core.benchmark.Request
import dev.firsttoken.core.json.AtomicFile
import dev.firsttoken.core.measure.Measurement
import dev.firsttoken.core.measure.MeasurementMerge
import dev.firsttoken.core.measure.MeasurementReader
import java.io.File

/** The ids of the last benchmark started in the app, on disk, so that its results outlive the process. */
class Session(private val file: File, private val folders: () -> BenchmarkFolders) {
    val ids: List<String> get() = if (file.isFile) file.readLines().filter(Request::isKey) else emptyList()

    /** Starts anew; the files of the last one go. */
    fun begin() {
        val places = folders()
        for (id in ids) listOf(places.request(id), places.measurement(id), places.progress(id)).forEach { it.delete() }
        save(emptyList())
    }

    fun add(id: String) = save(ids + id)

    /** What is measured so far, as one measurement; files that cannot be read are left out. Not for the main thread. */
    fun results(): Measurement? {
        val places = folders()
        return MeasurementMerge.of(ids.map(places::measurement).filter { it.isFile }.mapNotNull(::readable))
    }

    private fun readable(measurement: File): Measurement? =
        try {
            MeasurementReader.read(measurement)
        } catch (damaged: FirstTokenException) { // an app of another version wrote it
            null
        }

    private fun save(ids: List<String>) {
        file.parentFile?.mkdirs()
        AtomicFile.write(file, ids.joinToString("") { "$it\n" })
    }
}
