package dev.firsttoken.core.generate

import dev.firsttoken.core.bundle.Manifest

/**
 * Runs [first]; where its very first call fails, [second] takes over with the same tokens, and says why.
 *
 * [inUse] is how [first] is told of. Once a call of [first] has succeeded it is trusted: a later failure is the caller's to hear of. [describe] makes a reason of what was
 * raised, or rethrows what nothing can go on after.
 */
class FallbackEngine(
    manifest: Manifest, private val first: Engine, private val describe: (Throwable) -> String, private val inUse: ArtifactInUse = first.artifact, private val second: (String) -> Engine,
) : Engine(manifest) {
    private var engine = first
    private var isTrusted = false

    override val cacheLength get() = engine.cacheLength
    override val prefillLength get() = engine.prefillLength
    override val artifact get() = if (engine === first) inUse else engine.artifact
    override val runner get() = engine.runner

    override fun prefillChunk(tokens: IntArray): FloatArray = attempt { prefill(tokens) }

    override fun decodeToken(token: Int): FloatArray = attempt { decode(token) }

    /** The engine beneath has had the same tokens, and keeps as many. */
    override fun forget(length: Int) = engine.rollBack(length)

    override fun reset() {
        engine.reset()
        super.reset()
    }

    override fun close() = engine.close()

    private fun attempt(call: Engine.() -> FloatArray): FloatArray {
        if (isTrusted) return engine.call()
        try {
            return engine.call().also { isTrusted = true }
        } catch (error: Throwable) {
            val reason = describe(error)
            engine.close()
            engine = second(reason)
            isTrusted = true
        }
        return engine.call()
    }
}
