package dev.firsttoken.core.tokenizer

/**
 * All of Unicode in 256 characters, as far as [sets] tell characters apart: ASCII stays, and every other character becomes the one that
 * stands for all that are in the same sets.
 *
 * A regular expression over these sets finds the same in text that is written so, and the engine needs no tables of Unicode for it.
 */
internal class SmallAlphabet(private val sets: List<CodePoints>) {
    private val pages: Array<ByteArray>
    private val standingFor = IntList() // one character of each kind

    /** How many kinds there are beyond ASCII: at most [MOST] can be told apart. */
    val kinds get() = standingFor.size

    init {
        val begins = sets.flatMap { it.bounds.asList() }.filter { it in ASCII + 1 until CodePoints.END }.plus(ASCII).distinct().sorted()
        val known = HashMap<List<Int>, Int>()
        val flat = ByteArray(PAGE)
        val uniform = HashMap<Int, ByteArray>()
        val made = ArrayList<ByteArray>(CodePoints.END / PAGE)
        for ((place, begin) in begins.withIndex()) {
            val kind = known.getOrPut(sets.indices.filter { begin in sets[it] }) { standingFor.add(begin).let { standingFor.size - 1 } }
            val end = begins.getOrElse(place + 1) { CodePoints.END }
            var at = begin
            while (at < end) {
                val stop = minOf(end, (at / PAGE + 1) * PAGE)
                if (stop - at == PAGE) { // pages of one kind are the most by far
                    made += uniform.getOrPut(kind) { ByteArray(PAGE) { kind.toByte() } }
                } else {
                    flat.fill(kind.toByte(), at % PAGE, (stop - 1) % PAGE + 1)
                    if (stop % PAGE == 0) made += flat.copyOf()
                }
                at = stop
            }
        }
        pages = made.toTypedArray()
    }

    fun write(point: Int): Char = if (point < ASCII) point.toChar() else (ASCII + (pages[point / PAGE][point % PAGE].toInt() and 0xff)).toChar()

    /** The set as a class of a regular expression over this alphabet; it must be one of [sets]. */
    fun expression(set: CodePoints): String {
        val inside = (0 until ASCII).filter { it in set } + (0 until standingFor.size).filter { standingFor[it] in set }.map { ASCII + it }
        // one by one, not as ranges: of single characters Java makes a table, of ranges a chain of comparisons
        return if (inside.isEmpty()) NOTHING else inside.joinToString("", "[", "]", transform = ::hex)
    }

    companion object {
        const val ASCII = 0x80
        const val MOST = 0x80
        private const val PAGE = 256
        private const val NOTHING = "(?!)"

        fun hex(code: Int) = "\\x{${Integer.toHexString(code).uppercase()}}"
    }
}
