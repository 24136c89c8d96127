package dev.firsttoken.demo.measure

import android.content.Context
import android.view.LayoutInflater
import android.widget.LinearLayout
import android.widget.TextView
import dev.firsttoken.core.measure.Measurement
import dev.firsttoken.core.measure.RanArtifact
import dev.firsttoken.core.measure.Result
import dev.firsttoken.core.measure.Run
import dev.firsttoken.core.measure.RunSummary
import dev.firsttoken.demo.R
import dev.firsttoken.demo.view.Numbers
import dev.firsttoken.demo.view.StageBarView
import dev.firsttoken.demo.view.StageText

/** Results as bars, those of one prompt length below each other on one scale. */
class ResultsView(private val list: LinearLayout) {
    private val context: Context = list.context
    private val inflater = LayoutInflater.from(context)

    fun show(measurement: Measurement?) {
        list.removeAllViews()
        val found = measurement?.results.orEmpty().flatMap { result -> RunSummary.groups(result).map { (group, runs) -> group to (result to runs) } }
        for ((group, rows) in found.groupBy({ it.first }, { it.second }).toSortedMap(compareBy({ it.first }, { it.second }))) {
            heading(group.first, group.second)
            val whole = rows.maxOf { (_, runs) -> RunSummary.middleStages(runs).values.sum() }
            for ((result, runs) in rows) row(result, runs, whole)
        }
        if (found.isNotEmpty()) legend()
        for (result in measurement?.results.orEmpty()) result.artifact?.let { fallen(result, it) }
        for (result in measurement?.results.orEmpty()) result.runner?.fallback?.let { line(context.getString(R.string.result_runner_fallback, name(result), it), R.layout.item_failure) }
        for (result in measurement?.results.orEmpty()) result.runner?.unpacked?.let { line(context.getString(R.string.result_unpacked, name(result), it), R.layout.item_failure) }
        for (result in measurement?.results.orEmpty()) for (failure in result.failures) line(context.getString(R.string.result_failure, name(result), failure.stage, failure.message), R.layout.item_failure)
    }

    private fun fallen(result: Result, ran: RanArtifact) {
        val reason = ran.fallback ?: return
        line(context.getString(R.string.result_fallback, name(result), ran.kind.uppercase(), ran.insteadOf.uppercase(), reason), R.layout.item_failure)
    }

    private fun heading(tokens: Int, state: String) {
        val name = context.getString(if (state == "cold") R.string.cold else R.string.warm)
        line(context.getString(R.string.result_heading, tokens, name), R.layout.item_heading)
    }

    private fun row(result: Result, runs: List<Run>, whole: Double) {
        val row = inflater.inflate(R.layout.item_result, list, false)
        val summary = RunSummary.of(runs)
        val first = summary.firstToken ?: return
        row.findViewById<TextView>(R.id.name).text = name(result)
        row.findViewById<StageBarView>(R.id.bar).show(RunSummary.middleStages(runs), whole)
        val figures = context.getString(R.string.result_figures, Numbers.milliseconds(first.median), Numbers.milliseconds(first.minimum), Numbers.milliseconds(first.p90), first.count)
        val speed = summary.decodeSpeed?.let { "\n" + context.getString(R.string.result_speed, Numbers.rate(it.median)) }.orEmpty()
        val memory = summary.peakMemory?.let { " " + context.getString(R.string.result_memory, Numbers.bytes(it.maximum.toLong())) }.orEmpty()
        val unseen = runs.count { it.stages.render == null }
        val frames = if (unseen == 0) "" else "\n" + context.getString(R.string.result_unseen, unseen, runs.size)
        row.findViewById<TextView>(R.id.figures).text = figures + speed + memory + frames
        list.addView(row)
    }

    private fun legend() {
        val text = android.text.SpannableStringBuilder()
        for (stage in RunSummary.STAGES) {
            val start = text.length
            text.append("■\u00a0")
            text.setSpan(android.text.style.ForegroundColorSpan(StageText.color(context, stage)), start, text.length, android.text.Spanned.SPAN_EXCLUSIVE_EXCLUSIVE)
            text.append(StageText.name(context, stage).replace(' ', '\u00a0')).append("   ")
        }
        line(text, R.layout.item_legend)
    }

    private fun line(text: CharSequence, layout: Int) {
        list.addView((inflater.inflate(layout, list, false) as TextView).apply { this.text = text })
    }

    private fun name(result: Result): String {
        val plain = context.getString(R.string.result_name, result.bundle.checkpoint, result.bundle.plan, result.runtimeVersion, result.threads)
        val name = result.runner?.let { context.getString(R.string.result_runner, plain, it.kind) } ?: plain
        return result.artifact?.let { context.getString(R.string.result_artifact, name, it.kind.uppercase()) } ?: name
    }
}
