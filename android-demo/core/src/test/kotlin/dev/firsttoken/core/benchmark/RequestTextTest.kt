package dev.firsttoken.core.benchmark

import dev.firsttoken.core.generate.ArtifactChoice
import dev.firsttoken.core.json.JsonText
import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

class RequestTextTest {
    @get:Rule val folder = TemporaryFolder()

    @Test fun whatIsWrittenIsReadBack() {
        val id = "ab".repeat(16)
        val request = Request(id, "cd".repeat(16), cold = false, threads = 4, repeat = 5, decodeTokens = 32, chat = true, prompts = listOf(PromptRequest(3, "a \"b\"\n日"), PromptRequest(9, "c")))
        val file = File(folder.root, "$id.json")
        RequestText.write(request, file)
        val read = Request.read(file, id)
        assertEquals(RequestText.of(request), RequestText.of(read))
        assertEquals(listOf("a \"b\"\n日", "c"), read.prompts.map { it.text })
        assertEquals(9, JsonText.parseObject(RequestText.of(request), "r").size())
        val onCpu = with(request) { Request(id, bundle, cold, threads, repeat, decodeTokens, chat, prompts, ArtifactChoice.CPU) }
        assertEquals(ArtifactChoice.CPU, Request.parse(JsonText.parseObject(RequestText.of(onCpu), "r"), id).artifact)
    }
}
