package dev.firsttoken.core.benchmark

import com.google.gson.JsonObject
import com.google.gson.JsonParser
import dev.firsttoken.core.assertRefused
import dev.firsttoken.core.generate.ArtifactChoice
import dev.firsttoken.core.holding
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

class RequestTest {
    @get:Rule val folder = TemporaryFolder()
    private val id = "0f".repeat(16)

    private fun values(change: JsonObject.() -> Unit = {}): JsonObject =
        JsonParser.parseString(
            """{"protocol": 1, "id": "$id", "bundle": "${"9a".repeat(16)}", "state": "warm", "threads": 4, "repeat": 5, "decode_tokens": 32, "chat": true,
                "prompts": [{"tokens": 32, "text": "a"}, {"tokens": 128, "text": "b"}]}""",
        ).asJsonObject.apply(change)

    private fun parse(change: JsonObject.() -> Unit) = Request.parse(values(change), id)

    @Test fun readsWhatTheProtocolsPageShows() {
        val request = parse { }
        assertEquals(listOf(32 to "a", 128 to "b"), request.prompts.map { it.tokens to it.text })
        assertEquals("warm", request.state)
        assertEquals(32, request.decodeTokens)
        assertTrue(request.chat && request.threads == 4 && request.repeat == 5)
    }

    @Test fun everyBoundIsKept() {
        for ((name, good, bad) in listOf(Triple("threads", listOf(1, 16), listOf(0, 17)), Triple("repeat", listOf(1, 1000), listOf(0, 1001)), Triple("decode_tokens", listOf(0, 4096), listOf(-1, 4097)))) {
            good.forEach { value -> parse { addProperty(name, value) } }
            bad.forEach { value -> assertRefused("request: $name is $value") { parse { addProperty(name, value) } } }
        }
        assertRefused("prompts is a list of 0") { parse { add("prompts", JsonParser.parseString("[]")) } }
        assertRefused("prompts is a list of 33") { parse { add("prompts", JsonParser.parseString((1..33).joinToString(prefix = "[", postfix = "]") { """{"tokens": $it, "text": "a"}""" })) } }
        assertRefused("prompts[0].tokens is 0") { parse { add("prompts", JsonParser.parseString("""[{"tokens": 0, "text": "a"}]""")) } }
        assertRefused("length twice") { parse { add("prompts", JsonParser.parseString("""[{"tokens": 1, "text": "a"}, {"tokens": 1, "text": "b"}]""")) } }
    }

    @Test fun coldIsOnePromptAndOneRun() {
        val one = JsonParser.parseString("""[{"tokens": 32, "text": "a"}]""")
        assertTrue(parse { addProperty("state", "cold"); addProperty("repeat", 1); add("prompts", one) }.cold)
        assertRefused("repeat is 5") { parse { addProperty("state", "cold"); add("prompts", one) } }
        assertRefused("prompts is a list of 2") { parse { addProperty("state", "cold"); addProperty("repeat", 1) } }
    }

    @Test fun theArtifactMayBeChosen() {
        assertEquals(ArtifactChoice.AUTO, parse { }.artifact)
        for (choice in ArtifactChoice.entries) assertEquals(choice, parse { addProperty("artifact", choice.text) }.artifact)
        assertRefused("request: artifact is 'tpu'", "auto, cpu, gpu, npu") { parse { addProperty("artifact", "tpu") } }
    }

    @Test fun anythingElseIsRefused() {
        assertRefused("protocol is 2", "speaks 1") { parse { addProperty("protocol", 2) } }
        assertRefused("protocol is nothing") { parse { remove("protocol") } }
        assertRefused("state is 'hot'") { parse { addProperty("state", "hot") } }
        assertRefused("chat is \"yes\"") { parse { addProperty("chat", "yes") } }
        assertRefused("bundle is '../../x'", "32 hexadecimal digits") { parse { addProperty("bundle", "../../x") } }
        assertRefused("id is", "as its file is named") { Request.parse(values(), "ab".repeat(16)) }
        assertRefused("more is not known") { parse { addProperty("more", 1) } }
    }

    @Test fun aRequestOfMoreThanAMebibyteIsNotRead() =
        assertRefused("expected a benchmark request of at most 1048576") { Request.read(folder.newFile().holding(" ".repeat(1024 * 1024 + 1)), id) }

    @Test fun aBundleIsLookedForInEveryFolder() {
        val (first, second) = listOf(folder.newFolder(), folder.newFolder())
        val folders = BenchmarkFolders(folder.root, listOf(first, second), folder.root)
        assertEquals("named where it is nowhere", first, folders.bundle(id).parentFile)
        java.io.File(second, "$id/manifest.json").apply { parentFile!!.mkdirs() }.writeText("{}")
        assertEquals(second, folders.bundle(id).parentFile)
    }

    @Test fun noPathOutsideTheFoldersCanBeMade() {
        val folders = BenchmarkFolders(folder.root, folder.root)
        for (bad in listOf("", "..", "../../etc/passwd", "AB".repeat(16), "ab".repeat(16) + "/", "ab".repeat(15))) {
            assertRefused("32 hexadecimal digits") { folders.request(bad) }
            assertRefused("32 hexadecimal digits") { folders.bundle(bad) }
            assertRefused("32 hexadecimal digits") { folders.measurement(bad) }
            assertRefused("32 hexadecimal digits") { folders.progress(bad) }
        }
    }
}
