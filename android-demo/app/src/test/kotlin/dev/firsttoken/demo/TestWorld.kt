package dev.firsttoken.demo

import android.os.Looper
import dev.firsttoken.core.Parity
import dev.firsttoken.core.benchmark.Engines
import dev.firsttoken.core.benchmark.Phone
import dev.firsttoken.core.benchmark.RunConditions
import dev.firsttoken.core.bundle.Bundle
import dev.firsttoken.core.bundle.MANIFEST_FILE
import dev.firsttoken.core.bundle.Manifest
import dev.firsttoken.core.generate.ArtifactChoice
import dev.firsttoken.core.generate.DemoFiles
import dev.firsttoken.core.generate.Engine
import dev.firsttoken.core.generate.ScriptedEngine
import dev.firsttoken.core.measure.Conditions
import dev.firsttoken.core.measure.Cpu
import dev.firsttoken.core.measure.Device
import dev.firsttoken.demo.screen.Frames
import java.io.ByteArrayOutputStream
import java.io.File
import java.nio.file.Files
import java.time.Duration
import java.util.concurrent.CountDownLatch
import java.util.concurrent.TimeUnit
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream
import org.junit.Assert.fail
import org.robolectric.Shadows.shadowOf

/** The phone of a test: its folders, its bundles, and an engine that answers what it is told to. One test at a time. */
object TestWorld {
    const val FIRST = "11111111111111111111111111111111"
    const val SECOND = "22222222222222222222222222222222"
    const val REFUSED = "33333333333333333333333333333333"

    lateinit var root: File
    var isLocked = false
    var openFails: Throwable? = null

    /** What runs bundles in the place of the engine that answers what it is told to. */
    var otherEngines: Engines? = null

    /** With how many threads the engine was opened last. */
    @Volatile var threads = 0

    /** Holds the engine up in loading, prefill or decoding until it is counted down. */
    var loading = CountDownLatch(0)
    var prefill = CountDownLatch(0)
    var decoding = CountDownLatch(0)

    /** What the engine says, then the end token. */
    const val ANSWER = "A token is shown once its frame is on the screen."
    var answer = ANSWER
    var secondsPerToken = 0.0

    val staging get() = File(root, "staging")
    val media get() = File(root, "media")

    fun begin() {
        Parity.folder()
        root = Files.createTempDirectory("firsttoken-app-test").toFile()
        isLocked = false
        openFails = null
        otherEngines = null
        loading = CountDownLatch(0)
        prefill = CountDownLatch(0)
        decoding = CountDownLatch(0)
        secondsPerToken = 0.0
        answer = ANSWER
    }

    fun end() {
        listOf(loading, prefill, decoding).forEach { while (it.count > 0) it.countDown() }
        root.deleteRecursively()
    }

    /** Puts a bundle where the command would have put it. */
    fun stage(key: String = FIRST, change: (String) -> String = { it }): File {
        val folder = DemoFiles.bundle(File(staging, "bundles/$key"))
        File(folder, MANIFEST_FILE).apply { writeText(change(readText())) }
        return folder
    }

    /** A bundle as a .zip archive, after [change] of its folder. */
    fun archive(change: (File) -> Unit = {}): ByteArray {
        val folder = stage().also(change)
        val out = ByteArrayOutputStream()
        ZipOutputStream(out).use { zip ->
            for (file in folder.listFiles()!!) {
                zip.putNextEntry(ZipEntry(file.name))
                zip.write(file.readBytes())
            }
        }
        folder.deleteRecursively()
        return out.toByteArray()
    }

    /** Two that run, on one runtime each, one that this build has no runtime for, and one that is damaged. */
    fun stageSeveral() {
        stage(FIRST)
        stage(SECOND) { it.replace("\"fp16-attention\"", "\"int8\"").replace("\"tflite-xnnpack\"", "\"tflite-compat\"") }
        stage(REFUSED) { it.replace("\"runtime\":\"tflite\"", "\"runtime\":\"executorch\"").replace("\"tflite-xnnpack\"", "\"executorch-xnnpack\"").replace("\"passed\":true", "\"passed\":false") }
        stage("44444444444444444444444444444444") { it.take(400) }
    }

    val engines = object : Engines {
        override fun refusal(manifest: Manifest): String? = if (otherEngines != null) otherEngines!!.refusal(manifest) else if (manifest.cpu.needs.runtime == "executorch") "this build of the app carries no ExecuTorch; build it with Gradle, which fetches it" else null

        override fun artifact(bundle: Bundle) = otherEngines?.artifact(bundle)

        override fun runtimeVersion(manifest: Manifest) = if (manifest.target.name == "tflite-compat") "TensorFlow Lite 2.16.1" else "LiteRT 2.3.0"

        override fun open(bundle: Bundle, threads: Int, choice: ArtifactChoice): Engine {
            loading.await(30, TimeUnit.SECONDS)
            this@TestWorld.threads = threads
            openFails?.let { throw it }
            otherEngines?.let { return it.open(bundle, threads, choice) }
            return Answering(bundle.manifest)
        }
    }

    private class Answering(manifest: Manifest) : Engine(manifest) {
        private val tokenizer = DemoFiles.tokenizer()
        private val said get() = tokenizer.encode(answer, withBegin = false).toList() + manifest.tokenizer.end.first()
        private var inner = ScriptedEngine(manifest, said)

        override fun prefillChunk(tokens: IntArray): FloatArray {
            prefill.await(30, TimeUnit.SECONDS)
            inner = ScriptedEngine(manifest, said)
            Thread.sleep((1000 * secondsPerToken * tokens.size / 8).toLong())
            return inner.prefill(tokens)
        }

        override fun decodeToken(token: Int): FloatArray {
            decoding.await(30, TimeUnit.SECONDS)
            Thread.sleep((1000 * secondsPerToken).toLong())
            return inner.decode(token)
        }
    }

    val phone = object : Phone {
        override fun device() = Device("phone", "Pixel 0", "Android 14", Cpu("unknown", 8), 8L shl 30, soc = "SM8650")

        override fun conditions() = Conditions("2026-01-01T00:00:00+00:00", thermalStatus = 0)

        override fun runConditions() = RunConditions(412L shl 20, 31.5, 0)
    }

    /** Robolectric draws no frames: what was posted after the text counts as one. */
    val frames = Frames { view, told -> view.post { told(System.nanoTime()) } }

    /** Lets the main thread work until [condition]; a job on another thread may take its time. */
    fun waitFor(what: String, condition: () -> Boolean) {
        val end = System.nanoTime() + 30_000_000_000
        while (true) {
            shadowOf(Looper.getMainLooper()).idleFor(Duration.ofMillis(50))
            if (condition()) return
            if (System.nanoTime() > end) fail("$what: not within 30 seconds")
            Thread.sleep(10)
        }
    }
}

/** The app with [TestWorld] for a phone. */
class TestApp : FirstTokenApp() {
    private var now: Services? = null
    override val services: Services get() = now ?: makeServices().also { now = it }

    /** As if the process were killed and started again: nothing but what is on disk is left. */
    fun killed() {
        now = null
    }

    override fun makeServices() = Services(this, TestWorld.engines, TestWorld.phone, AppFolders(this, TestWorld.staging) { arrayOf(TestWorld.media) }, { TestWorld.isLocked }, TestWorld.frames)
}
