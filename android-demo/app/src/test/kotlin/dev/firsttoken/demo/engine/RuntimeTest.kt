package dev.firsttoken.demo.engine

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.Parity
import dev.firsttoken.core.assertRefused
import dev.firsttoken.core.bundle.Bundle
import dev.firsttoken.core.bundle.Manifest
import dev.firsttoken.core.bundle.ManifestReader
import dev.firsttoken.core.generate.ArtifactChoice
import dev.firsttoken.core.generate.ArtifactInUse
import dev.firsttoken.core.generate.DemoFiles
import dev.firsttoken.core.generate.RunnerInUse
import dev.firsttoken.core.json.JsonText
import dev.firsttoken.core.weights.CpuKind
import dev.firsttoken.core.weights.ShippedWeights
import dev.firsttoken.core.weights.WeightCache
import java.io.File
import java.nio.ByteBuffer
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

/** What runs where; a bundle that cannot run is named with its reason. */
class RuntimeTest {
    @get:Rule val folder = TemporaryFolder()

    private fun manifest(target: String): Manifest = ManifestReader.read(File(Parity.folder(), "engines/$target"))

    /** The demo's manifest: LiteRT with a float16 cache. */
    private fun half(): Manifest = DemoFiles.manifest()

    private val tensorflow = TfliteRuntime(TfliteBuild(isLiteRt = false, "2.16.1"))
    private val litert = TfliteRuntime(TfliteBuild(isLiteRt = true, "2.3.0"))

    @Test fun compatRunsOnBoth() {
        assertNull(tensorflow.refusal(manifest("tflite-compat")))
        assertNull(litert.refusal(manifest("tflite-compat")))
        assertTrue("it needs TensorFlow Lite 2.16, this app carries TensorFlow Lite 2.15" in TfliteRuntime(TfliteBuild(false, "2.15.9")).refusal(manifest("tflite-compat"))!!)
    }

    @Test fun aLiteRtBundleNeedsLiteRtHoweverNewTensorFlowLiteIs() {
        assertTrue("it needs LiteRT 2.3, this app carries TensorFlow Lite 2.16.1" in tensorflow.refusal(half())!!)
        assertTrue("it needs LiteRT 2.3, this app carries LiteRT 1.4" in TfliteRuntime(TfliteBuild(true, "1.4.0")).refusal(half())!!)
        assertNull(litert.refusal(half()))
    }

    @Test fun aFloat16CacheIsRefusedByNameWhereTheLibraryDoesNotTakeIt() {
        val manifest = manifest("tflite-xnnpack")
        assertNull("this library takes it", litert.refusal(manifest))
        val without = TfliteRuntime(TfliteBuild(isLiteRt = true, "9.0"), hasNatives = { false })
        assertTrue("its KV cache is float16" in without.refusal(manifest)!!)
        assertNull("float32 needs nothing special", without.refusal(manifest("tflite-compat")))
    }

    @Test fun aBundleForPlainInterpretersIsRefusedByName() {
        val target = folder.newFolder("plain")
        val text = File(Parity.folder(), "engines/tflite-compat/manifest.json").readText()
        File(target, "manifest.json").writeText(text.replace("\"advances\": \"append\"", "\"advances\": \"in_place\""))
        assertTrue("it is made for plain interpreters" in litert.refusal(ManifestReader.read(target))!!)
    }

    @Test fun anArtifactWithoutWeightsOfItsOwnIsRefusedByName() {
        val text = DemoFiles.manifestText
        assertNull("packed weights beside the artifact's own are left alone", litert.refusal(DemoFiles.manifest(text)))
        val only = JsonText.parseObject(text, "manifest.json").also { it["packed"].asJsonObject.addProperty("only", true) }
        val manifest = ManifestReader.parse(only)
        fun refusal(runner: NativeRunner?) = TfliteRuntime(TfliteBuild(isLiteRt = true, "2.3.0"), native = runner).refusal(manifest)
        assertTrue("only packed weights, which the native runner alone takes, and LiteRT 2.3.0 has no way to take them from an app; export" in refusal(null)!!)
        assertTrue("which the native runner alone takes, and no library; export" in refusal(NativeRunner({ "no library" }) { _, _, _ -> error("it is not asked") })!!)
        fun shipped(cpu: String, version: String) = ShippedWeights(CpuKind(cpu, cpu), "ai-edge-litert", version, WeightCache(folder.newFolder(), "litert")) { error("it is not asked") }
        fun with(cpu: String, version: String) = refusal(NativeRunner({ null }, findShipped = { shipped(cpu, version) }) { _, _, _ -> error("it is not asked") })
        val isa = manifest.packed!!.files.first().isa
        assertTrue("none can be used here: they are for $isa, and this CPU is riscv; export it without --packed-only, or again with --pack-for riscv" in with("riscv", "2.3.0")!!)
        assertTrue("was packed by ai-edge-litert ${manifest.packed!!.files.first().version}, and 9.9 is what runs here" in with(isa, "9.9")!!)
    }

