package dev.firsttoken.core.measure

import kotlin.math.sqrt

/** Figures of a list of values, in their unit; the same as python/firsttoken/measure/summary.py. [deviation] is absent for a single value. */
class Summary(
    val count: Int,
    val median: Double,
    val minimum: Double,
    val maximum: Double,
    val p90: Double,
    val mean: Double,
    val deviation: Double?,
) {
    companion object {
        /**
         * Returns the figures of [values], those that are null left out, or null where nothing is left.
         *
         * The 90th percentile interpolates linearly between the sorted values at position `0.9 (n - 1)` (type 7 of Hyndman and Fan,
         * Sample Quantiles in Statistical Packages, 1996). The deviation is the sample's, divided by `n - 1`.
         */
        fun of(values: Iterable<Number?>): Summary? {
            val known = values.mapNotNull { it?.toDouble() }.sorted()
            if (known.isEmpty()) return null
            val mean = known.sum() / known.size
            return Summary(
                count = known.size,
                median = (known[(known.size - 1) / 2] + known[known.size / 2]) / 2,
                minimum = known.first(),
                maximum = known.last(),
                p90 = percentile90(known),
                mean = mean,
                deviation = if (known.size == 1) null else sqrt(known.sumOf { (it - mean) * (it - mean) } / (known.size - 1)),
            )
        }

        private fun percentile90(sorted: List<Double>): Double {
            val tenths = 9 * (sorted.size - 1)
            val (place, rest) = tenths / 10 to tenths % 10
            return if (rest == 0) sorted[place] else (sorted[place] * (10 - rest) + sorted[place + 1] * rest) / 10
        }
    }
}
