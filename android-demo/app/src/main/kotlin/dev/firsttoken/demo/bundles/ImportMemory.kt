package dev.firsttoken.demo.bundles

import android.net.Uri
import dev.firsttoken.core.json.AtomicFile
import java.io.File

/** Which document is being imported, on disk, so that an import whose process was killed is started again. */
class ImportMemory(private val file: File) {
    /** The document of an import that never ended. */
    val unfinished: Uri? get() = if (file.isFile) Uri.parse(file.readText().take(LONGEST)) else null

    fun begin(document: Uri) = AtomicFile.write(file, document.toString())

    fun end() {
        file.delete()
    }

    private companion object {
        const val LONGEST = 8192 // characters
    }
}
