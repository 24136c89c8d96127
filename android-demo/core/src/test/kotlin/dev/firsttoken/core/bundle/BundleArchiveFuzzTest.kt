package dev.firsttoken.core.bundle

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.Parity
import dev.firsttoken.core.generate.DemoFiles
import java.io.ByteArrayInputStream
import java.io.ByteArrayOutputStream
import java.io.File
import java.io.IOException
import java.util.Random
import java.util.zip.CRC32
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Assert.fail
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

/** Archives damaged by a seed: each is unpacked, or refused in one line, and a refused one leaves nothing. The same seed gives the same archives. */
class BundleArchiveFuzzTest {
    @get:Rule val folder = TemporaryFolder()
    private lateinit var members: Map<String, ByteArray>
    private lateinit var bundles: File

    @Before fun members() {
        Parity.folder()
        members = DemoFiles.bundle(folder.newFolder(), DemoFiles.manifestText).listFiles()!!.sortedBy { it.name }.associate { it.name to it.readBytes() }
        bundles = folder.newFolder()
    }

    @Test fun damagedArchivesAreUnpackedOrRefused() {
        val random = Random(1)
        val zipped = zipped(members.toList(), random)
        val ended = (0 until INPUTS).groupingBy { number -> outcome(number, bytesChanged(zipped, random)) }.eachCount()
        assertTrue("$ended", ended.getValue(REFUSED) > INPUTS / 2)
    }

    @Test fun archivesOfOddMembersAreUnpackedOrRefused() {
        val random = Random(2)
        val ended = (0 until INPUTS).groupingBy { number -> outcome(number, zipped(membersChanged(random), random)) }.eachCount()
        assertTrue("$ended", ended.getValue(REFUSED) > INPUTS / 4 && ended.getValue(UNPACKED) > 0)
    }

    @Test fun manifestsChangedInsideAreReadOrRefused() {
        val random = Random(3)
        val manifest = members.getValue(MANIFEST_FILE)
        val ended = (0 until INPUTS).groupingBy { number ->
            outcome(number, zipped((members + (MANIFEST_FILE to bytesChanged(manifest, random))).toList(), random))
        }.eachCount()
        assertTrue("$ended", ended.getValue(REFUSED) > INPUTS / 2)
    }

    private fun outcome(number: Int, archive: ByteArray): String {
        val began = System.nanoTime()
        val ended = try {
            BundleArchive(bundles, LARGEST).unpack(ByteArrayInputStream(archive)).deleteRecursively()
            UNPACKED
        } catch (refusal: FirstTokenException) {
            if (refusal.message.orEmpty().any(Char::isISOControl)) fail("input $number: '${refusal.message}' holds control characters")
            REFUSED
        } catch (unreadable: IOException) {
            REFUSED
        } catch (other: Throwable) {
            throw AssertionError("input $number: $other", other)
        }
        assertTrue("input $number takes ${(System.nanoTime() - began) / 1_000_000} ms", System.nanoTime() - began < MOST_NANOSECONDS)
        assertEquals("input $number leaves nothing", emptyList<String>(), bundles.list()!!.toList())
        return ended
    }

    private fun bytesChanged(bytes: ByteArray, random: Random): ByteArray {
        var made = bytes.copyOf()
        repeat(1 + random.nextInt(6)) {
            val at = random.nextInt(made.size + 1)
            made = when (random.nextInt(7)) {
                0, 1 -> made.also { if (at < it.size) it[at] = (it[at].toInt() xor (1 shl random.nextInt(8))).toByte() }
                2 -> made.also { if (at < it.size) it[at] = ODD_BYTES[random.nextInt(ODD_BYTES.size)].toByte() }
                3 -> made.copyOf(at) + ByteArray(1 + random.nextInt(64)).also(random::nextBytes) + made.copyOfRange(at, made.size)
                4 -> made.copyOf(at) + made.copyOfRange(minOf(made.size, at + 1 + random.nextInt(64)), made.size)
                5 -> made.also { for (n in at until minOf(it.size, at + 4)) it[n] = if (random.nextBoolean()) -1 else 0 }
                else -> if (random.nextInt(4) == 0) made.copyOf(at) else made
            }
        }
        return made
    }

    private fun membersChanged(random: Random): List<Pair<String, ByteArray>> {
        val made = members.toList().toMutableList()
        repeat(1 + random.nextInt(2)) {
            if (made.isEmpty()) return made
            val at = random.nextInt(made.size)
            val (name, bytes) = made[at]
            when (random.nextInt(6)) {
                0 -> made[at] = ODD_NAMES[random.nextInt(ODD_NAMES.size)] to bytes
                1 -> made.removeAt(at)
                2 -> made += ODD_NAMES[random.nextInt(ODD_NAMES.size)] to ByteArray(random.nextInt(300))
                3 -> made[at] = name to ByteArray(if (random.nextInt(20) == 0) 3 shl 20 else random.nextInt(5000))
                4 -> made[at] = "folder/$name" to bytes
                else -> made.shuffle(random)
            }
        }
        return made.distinctBy { it.first } // a writer refuses a name twice; BundleArchiveTest has an archive with one
    }

    private fun zipped(members: List<Pair<String, ByteArray>>, random: Random): ByteArray {
        val out = ByteArrayOutputStream()
        ZipOutputStream(out).use { zip ->
            for ((name, bytes) in members) {
                zip.putNextEntry(
                    ZipEntry(name).apply {
                        time = 0
                        if (random.nextInt(3) == 0) {
                            method = ZipEntry.STORED
                            size = bytes.size.toLong()
                            crc = CRC32().apply { update(bytes) }.value
                        }
                    },
                )
                zip.write(bytes)
            }
        }
        return out.toByteArray()
    }

    private companion object {
        const val INPUTS = 700
        const val LARGEST = 2L shl 20
        const val MOST_NANOSECONDS = 10_000_000_000
        const val UNPACKED = "unpacked"
        const val REFUSED = "refused"
        val ODD_BYTES = listOf(0, 1, 0x1B, 0x22, 0x2F, 0x5C, 0x7F, 0x80, 0xFF)
        val ODD_NAMES = listOf(
            "", "/", ".", "..", "../evil", "/etc/evil", "a/b/c", "a\\b", "C:\\x", "con", "\u0000", "a\u001b[31m", "\u202eabc", "x".repeat(300), "x".repeat(60_000),
            "manifest.json/", "Manifest.json", "é日😀", ".import.partial", "folder/", "folder/../x", "virus.sh",
        )
    }
}
