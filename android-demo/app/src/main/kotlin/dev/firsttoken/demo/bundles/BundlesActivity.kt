package dev.firsttoken.demo.bundles

import android.app.Activity
import android.app.AlertDialog
import android.content.Intent
import android.os.Bundle
import android.view.View
import android.widget.Button
import android.widget.LinearLayout
import android.widget.TextView
import dev.firsttoken.demo.R
import dev.firsttoken.demo.answer.TryActivity
import dev.firsttoken.demo.measure.MeasureActivity
import dev.firsttoken.demo.services
import dev.firsttoken.demo.view.Numbers
import dev.firsttoken.demo.view.showAppBar

/** The first screen: which bundles are on the phone. */
class BundlesActivity : Activity() {
    private lateinit var list: LinearLayout
    private lateinit var empty: TextView
    private lateinit var message: TextView
    private lateinit var import: Button
    private lateinit var stop: Button
    private lateinit var measure: Button
    private val importWatcher: (ImportState) -> Unit = ::showImport

    override fun onCreate(saved: Bundle?) {
        super.onCreate(saved)
        setContentView(R.layout.activity_bundles)
        showAppBar(getString(R.string.bundles_title), hasUp = false)
        list = findViewById(R.id.bundles)
        empty = findViewById(R.id.empty)
        message = findViewById(R.id.message)
        import = findViewById(R.id.import_bundle)
        stop = findViewById(R.id.stop_import)
        measure = findViewById(R.id.measure)
        import.setOnClickListener { pick() }
        stop.setOnClickListener { services.imports.cancel() }
        measure.setOnClickListener { startActivity(Intent(this, MeasureActivity::class.java)) }
    }

    override fun onStart() {
        super.onStart()
        services.imports.watch(importWatcher)
        services.imports.resume()
        refresh()
    }

    override fun onStop() {
        super.onStop()
        services.imports.unwatch(importWatcher)
    }

    @Deprecated("the platform's own way; its successor is in AndroidX")
    override fun onActivityResult(request: Int, result: Int, data: Intent?) {
        val document = data?.data
        if (request == PICK && result == RESULT_OK && document != null) services.imports.start(document)
    }

    private fun pick() {
        val intent = Intent(Intent.ACTION_OPEN_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE).setType("*/*").putExtra(Intent.EXTRA_MIME_TYPES, ARCHIVES)
        try {
            @Suppress("DEPRECATION") // see onActivityResult
            startActivityForResult(intent, PICK)
        } catch (none: android.content.ActivityNotFoundException) {
            showMessage(getString(R.string.no_picker))
        }
    }

    private fun showImport(state: ImportState) {
        import.isEnabled = !state.isRunning
        stop.visibility = if (state.isRunning) View.VISIBLE else View.GONE
        when {
            state.isRunning -> showMessage(getString(if (state.isAgain) R.string.importing_again else R.string.importing, Numbers.bytes(state.bytes)))
            state.message != null -> showMessage(getString(R.string.import_failed, state.message))
            state.isDone -> {
                showMessage(getString(R.string.imported))
                refresh()
            }
        }
    }

    private fun showMessage(text: String) {
        message.text = text
        message.visibility = View.VISIBLE
    }

    /** Does [first], then reads the manifests, both off the main thread, and shows them. */
    private fun refresh(first: (BundleLibrary) -> Unit = {}) {
        val library = services.library
        services.reader.execute {
            first(library)
            val found = library.list()
            runOnUiThread { if (!isDestroyed) show(found) }
        }
    }

    private fun show(entries: List<BundleEntry>) {
        list.removeAllViews()
        for (entry in entries) {
            val card = BundleCard(list, entry)
            card.onClicks(open = { startActivity(TryActivity.intent(this, it.key)) }, remove = ::askToRemove)
            list.addView(card.view)
        }
        empty.visibility = if (entries.isEmpty()) View.VISIBLE else View.GONE
        measure.isEnabled = entries.any { it.problem == null }
        measure.visibility = if (entries.isEmpty()) View.GONE else View.VISIBLE
        // the screen's one main action: what fills an empty phone, then what measures what is there
        import.setBackgroundResource(if (entries.isEmpty()) R.drawable.button_primary else R.drawable.button_plain)
        import.setTextColor(getColorStateList(if (entries.isEmpty()) R.color.on_primary else R.color.plain))
    }

    private fun askToRemove(entry: BundleEntry) {
        AlertDialog.Builder(this)
            .setTitle(R.string.remove_question)
            .setMessage(entry.manifest?.let(BundleLibrary::title) ?: entry.key)
            .setPositiveButton(R.string.remove) { _, _ -> refresh { it.remove(entry) } }
            .setNegativeButton(android.R.string.cancel, null)
            .show()
    }

    private companion object {
        const val PICK = 1
        val ARCHIVES = arrayOf("application/zip", "application/octet-stream", "application/x-zip-compressed")
    }
}
