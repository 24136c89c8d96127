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
        val hash = BundleKey.sha256(folder.newFile().apply { writeBytes(artifact) })
        val manifest = DemoFiles.manifestText.replace("5000000000", "5").replaceFirst("ab".repeat(32), hash)
        members = linkedMapOf("model.tflite" to artifact, "tokenizer.json" to DemoFiles.tokenizerFile.readBytes(), MANIFEST_FILE to manifest.toByteArray())
        for (name in ManifestReader.parse(dev.firsttoken.core.json.JsonText.parseObject(manifest, "m")).tokenizer.files) members.putIfAbsent(name, "{}".toByteArray())
    }

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

    @Test fun anArtifactThatWasChangedIsRefused() = refused(zipped(members + ("model.tflite" to "12346".toByteArray())), "its SHA-256 is not the manifest's")

    /** The same bundle with an artifact for an NPU beside it. */
    private fun withNpu(): Map<String, ByteArray> {
        val npu = "compiled".toByteArray()
        val hash = BundleKey.sha256(folder.newFile().apply { writeBytes(npu) })
        val text = File(Parity.folder(), "npu_manifest.json").readText().replace("5000000000,\"scales", "0,\"scales").replace("\"bytes\":5000000000", "\"bytes\":5").replace("6000000000", "${npu.size}")
        val manifest = text.replaceFirst("ab".repeat(32), BundleKey.sha256(folder.newFile().apply { writeBytes(artifact) })).replace("cd".repeat(32), hash)
        return members + (MANIFEST_FILE to manifest.toByteArray()) + ("model.npu.tflite" to npu)
    }

    @Test fun aBundleWithAnNpuArtifactIsUnpackedWithIt() {
        val made = unpack(zipped(withNpu()))
        assertEquals("compiled", Bundle.open(made).npuArtifact().readText())
    }

    @Test fun anNpuArtifactThatIsMissingOrChangedIsRefused() {
        refused(zipped(withNpu() - "model.npu.tflite"), "model.npu.tflite: missing from the archive")
        refused(zipped(withNpu() + ("model.npu.tflite" to "Compiled".toByteArray())), "model.npu.tflite: its SHA-256 is not the manifest's")
        refused(zipped(withNpu() + ("model.npu.tflite" to "short".toByteArray())), "model.npu.tflite: 5 bytes, but the manifest says 8")
    }

    @Test fun aMissingFileIsNamed() = refused(zipped(members - "tokenizer.json"), "tokenizer.json: missing from the archive")

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
