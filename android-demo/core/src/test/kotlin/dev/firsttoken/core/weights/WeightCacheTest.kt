package dev.firsttoken.core.weights

import dev.firsttoken.core.assertRefused
import dev.firsttoken.core.bundle.BundleKey
import java.io.Closeable
import java.io.File
import java.nio.file.Files
import java.nio.file.attribute.FileTime
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNotEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test

/** What packs is a runtime in android-demo's JVM tests on LiteRT; here it is a few bytes, written where they are not yet. */
class WeightCacheTest {
    private val folder = Files.createTempDirectory("weights").toFile()
    private val cache = WeightCache(folder, "litert-2.3.0")
    private val artifact = "ab".repeat(32)

    /** As XNNPACK does: takes what is there, without a look, else packs. Returns whether it packed, and from which file. */
    private fun load(cache: WeightCache = this.cache, artifact: String = this.artifact, bytes: Long = 1000): Pair<Boolean, File?> {
        var packed = false
        var used: File? = null
        cache.load(artifact, bytes) { file ->
            used = file
            packed = file?.exists() != true
            if (packed) file?.writeText("packed weights")
            Closeable { }
        }
        return packed to used
    }

    @Test fun packsOnceAndIsThereTheNextTime() {
        val (packed, partial) = load()
        assertTrue(packed)
        assertNotEquals("under another name until it is complete", cache.file(artifact), partial)
        assertEquals(false to cache.file(artifact), load())
        assertEquals("the file and its note, nothing else", 2, folder.list()!!.size)
    }

    @Test fun whereTheProcessEndsBeforeItIsNotedItIsPackedAgain() {
        val waiting = ArrayList<() -> Unit>()
        val cache = WeightCache(folder, "litert-2.3.0") { waiting += it }
        assertTrue(load(cache).first)
        assertFalse(cache.file(artifact).exists())
        assertTrue(load(cache).first)
        waiting.forEach { it() }
        assertFalse(load(cache).first)
        assertEquals("the file and its note, nothing else", 2, folder.list()!!.size)
    }

    @Test fun anotherArtifactOrVersionPacksItsOwn() {
        load()
        assertTrue(load(artifact = "cd".repeat(32)).first)
        assertTrue(load(WeightCache(folder, "litert-2.3.1")).first)
    }

    @Test fun aDamagedFileIsNoticedBeforeItIsLoaded() {
        load()
        cache.file(artifact).writeText("packed Weights") // of the same size
        assertTrue(load().first)
        assertEquals("packed weights", cache.file(artifact).readText())
    }

    @Test fun aDamagedFileIsNoticedUnderItsOldTime() {
        load()
        val file = cache.file(artifact).toPath()
        val time = Files.getLastModifiedTime(file)
        file.toFile().writeText("packed Weights")
        Files.setLastModifiedTime(file, time)
        assertTrue(load().first)
    }

    @Test fun aHalfWrittenFileAndOneWithoutANoteAreNoticed() {
        load()
        cache.file(artifact).writeText("packed")
        assertTrue(load().first)
        File(folder, cache.file(artifact).name + ".json").writeText("{\"size\": 14}")
        assertTrue(load().first)
        File(folder, cache.file(artifact).name + ".json").delete()
        assertTrue(load().first)
        assertFalse(load().first)
    }

    @Test fun aTouchedFileOfTheSameContentStays() {
        load()
        Files.setLastModifiedTime(cache.file(artifact).toPath(), FileTime.fromMillis(12345))
        assertFalse(load().first)
        assertFalse(load().first)
    }

    @Test fun aLoadThatFailsLeavesNothing() {
        val error = runCatching {
            cache.load<Closeable>(artifact, 1000) { file ->
                file!!.writeText("half")
                throw IllegalStateException("no")
            }
        }
        assertTrue(error.exceptionOrNull() is IllegalStateException)
        assertEquals(emptyList<String>(), folder.list()!!.toList())
    }

    @Test fun whatADeadProcessLeftGoesAndALivingOnesStays() {
        File(folder, "x.cache.999999999.partial").writeText("half")
        File(folder, "y.cache.${File("/proc/self").canonicalFile.name}.partial").writeText("half")
        File(folder, "z.cache.json").writeText("{}")
        load()
        assertEquals(listOf("y"), folder.list()!!.filter { it.endsWith(".partial") || it.startsWith("z") }.map { it.substringBefore('.') })
    }

    @Test fun onlyTheLastUsedStay() {
        val artifacts = (0..WeightCache.KEPT).map { "%064d".format(it) }
        for ((place, one) in artifacts.withIndex()) {
            load(artifact = one)
            File(folder, cache.file(one).name + ".json").setLastModified(1_000_000L * (place + 1))
        }
        load(artifact = artifacts[0].replace('0', 'a')) // one more
        assertEquals(WeightCache.KEPT, folder.list()!!.count { it.endsWith(".cache") })
        assertFalse("the oldest two are gone", cache.file(artifacts[0]).exists() || cache.file(artifacts[1]).exists())
    }

    @Test fun anArtifactIsReadAgainOnlyWhereItHasChanged() {
        val model = File(folder, "model.tflite").apply { writeText("weights") }
        val sha256 = BundleKey.sha256(model)
        cache.check(model, sha256)
        cache.check(model, sha256)
        Files.setLastModifiedTime(model.toPath(), FileTime.fromMillis(12345))
        cache.check(model, sha256)
        model.writeText("Weights")
        for (time in 1..2) assertRefused("model.tflite: its SHA-256 is not the manifest's", "copy the bundle again") { cache.check(model, sha256) }
        model.delete()
        assertRefused("cannot be read") { cache.check(model, sha256) }
        assertRefused("its SHA-256 is not") { WeightCache(File("/proc/nowhere"), "r").check(model.apply { writeText("other") }, sha256) }
    }

    @Test fun withoutRoomOrFolderItPacksInMemory() {
        assertNull(load(bytes = Long.MAX_VALUE / 4).second)
        assertNull(load(WeightCache(File("/proc/nowhere"), "litert-2.3.0")).second)
    }
}
