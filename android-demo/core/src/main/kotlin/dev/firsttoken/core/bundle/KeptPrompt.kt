package dev.firsttoken.core.bundle

/** A system prompt that the bundle keeps: conversations with [system] begin with [tokens], and [file] has what the CPU artifact's cache holds of these. */
class KeptPrompt(val file: String, val system: String, val tokens: IntArray)
