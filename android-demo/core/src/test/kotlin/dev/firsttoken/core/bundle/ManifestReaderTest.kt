package dev.firsttoken.core.bundle

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.Parity
import dev.firsttoken.core.assertRefused
import dev.firsttoken.core.holding
import dev.firsttoken.core.json.JsonText
import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

class ManifestReaderTest {
    @get:Rule val folder = TemporaryFolder()

    @Test fun takesAndRefusesWhatTheJsonSchemaDoes() {
        val cases = Parity.cases(File(Parity.folder(), "manifests.jsonl"))
        assertTrue(cases.count { it["valid"].asBoolean } > 20 && cases.count { !it["valid"].asBoolean } > 500)
        val wrong = cases.filter { case ->
            val taken = try {
                ManifestReader.parse(case["manifest"].asJsonObject)
                true
            } catch (refusal: FirstTokenException) {
                assertTrue(refusal.message!!.startsWith(MANIFEST_FILE))
                false
            }
            taken != case["valid"].asBoolean
        }
        assertEquals(wrong.take(3).joinToString("\n"), 0, wrong.size)
    }

    @Test fun everyFieldHasItsValue() {
        val manifest = ManifestReader.parse(JsonText.parseObject(File(Parity.folder(), "demo_manifest.json").readText(), "demo"))
        assertEquals("demo", manifest.checkpoint.name)
        assertEquals(8_000_000_000, manifest.checkpoint.parameters)
        assertEquals(5_000_000_000, manifest.artifact.bytes)
        assertEquals(8_000_000_000, manifest.lineage!!.tokensSeen)
        assertEquals("fp16-attention", manifest.plan.name)
        assertEquals(256, manifest.cache.length)
        assertEquals(listOf("1", "2", "length", "32"), manifest.cache.shape)
        assertEquals(4095, manifest.tokenizer.special["<|im_end|>"])
        assertEquals("<|im_start|>user\n", manifest.chat!!.prefix.text)
        assertEquals(0.008, manifest.proof!!.all.perplexityChange, 0.0)
        assertEquals(listOf("sdot"), manifest.provenOn.single().kernels)
    }

    @Test fun everyFieldOfTheNpuPartHasItsValue() {
        val text = File(Parity.folder(), "npu_manifest.json").readText()
        val manifest = ManifestReader.parse(JsonText.parseObject(text, "m"))
        val npu = manifest.npu!!
        assertEquals(listOf("model.npu.tflite", 6_000_000_000, "cd".repeat(32)), listOf(npu.artifact.file, npu.artifact.bytes, npu.artifact.sha256))
        assertEquals(listOf("ahead", "SM8650", "V75", "documented", "2.50.40"), listOf(npu.compiled, npu.soc, npu.hexagon, npu.fp16, npu.qnn))
        assertEquals(listOf(32, 128), npu.prefillLengths.toList())
        assertEquals(listOf("32", "1", "64"), npu.methods.single().inputs.single().shape)
        assertEquals("float32" to 2, npu.cache.dtype to npu.cache.axis)
        assertEquals(listOf("model.tflite", "int8", 4096, 64, 5_000_000_000, 128L), with(npu.embedding) { listOf(file, dtype, rows, columns, offset, scalesOffset) })
        assertEquals(listOf(1f, 0.01f), npu.inverseFrequencies.toList())
        assertEquals(-30000f, npu.masked, 0f)
        assertEquals(listOf("CAST layers.0: reason"), npu.graphs.single().left)
        assertEquals(9_000_000_000, npu.compileMemory)
        assertEquals(1279, npu.proof!!.lastPosition)
        assertEquals("fp16", npu.audit.single().computed)
        assertEquals("SM8650" to true, manifest.target.npu!!.let { it.soc to it.shareWeights })
    }

    @Test fun anNpuPartThatIsWrongIsNamed() {
        val text = File(Parity.folder(), "npu_manifest.json").readText()
        fun refused(old: String, new: String, vararg said: String) {
            assertTrue(old, old in text)
            assertRefused(*said) { ManifestReader.parse(JsonText.parseObject(text.replace(old, new), "m")) }
        }
        refused("\"model.npu.tflite\"", "\"../x\"", "npu.artifact.file is '../x'")
        refused("\"offset\":5000000000", "\"offset\":-1", "npu.embedding.offset is -1", "at least 0")
        refused("[1.0,0.01]", "[1.0,\"x\"]", "npu.inverse_frequencies[1] is \"x\"")
        refused("\"compiled\":\"ahead\"", "\"compiled\":\"elsewhere\"", "npu.compiled is 'elsewhere'", "ahead, device")
    }

    @Test fun anotherVersionSaysWhatToDo() = assertRefused("schema_version is 2", "reads 1", "export the bundle again") { ManifestReader.parse(JsonText.parseObject("""{"schema_version": 2}""", "m")) }

    @Test fun aFolderWithoutOneIsNoBundle() = assertRefused("manifest.json: missing", "not a bundle") { Bundle.open(folder.root) }

    @Test fun aNameThatLeadsOutOfTheBundleIsRefused() {
        val text = File(Parity.folder(), "demo_manifest.json").readText()
        for (name in listOf("../model.tflite", "a/b", "..", "")) {
            assertRefused("artifact.file is '$name'", "plain file name") { ManifestReader.parse(JsonText.parseObject(text.replace("\"model.tflite\"", "\"$name\""), "m")) }
        }
    }

    @Test fun anArtifactOfAnotherSizeIsRefused() {
        folder.newFile(MANIFEST_FILE).holding(File(Parity.folder(), "demo_manifest.json").readText())
        val bundle = Bundle.open(folder.root)
        assertRefused("model.tflite: missing") { bundle.artifact() }
        folder.newFile("model.tflite").holding("short")
        assertRefused("5 bytes", "5000000000") { bundle.artifact() }
    }
}
