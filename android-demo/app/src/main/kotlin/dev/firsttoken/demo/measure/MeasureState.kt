package dev.firsttoken.demo.measure

import dev.firsttoken.core.measure.Measurement

/** How a benchmark started in the app goes. [done] of [total] runs are ready; [results] is what is measured so far;
 * [message] says how it ended, and is one to heed where it [isProblem]. */
data class MeasureState(
    val isRunning: Boolean = false,
    val bundle: String = "",
    val phase: String = "",
    val done: Int = 0,
    val total: Int = 0,
    val message: String? = null,
    val isProblem: Boolean = false,
    val results: Measurement? = null,
)
