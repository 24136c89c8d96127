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

    @Test fun anArtifactForAnNpuBesideTheOtherIsTaken() {
        val text = File(Parity.folder(), "demo_manifest.json").readText()
        val npu = """"npu": {"artifact": {"file": "model.bin", "sha256": "ab", "bytes": 1}, "soc": "SM8650", "hexagon": "v75", "masked": -1.0}"""
        val manifest = ManifestReader.parse(JsonText.parseObject(text.replace(Regex("\\}\\s*$"), ", $npu}"), "m"))
        assertEquals(listOf("model.bin", "SM8650"), listOf(manifest.npu!!.file, manifest.npu!!.soc))
        assertRefused("npu.artifact.file is '../x'") { ManifestReader.parse(JsonText.parseObject(text.replace(Regex("\\}\\s*$"), ", ${npu.replace("model.bin", "../x")}}"), "m")) }
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
