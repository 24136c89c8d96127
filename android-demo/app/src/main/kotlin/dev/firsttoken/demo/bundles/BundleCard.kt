package dev.firsttoken.demo.bundles

import android.view.LayoutInflater
import android.view.View
import android.view.ViewGroup
import android.widget.Button
import android.widget.TextView
import dev.firsttoken.core.bundle.Proof
import dev.firsttoken.demo.R
import dev.firsttoken.demo.view.Numbers

/** One bundle of the list: what it is, how it was proven, and whether it runs here. */
class BundleCard(parent: ViewGroup, private val entry: BundleEntry) {
    val view: View = LayoutInflater.from(parent.context).inflate(R.layout.item_bundle, parent, false)
    private val resources = view.resources

    init {
        val manifest = entry.manifest
        view.findViewById<TextView>(R.id.name).text = manifest?.checkpoint?.name ?: entry.key
        view.findViewById<TextView>(R.id.facts).text =
            if (manifest == null) resources.getString(R.string.bundle_unreadable)
            else resources.getString(R.string.bundle_facts, manifest.plan.name, manifest.target.name, Numbers.bytes(manifest.artifact.bytes), Numbers.count(manifest.checkpoint.parameters))
        view.findViewById<TextView>(R.id.proof).apply {
            visibility = if (manifest == null) View.GONE else View.VISIBLE
            text = proofText(manifest?.proof)
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

    private fun proofText(proof: Proof?): String =
        if (proof == null) resources.getString(R.string.proof_missing)
        else resources.getString(
            if (proof.passed) R.string.proof_passed else R.string.proof_failed,
            Numbers.significant(proof.all.meanKld), Numbers.significant(proof.all.p99Kld), Numbers.percent(proof.all.sameTop),
        )
}
