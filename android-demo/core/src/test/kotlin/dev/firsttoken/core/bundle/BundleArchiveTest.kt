package dev.firsttoken.core.bundle

import dev.firsttoken.core.Parity
import dev.firsttoken.core.assertRefused
import dev.firsttoken.core.generate.DemoFiles
import java.io.ByteArrayInputStream
import java.io.ByteArrayOutputStream
import java.io.File
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

/** Archives of a bundle, good and bad. Whatever is refused leaves nothing behind. */
class BundleArchiveTest {
    @get:Rule val folder = TemporaryFolder()
    private val artifact = "12345".toByteArray()
    private lateinit var members: LinkedHashMap<String, ByteArray>

    @Before fun members() {
        Parity.folder()
        members = of(DemoFiles.manifestText)
    }

    private fun of(manifest: String) = LinkedHashMap(DemoFiles.bundle(folder.newFolder(), manifest).listFiles()!!.associate { it.name to it.readBytes() })

    private val bundles get() = File(folder.root, "bundles").apply { mkdirs() }

    private fun zipped(members: Map<String, ByteArray>, prefix: String = ""): ByteArray {
        val out = ByteArrayOutputStream()
        ZipOutputStream(out).use { zip ->
            for ((name, bytes) in members) {
                zip.putNextEntry(ZipEntry(prefix + name))
                zip.write(bytes)
            }
        }
        return out.toByteArray()
    }

    private fun unpack(bytes: ByteArray, largest: Long = 1L shl 30, progress: (Long) -> Boolean = { true }) = BundleArchive(bundles, largest).unpack(ByteArrayInputStream(bytes), progress)

    private fun refused(bytes: ByteArray, vararg parts: String, largest: Long = 1L shl 30) {
        assertRefused(*parts) { unpack(bytes, largest) }
        assertEquals("nothing is left", emptyList<String>(), bundles.list()!!.toList())
    }

    @Test fun aBundleIsUnpackedUnderTheKeyOfItsFiles() {
        val made = unpack(zipped(members))
        val lines = members.toSortedMap().map { (name, bytes) -> BundleKey.sha256(folder.newFile().apply { writeBytes(bytes) }) + "  $name\n" }.joinToString("")
        assertEquals(BundleKey.sha256(folder.newFile().apply { writeText(lines) }).take(32), made.name)
        assertEquals(members.keys, made.list()!!.toSet())
        Bundle.open(made).artifact()
        assertEquals("again is the same", made, unpack(zipped(members)))
        assertEquals("a whole folder zipped is the same too", made, unpack(zipped(members, "tflite-xnnpack/")))
        assertEquals(listOf(made.name), bundles.list()!!.toList())
    }

    @Test fun aFileThatWasChangedIsRefused() {
        for (name in members.keys - MANIFEST_FILE) {
            val changed = members.getValue(name).copyOf().also { it[it.size / 2] = (it[it.size / 2] + 1).toByte() }
            refused(zipped(members + (name to changed)), "$name: its SHA-256 is not the manifest's")
            refused(zipped(members + (name to changed + 1)), "$name: ${changed.size + 1} bytes, but the manifest says ${changed.size}")
        }
    }

    @Test fun aBundleWithAnNpuArtifactIsUnpackedWithIt() {
        val made = Bundle.open(unpack(zipped(of(DemoFiles.npuManifestText))))
        assertEquals("{}", made.artifact(made.manifest.npuArtifacts.single()).readText())
    }

    @Test fun anNpuArtifactThatIsMissingOrChangedIsRefused() {
        val whole = of(DemoFiles.npuManifestText)
        refused(zipped(whole - "model.npu.tflite"), "model.npu.tflite: missing from the archive")
        refused(zipped(whole + ("model.npu.tflite" to "[]".toByteArray())), "model.npu.tflite: its SHA-256 is not the manifest's")
        refused(zipped(whole + ("model.npu.tflite" to "short".toByteArray())), "model.npu.tflite: 5 bytes, but the manifest says 2")
    }

    @Test fun anOlderBundleSaysWhatToDo() =
        refused(zipped(mapOf(MANIFEST_FILE to """{"schema_version": 1}""".toByteArray())), "got schema version 1, this app reads 2; export the checkpoint again")

    @Test fun aMissingFileIsNamed() {
        for (name in members.keys - MANIFEST_FILE) refused(zipped(members - name), "$name: missing from the archive")
    }

    @Test fun anArchiveWithoutAManifestIsNoBundle() = refused(zipped(members - MANIFEST_FILE), "manifest.json: missing")

    @Test fun aForeignFileIsRefused() = refused(zipped(members + ("virus.sh" to artifact)), "the archive holds virus.sh, which its manifest does not name")

    @Test fun whatLeadsOutOfTheFolderIsRefused() {
        for (name in listOf("../evil", "/etc/evil", "a/b/c", "a/../../c", "..", "a\\b", "a/")) {
            if (!name.endsWith("/")) refused(zipped(mapOf(name to artifact)), "expected the plain files of one bundle")
        }
        assertTrue(!File(folder.root, "evil").exists())
    }

    @Test fun whatIsNoArchiveIsRefused() {
        refused("no zip at all".toByteArray(), "not a .zip archive")
        val whole = zipped(members)
        assertTrue(runCatching { unpack(whole.copyOf(whole.size / 2)) }.isFailure)
        assertEquals(emptyList<String>(), bundles.list()!!.toList())
    }

    @Test fun anArchiveThatUnpacksToTooMuchIsStopped() = refused(zipped(members + ("model.tflite" to ByteArray(5 shl 20))), "more than 1 MiB", largest = 1L shl 20)

    @Test fun tooManyFilesAreRefused() = refused(zipped((0..64).associate { "f$it" to artifact }), "more than 64 files")

    @Test fun cancellingLeavesNothing() {
        assertRefused("cancelled") { unpack(zipped(members)) { false } }
        assertEquals(emptyList<String>(), bundles.list()!!.toList())
    }
}
