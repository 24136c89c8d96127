package dev.firsttoken.core.chat

import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.core.json.JsonFields

/** Which white space of a message's content goes; named as manifests name it. */
enum class Trim {
    NONE,
    BOTH,
    LEFT,
    RIGHT,
    NEWLINES,
    LEADING_NEWLINES;

    fun of(text: String): String =
        when (this) {
            NONE -> text
            BOTH -> text.trim(::isSpace)
            LEFT -> text.trimStart(::isSpace)
            RIGHT -> text.trimEnd(::isSpace)
            NEWLINES -> text.trim('\n')
            LEADING_NEWLINES -> text.trimStart('\n')
        }

    companion object {
        val TEXTS = entries.map { it.name.lowercase() }.toTypedArray()

        /** The field [name] of an object in a manifest; absent is none. */
        fun read(fields: JsonFields, name: String): Trim = if (fields.has(name)) of(fields.choice(name, *TEXTS)) else NONE

        fun of(text: String): Trim = entries.first { it.name.lowercase() == text }

        /** As Python's `str.isspace`, by which templates trim; `Character.isWhitespace` means something else. */
        private fun isSpace(character: Char): Boolean =
            when (character.code) {
                in 0x9..0xd, in 0x1c..0x20, 0x85, 0xa0, 0x1680, in 0x2000..0x200a, 0x2028, 0x2029, 0x202f, 0x205f, 0x3000 -> true
                else -> false
            }
    }
}

/**
 * What a bundle's chat template writes between the contents of a conversation's messages; `Conversation` in python/firsttoken/bundle/manifest.py says
 * how the pieces go together. [openSystem] null: the template takes no system message.
 */
class ConversationPieces(
    private val open: String,
    private val openSystem: String?,
    private val systemToUser: String?,
    private val assistantToSystem: String?,
    private val userToAssistant: String,
    private val assistantToUser: String,
    private val generation: String,
    private val system: Trim,
    private val user: Trim,
    private val assistant: Trim,
    private val cutsThinking: Boolean,
    private val afterThinking: Trim,
) {
    val takesSystem: Boolean get() = openSystem != null && systemToUser != null

    /** Whether an answer begins inside its thoughts, since the template has written `<think>` already. */
    val beginsInThought: Boolean = generation.trimEnd().endsWith(Thinking.BEGIN)

    /**
     * Returns the text that asks for the answer to the last of [questions], of which [answers] has one less, after an optional [system] message.
     *
     * Raises [FirstTokenException] for a system message that the template does not take.
     */
    fun write(systemMessage: String?, questions: List<String>, answers: List<String>): String {
        require(questions.size == answers.size + 1) { "${questions.size} questions and ${answers.size} answers" }
        if (systemMessage != null && !takesSystem) throw FirstTokenException("this bundle's chat template takes no system message; leave it empty")
        val said = systemMessage?.let(system::of)
        val isAtTheEnd = assistantToSystem != null && answers.isNotEmpty()
        val text = StringBuilder(if (said == null || isAtTheEnd) open else openSystem + said + systemToUser)
        questions.forEachIndexed { turn, question ->
            if (turn > 0) {
                text.append(userToAssistant).append(content(answers[turn - 1]))
                val isLast = turn == questions.size - 1
                if (said != null && isAtTheEnd && isLast) text.append(assistantToSystem).append(said).append(systemToUser) else text.append(assistantToUser)
            }
            text.append(user.of(question))
        }
        return text.append(generation).toString()
    }

    private fun content(answer: String): String =
        if (cutsThinking && Thinking.END in answer) afterThinking.of(answer.substringAfterLast(Thinking.END)) else assistant.of(answer)

    companion object {
        /** Reads the object that a manifest has for it. */
        fun read(fields: JsonFields): ConversationPieces =
            with(fields) {
                ConversationPieces(
                    text("open"), textOrNull("open_system"), textOrNull("system_to_user"), textOrNull("assistant_to_system"),
                    text("user_to_assistant"), text("assistant_to_user"), text("generation"),
                    Trim.read(this, "system"), Trim.read(this, "user"), Trim.read(this, "assistant"),
                    has("thinking") && text("thinking") == "cut", Trim.read(this, "after_thinking"),
                )
            }
    }
}
