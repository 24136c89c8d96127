package dev.firsttoken.core.benchmark

/** Which runs of a request are still missing. Warm-ups are not counted: every process has its own. */
internal class RunPlan(private val request: Request, private val log: MeasurementLog) {
    /** Asked runs that an earlier process has written. */
    val kept: Int = done()

    /** Runs still to do at the start. */
    val total: Int = request.prompts.size * request.repeat - kept

    /** Runs done by this process. */
    val doneHere: Int get() = done() - kept

    /** The prompts by turns: in round r every prompt that has no more than r runs. */
    fun warmRuns(): Sequence<PromptRequest> = sequence {
        for (round in 0 until request.repeat) for (prompt in request.prompts) if (log.count(prompt.tokens, request.state) <= round) yield(prompt)
    }

    private fun done(): Int = request.prompts.sumOf { minOf(log.count(it.tokens, request.state), request.repeat) }
}
