package dev.firsttoken.core.measure

/** Figures of runs of one prompt length and state; nanoseconds, tokens per second and bytes. A figure that no run has is absent. */
class RunSummary(val firstToken: Summary?, val stages: Map<String, Summary>, val decodeSpeed: Summary?, val peakMemory: Summary?) {
    companion object {
        val STAGES = listOf("load", "tokenize", "prefill", "sample", "detokenize", "render")

        fun of(runs: List<Run>): RunSummary {
            val stages = LinkedHashMap<String, Summary>()
            for (stage in STAGES) Summary.of(runs.map { it.stages.byName[stage] })?.let { stages[stage] = it }
            return RunSummary(
                firstToken = Summary.of(runs.map { it.stages.firstToken }),
                stages = stages,
                decodeSpeed = Summary.of(runs.map { run -> run.decode?.let { 1e9 * it.tokens / it.nanoseconds } }),
                peakMemory = Summary.of(runs.map { it.peakMemoryBytes }),
            )
        }

        /** The runs of each prompt length and state, shortest prompt first and cold before warm; warm-ups are never reported. */
        fun groups(result: Result): Map<Pair<Int, String>, List<Run>> =
            result.runs.filter { it.state != "warm-up" }
                .groupBy { it.promptTokens to it.state }
                .toSortedMap(compareBy({ it.first }, { it.second }))

        /**
         * The stages, in nanoseconds, of the run in the middle by TTFT; of the two in the middle their mean.
         *
         * They add up to the median TTFT, which the medians of the single stages do not.
         */
        fun middleStages(runs: List<Run>): Map<String, Double> {
            if (runs.isEmpty()) return emptyMap()
            val ordered = runs.sortedBy { it.stages.firstToken }
            val middle = ordered.subList((ordered.size - 1) / 2, ordered.size / 2 + 1)
            return STAGES.filter { stage -> middle.any { it.stages.byName[stage] != null } }
                .associateWith { stage -> middle.map { (it.stages.byName[stage] ?: 0L).toDouble() }.average() }
        }
    }
}
