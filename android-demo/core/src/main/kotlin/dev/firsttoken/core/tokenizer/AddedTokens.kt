package dev.firsttoken.core.tokenizer

/** An entry of `added_tokens`: found in the text before anything else is done, or after normalizing where [normalized]. */
internal class AddedToken(
    val id: Int,
    val content: String,
    val special: Boolean,
    val normalized: Boolean,
    val singleWord: Boolean,
    val stripLeft: Boolean,
    val stripRight: Boolean,
)

/** A part of the text: the token [id], or [text] where the id is -1. [atStart] says that it begins the whole text. */
internal class Segment(val text: String, val id: Int, val atStart: Boolean)

/** Finds added tokens in text, leftmost first and of several the longest. [texts] are what to look for, by token. */
internal class AddedTokens(tokens: List<AddedToken>, texts: List<String> = tokens.map { it.content }) {
    private class Node {
        val next = HashMap<Char, Node>()
        var token: AddedToken? = null
    }

    private val root = Node()

    init {
        tokens.zip(texts).filter { it.second.isNotEmpty() }.forEach { (token, text) ->
            text.fold(root) { node, character -> node.next.getOrPut(character, ::Node) }.token = token
        }
    }

    /** Splits [text] at the tokens found in it; nothing that is empty comes out. */
    fun split(text: String, atStart: Boolean): List<Segment> {
        if (text.isEmpty()) return emptyList()
        val segments = ArrayList<Segment>()
        var from = 0
        var place = 0
        while (place < text.length) {
            val (token, end) = longestAt(text, place) ?: run {
                place++
                null
            } ?: continue
            if (!token.singleWord || standsAlone(text, place, end)) {
                val start = if (token.stripLeft) maxOf(from, spaceBefore(text, place)) else place
                val stop = if (token.stripRight) spaceAfter(text, end) else end
                if (from < start) segments.add(Segment(text.substring(from, start), -1, atStart && from == 0))
                segments.add(Segment("", token.id, atStart && start == 0))
                from = stop
            }
            place = end
        }
        if (from < text.length) segments.add(Segment(text.substring(from), -1, atStart && from == 0))
        return segments
    }

    private fun longestAt(text: String, start: Int): Pair<AddedToken, Int>? {
        var node = root.next[text[start]] ?: return null
        var found: Pair<AddedToken, Int>? = node.token?.let { it to start + 1 }
        for (place in start + 1 until text.length) {
            node = node.next[text[place]] ?: break
            node.token?.let { found = it to place + 1 }
        }
        return found
    }

    private fun standsAlone(text: String, start: Int, end: Int) =
        (start == 0 || text.codePointBefore(start) !in wordCharacters) && (end == text.length || text.codePointAt(end) !in wordCharacters)

    private fun spaceBefore(text: String, end: Int): Int {
        var place = end
        while (place > 0 && Whitespace.matches(text[place - 1])) place--
        return place
    }

    private fun spaceAfter(text: String, start: Int): Int {
        var place = start
        while (place < text.length && Whitespace.matches(text[place])) place++
        return place
    }

    private companion object {
        /** Unicode's word characters (Technical Standard 18, Annex C); the last ranges are letters in circles and squares. */
        val wordCharacters by lazy {
            val categories = listOf("L", "M", "Nd", "Nl", "Pc").mapNotNull(CodePoints::category)
            CodePoints.union(categories + CodePoints.of(0x200c..0x200d, 0x24b6..0x24e9, 0x1f130..0x1f149, 0x1f150..0x1f169, 0x1f170..0x1f189))
        }
    }
}
