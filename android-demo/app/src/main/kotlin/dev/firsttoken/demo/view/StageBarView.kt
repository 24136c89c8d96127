package dev.firsttoken.demo.view

import android.content.Context
import android.graphics.Canvas
import android.graphics.Paint
import android.graphics.RectF
import android.util.AttributeSet
import android.view.View
import dev.firsttoken.demo.R

/** A horizontal bar of stages that follow each other. Several bars beside each other share one [scale]. */
class StageBarView @JvmOverloads constructor(context: Context, attributes: AttributeSet? = null) : View(context, attributes) {
    private var stages: Map<String, Double> = emptyMap()
    private var scale = 1.0
    private val paint = Paint(Paint.ANTI_ALIAS_FLAG)
    private val box = RectF()
    /** How high the bar is, in pixels. */
    var thickness = resources.getDimensionPixelSize(R.dimen.bar_height)
        set(value) {
            field = value
            requestLayout()
        }

    /** Shows [stages], nanoseconds by name; the whole width stands for [whole] nanoseconds, at least for all of them. */
    fun show(stages: Map<String, Double>, whole: Double = 0.0) {
        this.stages = stages
        scale = maxOf(whole, stages.values.sum(), 1.0)
        contentDescription = stages.entries.joinToString(
            prefix = resources.getString(R.string.bar_description, Numbers.milliseconds(stages.values.sum())) + " ",
        ) { (stage, nanoseconds) -> resources.getString(R.string.stage_line, StageText.name(context, stage), Numbers.milliseconds(nanoseconds)) }
        invalidate()
    }

    override fun onMeasure(widthSpec: Int, heightSpec: Int) =
        setMeasuredDimension(getDefaultSize(suggestedMinimumWidth, widthSpec), resolveSize(thickness + paddingTop + paddingBottom, heightSpec))

    override fun onDraw(canvas: Canvas) {
        val width = (width - paddingLeft - paddingRight).toFloat()
        var start = paddingLeft.toFloat()
        paint.color = context.getColor(R.color.bar_empty)
        box.set(start, paddingTop.toFloat(), start + width, (paddingTop + thickness).toFloat())
        canvas.drawRect(box, paint)
        for ((stage, nanoseconds) in stages) {
            val end = start + (nanoseconds / scale * width).toFloat()
            paint.color = StageText.color(context, stage)
            box.set(start, paddingTop.toFloat(), end, (paddingTop + thickness).toFloat())
            canvas.drawRect(box, paint)
            start = end
        }
    }
}
