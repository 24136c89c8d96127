package dev.firsttoken.demo.answer

import android.app.Activity
import android.content.Context
import android.os.Bundle
import android.widget.CheckBox
import android.widget.EditText
import android.widget.RadioButton
import android.widget.RadioGroup
import dev.firsttoken.core.FirstTokenException
import dev.firsttoken.demo.R
import dev.firsttoken.demo.view.Fold

/** The settings of an answer below one button that opens and closes them and says what they are. Fields keep their text by themselves. */
class SettingsPanel(private val activity: Activity, saved: Bundle?) {
    private val preferences = activity.getSharedPreferences("answer", Context.MODE_PRIVATE)
    private val fold = Fold(activity.findViewById(R.id.settings_toggle), activity.findViewById(R.id.settings), ::summary)
    private val sampled: RadioButton = activity.findViewById(R.id.sampled)
    private val drawing = listOf(R.id.temperature, R.id.top_k, R.id.top_p, R.id.min_p, R.id.seed)
    private val ends: CheckBox = activity.findViewById(R.id.stop_at_end)

    init {
        if (saved == null) fill(AnswerSettings.saved(preferences))
        activity.findViewById<RadioGroup>(R.id.sampling).setOnCheckedChangeListener { _, _ -> showWhatCounts() }
        fold.isOpen = saved?.getBoolean(OPEN) == true
        showWhatCounts()
    }

    fun close() {
        fold.isOpen = false
    }

    fun save(state: Bundle) = state.putBoolean(OPEN, fold.isOpen)

    /** Greedy answers use no temperature, filters or seed. To be called again once the fields have their text back. */
    fun showWhatCounts() {
        drawing.forEach { field(it).isEnabled = sampled.isChecked }
        fold.refresh()
    }

    /** What is set. Opens the panel and raises [FirstTokenException] where something in it cannot be used. */
    fun read(): AnswerSettings =
        try {
            typed().also { it.save(preferences) }
        } catch (refusal: FirstTokenException) {
            fold.isOpen = true
            throw refusal
        }

    private fun typed() =
        AnswerSettings.parse(
            TypedSettings(
                sampled.isChecked, text(R.id.temperature), text(R.id.top_k), text(R.id.top_p), text(R.id.min_p), text(R.id.seed), text(R.id.max_tokens),
                text(R.id.threads), ends.isChecked, text(R.id.system), text(R.id.most_thinking), text(R.id.least_thinking),
            ),
        )

    private fun summary(): String {
        val how = if (sampled.isChecked) activity.getString(R.string.settings_sampled, text(R.id.temperature)) else activity.getString(R.string.settings_greedy)
        return activity.getString(R.string.settings_summary, how, text(R.id.max_tokens), text(R.id.threads))
    }

    private fun fill(settings: AnswerSettings) {
        activity.findViewById<RadioButton>(if (settings.isSampled) R.id.sampled else R.id.greedy).isChecked = true
        field(R.id.temperature).setText(settings.temperature.toString())
        field(R.id.top_k).setText(settings.topK.toString())
        field(R.id.top_p).setText(settings.topP.toString())
        field(R.id.min_p).setText(settings.minP.toString())
        field(R.id.system).setText(settings.system.orEmpty())
        field(R.id.seed).setText(settings.seed.toString())
        field(R.id.max_tokens).setText(settings.maxTokens.toString())
        field(R.id.threads).setText(settings.threads.toString())
        field(R.id.most_thinking).setText(settings.mostThinking?.toString().orEmpty())
        field(R.id.least_thinking).setText(settings.leastThinking?.toString().orEmpty())
        ends.isChecked = settings.stopAtEnd
    }

    private fun field(id: Int): EditText = activity.findViewById(id)

    private fun text(id: Int) = field(id).text.toString().trim()

    private companion object {
        const val OPEN = "settings"
    }
}
