package dev.firsttoken.core.bundle

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.Parity
import dev.firsttoken.core.assertRefused
import dev.firsttoken.core.generate.DemoFiles
import dev.firsttoken.core.holding
import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

class ManifestReaderTest {
    @get:Rule val folder = TemporaryFolder()

    /** Every case of tests/manifest_variants.py, which Python's reader and the JSON Schema are held against each other by. */
    @Test fun takesAndRefusesWhatPythonDoes() {
        val cases = Parity.cases(File(Parity.folder(), "manifests.jsonl"))
        assertTrue(cases.count { it["valid"].asBoolean } > 100 && cases.count { !it["valid"].asBoolean } > 1000)
        val wrong = cases.filter { case ->
            val taken = try {
                DemoFiles.manifest(case["text"].asString)
                true
            } catch (refusal: FirstTokenException) {
                assertTrue(refusal.message!!, refusal.message!!.startsWith(MANIFEST_FILE) && '\n' !in refusal.message!!)
                false
            }
            taken != case["valid"].asBoolean
        }
        assertEquals(wrong.take(9).joinToString("\n") { "${it["name"]}, valid: ${it["valid"]}" }, 0, wrong.size)
    }

    @Test fun everyFieldHasItsValue() {
        val manifest = DemoFiles.manifest()
        assertEquals(listOf("demo", 8_000_000_000, 64, 4096), with(manifest.checkpoint) { listOf(name, parameters, hiddenSize, vocabularySize) })
        assertEquals(listOf("fp16-attention", "tflite-xnnpack", "xnnpack"), listOf(manifest.plan, manifest.target.name, manifest.target.delegate))
        assertEquals(listOf("model.tflite", "tflite", "2.3", null), with(manifest.cpu) { listOf(file, needs.runtime, needs.minRuntime, needs.soc) })
        assertEquals(listOf(5_000_000_000, "ab".repeat(32)), with(manifest.facts(manifest.cpu)) { listOf(bytes, sha256) })
        assertEquals("each layer has its own", listOf("float16", "float32"), manifest.cpu.states.map { it.dtype })
        assertEquals(listOf(1, "host", listOf("1", "2", "length", "32"), 2, 256, 16), with(manifest.cpu.states[1]) { listOf(layer, heldBy, shape, axis, length, step) })
        assertEquals(listOf("key.1", "value.1"), manifest.cpu.states[1].tensors)
        assertEquals(listOf("1", "length"), manifest.cpu.methods.single().inputs.single().shape)
        assertEquals(listOf(1f, 0.01f), manifest.rotations.single().inverseFrequencies.toList())
        assertEquals("<|im_start|>user\n", manifest.chat!!.prefix.text)
        assertEquals(listOf(1e-4, 0.002, 0.99, true), with(manifest.cpu.proof!!) { listOf(meanKld, p99Kld, sameTop, passed) })
        assertEquals(setOf("model.tflite", "prefix.npz", "model.dotprod.packed", "tokenizer.json", "tokenizer_config.json"), manifest.files.keys)
        assertEquals(listOf("prefix.npz", "Be brief.", listOf(1, 2)), with(manifest.keptPrompt!!) { listOf(file, system, tokens.toList()) })
        assertEquals(false, manifest.packed!!.only)
        assertEquals(listOf("model.dotprod.packed", "dotprod", "2.3.0", "ab".repeat(32)), with(manifest.packed!!.files.single()) { listOf(file, isa, version, artifactSha256) })
        assertTrue(manifest.npuArtifacts.isEmpty())
    }

    @Test fun everyFieldOfAnNpuArtifactHasItsValue() {
        val manifest = DemoFiles.manifest(DemoFiles.npuManifestText)
        val npu = manifest.npuArtifacts.single()
        assertEquals(listOf("model.npu.tflite", 6_000_000_000, "cd".repeat(32)), with(manifest.facts(npu)) { listOf(npu.file, bytes, sha256) })
        assertEquals("SM8650", npu.needs.soc)
        assertEquals(listOf("32", "1", "64"), npu.methods.single().inputs.single().shape)
        assertEquals(listOf(0, 1), npu.states.map { it.layer })
        with(npu.npu!!) {
            assertEquals("ahead", compiled)
            assertEquals(listOf(32, 128), prefillLengths.toList())
            assertEquals(listOf("model.tflite", "int8", 4096, 64, 5_000_000_000, 128L), with(embedding) { listOf(file, dtype, rows, columns, offset, scalesOffset) })
            assertEquals(-30000f, masked, 0f)
        }
        assertEquals(1e-4, npu.proof!!.meanKld, 0.0)
    }

    @Test fun whatIsWrongIsNamed() {
        fun refused(old: String, new: String, vararg said: String) {
            val text = DemoFiles.npuManifestText
            assertTrue(old, old in text)
            assertRefused(*said) { DemoFiles.manifest(text.replace(old, new)) }
        }
        refused("\"offset\":5000000000", "\"offset\":-1", "artifacts[1].npu.embedding.offset is -1; expected at least 0")
        refused("[1.0,0.01]", "[1.0,\"x\"]", "rotations[0].inverse_frequencies[1] is \"x\"; expected a number")
        refused("\"compiled\":\"ahead\"", "\"compiled\":\"elsewhere\"", "artifacts[1].npu.compiled is \"elsewhere\"; expected one of ahead, device")
        refused("\"masked\":-30000.0,", "", "artifacts[1].npu.masked is missing")
        refused("\"soc\":\"SM8650\"", "\"soc\":7", "soc is 7; expected text or null")
        refused("\"file\":\"model.npu.tflite\"", "\"file\":\"../x\"", "names \"../x\", but not its hash under files; export again")
        refused("\"model.npu.tflite\":{", "\"../x\":{", "file name \"../x\" is not a plain, printable name; export again")
    }

    @Test fun anotherVersionSaysWhatToDo() {
        for (version in listOf("1", "3", "\"2\"", "2.5", "null")) {
            val said = "got schema version $version, this app reads 2; export the checkpoint again"
            assertRefused(said) { DemoFiles.manifest(DemoFiles.manifestText.replace("\"schema_version\":2", "\"schema_version\":$version")) }
        }
    }

    @Test fun aModuleIsRefusedByItsKind() =
        assertRefused("is of the kind \"module\"", "choose a language model's bundle") {
            DemoFiles.manifest(DemoFiles.manifestText.replace("\"schema_version\":2", "\"schema_version\":2,\"kind\":\"module\""))
        }

    @Test fun aFolderWithoutOneIsNoBundle() = assertRefused("manifest.json: missing", "not a bundle") { Bundle.open(folder.root) }

    @Test fun aFileOfAnotherSizeIsRefused() {
        val bundle = Bundle.open(DemoFiles.bundle(folder.root))
        assertEquals("12345", bundle.artifact().readText())
        File(folder.root, "tokenizer.json").appendText(" ")
        assertRefused("tokenizer.json: ", "but the manifest says") { bundle.openTokenizer() }
        bundle.artifact().holding("short one")
        assertRefused("model.tflite: 9 bytes, but the manifest says 5") { bundle.artifact() }
        File(folder.root, "model.tflite").delete()
        assertRefused("model.tflite: missing") { bundle.artifact() }
    }
}
