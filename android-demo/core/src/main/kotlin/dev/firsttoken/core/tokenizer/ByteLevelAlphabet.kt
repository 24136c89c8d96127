package dev.firsttoken.core.tokenizer

/**
 * GPT-2's writing of bytes as visible characters: printable Latin-1 bytes stand for themselves, the others for U+0100 onwards
 * (Radford et al., Language Models are Unsupervised Multitask Learners, 2019, encoder.py).
 */
internal object ByteLevelAlphabet {
    private val characters = CharArray(256)
    private val bytes = HashMap<Char, Byte>()

    init {
        var next = 0x100
        for (byte in 0..255) {
            val printable = byte in 0x21..0x7e || byte in 0xa1..0xac || byte in 0xae..0xff
            characters[byte] = if (printable) byte.toChar() else (next++).toChar()
            bytes[characters[byte]] = byte.toByte()
        }
    }

    fun character(byte: Int): Char = characters[byte]

    /** Returns the UTF-8 bytes of [text] in this alphabet. */
    fun write(text: String): String {
        val source = text.toByteArray(Charsets.UTF_8)
        return String(CharArray(source.size) { characters[source[it].toInt() and 0xff] })
    }

    /** Returns the bytes that [text] stands for, or its own UTF-8 bytes if some character is not of the alphabet (added tokens). */
    fun read(text: String): ByteArray {
        val read = ByteArray(text.length)
        for (place in text.indices) read[place] = bytes[text[place]] ?: return text.toByteArray(Charsets.UTF_8)
        return read
    }
}
