package dev.firsttoken.demo.measure

import android.content.ContentProvider
import android.content.ContentValues
import android.content.Context
import android.database.Cursor
import android.database.MatrixCursor
import android.net.Uri
import android.os.ParcelFileDescriptor
import android.provider.OpenableColumns
import java.io.File
import java.io.FileNotFoundException

/** Gives the app that the user shares with the one measurement file, for reading, and nothing else. */
class MeasurementProvider : ContentProvider() {
    override fun onCreate(): Boolean = true

    override fun getType(uri: Uri): String = "application/json"

    override fun openFile(uri: Uri, mode: String): ParcelFileDescriptor {
        if (mode != "r" || uri.path != "/$NAME") throw FileNotFoundException("only $NAME may be read")
        return ParcelFileDescriptor.open(file(requireNotNull(context)), ParcelFileDescriptor.MODE_READ_ONLY)
    }

    override fun query(uri: Uri, projection: Array<String>?, selection: String?, arguments: Array<String>?, order: String?): Cursor {
        val columns = projection ?: arrayOf(OpenableColumns.DISPLAY_NAME, OpenableColumns.SIZE)
        val values = columns.map { if (it == OpenableColumns.DISPLAY_NAME) NAME else if (it == OpenableColumns.SIZE) file(requireNotNull(context)).length() else null }
        return MatrixCursor(columns).apply { addRow(values) }
    }

    override fun insert(uri: Uri, values: ContentValues?): Uri? = throw UnsupportedOperationException("read only")

    override fun update(uri: Uri, values: ContentValues?, selection: String?, arguments: Array<String>?): Int = throw UnsupportedOperationException("read only")

    override fun delete(uri: Uri, selection: String?, arguments: Array<String>?): Int = throw UnsupportedOperationException("read only")

    companion object {
        private const val NAME = "measurement.json"
        val URI: Uri = Uri.parse("content://dev.firsttoken.demo.measurements/$NAME")

        /** The file that is shared. */
        fun file(context: Context): File = File(File(context.filesDir, "shared").apply { mkdirs() }, NAME)
    }
}
