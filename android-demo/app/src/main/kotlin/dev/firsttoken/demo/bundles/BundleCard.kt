package dev.firsttoken.demo.bundles

import android.view.LayoutInflater
import android.view.View
import android.view.ViewGroup
import android.widget.Button
import android.widget.TextView
import dev.firsttoken.core.bundle.Manifest
import dev.firsttoken.demo.R
import dev.firsttoken.demo.view.Numbers
import dev.firsttoken.demo.view.artifactText

/** One bundle of the list: what it is, how it was proven, and whether it runs here. */
class BundleCard(parent: ViewGroup, private val entry: BundleEntry) {
    val view: View = LayoutInflater.from(parent.context).inflate(R.layout.item_bundle, parent, false)
    private val resources = view.resources

    init {
        val manifest = entry.manifest
        view.findViewById<TextView>(R.id.name).text = manifest?.checkpoint?.name ?: resources.getString(R.string.bundle_unnamed)
        view.findViewById<TextView>(R.id.facts).text =
            if (manifest == null) resources.getString(R.string.bundle_unreadable, entry.key)
            else resources.getString(R.string.bundle_facts, manifest.plan, manifest.target.name, Numbers.bytes(size(manifest)), Numbers.count(manifest.checkpoint.parameters))
        view.findViewById<TextView>(R.id.proof).apply {
            visibility = if (manifest == null) View.GONE else View.VISIBLE
            text = proofText(manifest)
        }
        view.findViewById<TextView>(R.id.artifact).apply {
            visibility = if (entry.artifact == null) View.GONE else View.VISIBLE
            text = artifactText(context, entry.artifact)
        }
        view.findViewById<TextView>(R.id.problem).apply {
            visibility = if (entry.problem == null) View.GONE else View.VISIBLE
            text = resources.getString(R.string.bundle_problem, entry.problem.orEmpty())
        }
    }

    /** What the buttons do; a bundle that cannot run has none to try it. */
    fun onClicks(open: (BundleEntry) -> Unit, remove: (BundleEntry) -> Unit) {
        button(R.id.open, entry.problem == null, R.string.try_label) { open(entry) }
        button(R.id.remove, entry.isImported, R.string.remove_label) { remove(entry) }
    }

    private fun button(id: Int, isShown: Boolean, label: Int, click: () -> Unit) {
        view.findViewById<Button>(id).apply {
            visibility = if (isShown) View.VISIBLE else View.GONE
            contentDescription = resources.getString(label, entry.manifest?.checkpoint?.name ?: entry.key)
            setOnClickListener { click() }
        }
    }

    private fun running(manifest: Manifest) = manifest.artifacts[entry.artifact?.place ?: 0]

    private fun size(manifest: Manifest): Long = manifest.facts(running(manifest)).bytes

    private fun proofText(manifest: Manifest?): String {
        val proof = manifest?.let(::running)?.proof ?: return resources.getString(R.string.proof_missing)
        val said = if (proof.passed) R.string.proof_passed else R.string.proof_failed
        return resources.getString(said, Numbers.percent(proof.sameTop), Numbers.significant(proof.meanKld))
    }
}