    @Test fun ringsAndConvolutionsRun() {
        assertNull(litert.refusal(manifest("ring")))
        assertNull(litert.refusal(manifest("convolution")))
        assertNull(ExecuTorchRuntime("1.5.1").refusal(manifest("convolution-pte")))
    }

    @Test fun executorchRunsWhereItIsCarried() {
        assertNull(ExecuTorchRuntime("1.5.1").refusal(manifest("executorch-xnnpack")))
        assertTrue("it needs ExecuTorch 1.5, this app carries 1.4.9" in ExecuTorchRuntime("1.4.9").refusal(manifest("executorch-xnnpack"))!!)
        assertTrue("carries no ExecuTorch" in ExecuTorchRuntime(null).refusal(manifest("executorch-xnnpack"))!!)
        assertTrue("carries no LiteRT" in TfliteRuntime(null).refusal(manifest("tflite-compat"))!!)
    }

    @Test fun whatRunsWhereIsWhatTheCommandSaysBeforeItCopiesAnything() {
        val cases = Parity.cases(File(Parity.folder(), "refusals.jsonl"))
        for (case in cases) {
            val carried = case["carried"].asJsonObject
            fun version(name: String) = carried[name]?.asString
            val tflite = version("LiteRT")?.let { TfliteBuild(isLiteRt = true, it) } ?: version("TensorFlow Lite")?.let { TfliteBuild(isLiteRt = false, it) }
            val engines = RuntimeEngines(listOf(TfliteRuntime(tflite), ExecuTorchRuntime(version("ExecuTorch"))))
            assertEquals("$case", case["runs"].asBoolean, engines.refusal(manifest(case["bundle"].asString)) == null)
        }
        assertEquals("both verdicts are among the cases", setOf(true, false), cases.map { it["runs"].asBoolean }.toSet())
    }

    @Test fun aPteOfAnOlderFormIsRefused() {
        val older = JsonText.parseObject(File(Parity.folder(), "engines/executorch-xnnpack/manifest.json").readText(), "m")
        val forward = older.getAsJsonArray("artifacts")[0].asJsonObject.getAsJsonArray("methods")[0].asJsonObject
        forward.getAsJsonArray("inputs")[1].asJsonObject.addProperty("name", "position")
        assertTrue("written by an older firsttoken; export it again" in ExecuTorchRuntime("1.5.1").refusal(ManifestReader.parse(older))!!)
    }

    @Test fun theRuntimeIsPickedByTheManifestAndOpensTheArtifact() {
        val source = File(Parity.folder(), "bundles/tflite-compat")
        val opened = ArrayList<Pair<String, Int>>()
        val natives = ArrayList<Boolean>()
        val program = object : TfliteProgram {
            override fun prepare(signature: String, inputs: Map<String, TensorShape>, outputs: Map<String, TensorShape>) = emptyMap<String, ByteBuffer>()

            override fun invoke(signature: String) = Unit

            override fun output(signature: String, name: String): ByteBuffer = ByteBuffer.allocate(0)

            override fun close() = Unit
        }
        val engines = RuntimeEngines(
            listOf(
                ExecuTorchRuntime(null),
                TfliteRuntime(TfliteBuild(false, "2.16.1"), load = { file, threads, hasNatives -> program.also { opened += file.name to threads; natives += hasNatives } }),
            ),
        )
        val bundle = Bundle.open(source)
        engines.open(bundle, 3).close()
        assertEquals(listOf("model.tflite" to 3), opened)
        assertEquals("this library has the native functions", listOf(true), natives)
        assertEquals("TensorFlow Lite 2.16.1", engines.runtimeVersion(bundle.manifest))
        assertRefused("carries no ExecuTorch") { engines.open(Bundle.open(File(Parity.folder(), "bundles/executorch-xnnpack")), 1) }
    }

