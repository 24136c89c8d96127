package dev.firsttoken.demo.bundles

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.benchmark.Engines
import dev.firsttoken.core.benchmark.Request
import dev.firsttoken.core.benchmark.failureMessage
import dev.firsttoken.core.bundle.Bundle
import dev.firsttoken.core.bundle.Manifest
import dev.firsttoken.core.bundle.ManifestReader
import dev.firsttoken.core.chat.Dialogue
import dev.firsttoken.core.generate.ArtifactInUse
import dev.firsttoken.demo.AppFolders
import java.io.File

/** A bundle on the phone. [problem] says why it cannot run here, [artifact] which of two artifacts would; [manifest] is null where that cannot be read. */
class BundleEntry(val key: String, val folder: File, val isImported: Boolean, val manifest: Manifest?, val problem: String?, val artifact: ArtifactInUse? = null)

/** What bundles are on the phone. */
class BundleLibrary(private val folders: AppFolders, private val engines: Engines) {
    /** Reads all manifests; not for the main thread. */
    fun list(): List<BundleEntry> {
        sweep()
        return all()
    }

    private fun all() = (entries(folders.imported, true) + entries(folders.staged, false)).distinctBy { it.key }.sortedBy { it.manifest?.checkpoint?.name ?: "~" }

    /** The folder of bundle [key]. Raises [FirstTokenException] where there is none. */
    fun folder(key: String): File = folders.own().bundle(key).also { if (!it.isDirectory) throw FirstTokenException("bundle $key is not on the phone any more") }

    /** A bundle's name for people: checkpoint, plan and target. */
    fun title(folder: File): String =
        try {
            title(ManifestReader.read(folder))
        } catch (damaged: FirstTokenException) {
            folder.name
        }

    /** What conversations the bundle in [folder] takes, or null where its manifest cannot be read. */
    fun dialogue(folder: File): Dialogue? =
        try {
            Dialogue(ManifestReader.read(folder))
        } catch (damaged: FirstTokenException) {
            null
        }

    /** Removes an imported bundle; those that the command has pushed are not the app's to remove. Not for the main thread: it may take seconds. */
    fun remove(entry: BundleEntry) {
        if (!entry.isImported) return
        val removed = File(folders.imported, REMOVED + entry.key) // out of sight at once: a half-removed bundle would look damaged
        if (entry.folder.renameTo(removed)) removed.deleteRecursively() else entry.folder.deleteRecursively()
    }

    /** Ends what a killed process had begun to remove. */
    private fun sweep() = folders.imported.listFiles { file -> file.name.startsWith(REMOVED) }.orEmpty().forEach { it.deleteRecursively() }

    private fun entries(parent: File, isImported: Boolean): List<BundleEntry> =
        parent.listFiles().orEmpty().filter { it.isDirectory && Request.isKey(it.name) }.map { entry(it, isImported) }

    private fun entry(folder: File, isImported: Boolean): BundleEntry =
        try {
            val bundle = Bundle.open(folder)
            val problem = engines.refusal(bundle.manifest) ?: fileProblem(bundle)
            BundleEntry(folder.name, folder, isImported, bundle.manifest, problem, if (problem == null) engines.artifact(bundle) else null)
        } catch (damaged: Throwable) { // of a hostile file, whatever the parsers raise
            BundleEntry(folder.name, folder, isImported, null, failureMessage(damaged))
        }

    private fun fileProblem(bundle: Bundle): String? =
        try {
            bundle.artifact()
            null
        } catch (damaged: FirstTokenException) {
            damaged.message
        }

    companion object {
        private const val REMOVED = ".removed-"

        fun title(manifest: Manifest): String = "${manifest.checkpoint.name} · ${manifest.plan} · ${manifest.target.name}"
    }
}