    @Test fun theNativeRunnerRunsWhereItIsThereElseJavasAndItIsSaidWhy() {
        val bundle = Bundle.open(File(Parity.folder(), "bundles/tflite-xnnpack"))
        val (java, native) = PlayedCpu() to PlayedCpu()
        fun opened(runner: NativeRunner?) = RuntimeEngines(listOf(TfliteRuntime(TfliteBuild(isLiteRt = true, "2.3.0"), load = { _, _, _ -> java }, native = runner))).open(bundle, 1).use { it.runner }
        assertEquals(RunnerInUse(RunnerInUse.NATIVE), opened(NativeRunner({ null }) { _, _, _ -> native }))
        assertEquals(RunnerInUse(RunnerInUse.JAVA, "no library"), opened(NativeRunner({ "no library" }) { _, _, _ -> error("it is not asked") }))
        assertEquals(RunnerInUse(RunnerInUse.JAVA, "status 3"), opened(NativeRunner({ null }) { _, _, _ -> throw FirstTokenException("status 3") }))
        assertRefused("damaged") { opened(NativeRunner({ null }, { throw FirstTokenException("it is damaged") }) { _, _, _ -> native }) }
        assertNull(opened(null))
    }

    @Test fun aNativeRunnerNeedsLiteRtAndItsOwnLibrary() {
        val cache = folder.newFolder()
        assertEquals("this app carries TensorFlow Lite 2.16.1, and it needs LiteRT 2; build it with Gradle", NativeRunner.of(TfliteBuild(isLiteRt = false, "2.16.1"), cache).lack)
        assertTrue("built without libfirsttoken_litert.so" in NativeRunner.of(TfliteBuild(isLiteRt = true, "2.3.0"), cache).lack!!)
    }

    @Test fun executorchRunsTheCpusArtifactOfTwoAndSaysWhy() {
        val folder = folder.newFolder()
        File(Parity.folder(), "bundles/executorch-xnnpack").copyRecursively(folder, overwrite = true)
        val npu = JsonText.parseObject(DemoFiles.npuManifestText.replace("\"model.tflite\"", "\"model.pte\""), "m")
        val both = JsonText.parseObject(File(folder, "manifest.json").readText(), "m")
        both.getAsJsonArray("artifacts").add(npu.getAsJsonArray("artifacts")[1])
        both.getAsJsonObject("files").add("model.npu.tflite", npu.getAsJsonObject("files")["model.npu.tflite"])
        File(folder, "manifest.json").writeText(both.toString())
        val program = object : ExecuTorchProgram {
            override fun forward(tokens: LongArray, cachePosition: LongArray) = FloatArray(1)

            override fun close() = Unit
        }
        val engines = RuntimeEngines(listOf(ExecuTorchRuntime("1.5.1") { _, _ -> program }))
        val bundle = Bundle.open(folder)
        val reason = "this app carries ExecuTorch without Qualcomm's backend"
        assertEquals(ArtifactInUse(0, reason), engines.artifact(bundle))
        assertEquals(ArtifactInUse(0, reason), engines.open(bundle, 1).use { it.artifact })
        assertEquals(ArtifactInUse.CPU, engines.open(bundle, 1, ArtifactChoice.CPU).use { it.artifact })
        assertRefused(reason) { engines.open(bundle, 1, ArtifactChoice.NPU) }
    }

    @Test fun versionsAreComparedByNumber() {
        assertTrue(isAtLeast("2.16.1", "2.16"))
        assertTrue(isAtLeast("2.10", "2.9"))
        assertTrue(isAtLeast("1.5.0-rc1", "1.5"))
        assertFalse(isAtLeast("2.9", "2.10"))
        assertFalse(isAtLeast("2", "2.0.1"))
    }
}
