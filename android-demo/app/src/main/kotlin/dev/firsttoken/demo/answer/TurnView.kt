package dev.firsttoken.demo.answer

import android.view.View
import android.widget.Button
import android.widget.TextView
import dev.firsttoken.core.chat.Turn
import dev.firsttoken.demo.R
import dev.firsttoken.demo.view.StageBarView
import dev.firsttoken.demo.view.StageText
import dev.firsttoken.demo.view.artifactText

/** A turn in its views: the question, folded thoughts, the answer, and a line for the first token that opens to its stages. [unfolded] is called when either opens or closes. */
class TurnView(private val root: View, private val unfolded: () -> Unit = {}) {
    private val question: TextView = root.findViewById(R.id.question)
    private val thoughtToggle: Button = root.findViewById(R.id.thought_toggle)
    private val thought: TextView = root.findViewById(R.id.thought)
    private val firstToken: View = root.findViewById(R.id.first_token)
    private val line: TextView = root.findViewById(R.id.first_token_line)
    private val bar: StageBarView = root.findViewById(R.id.bar)
    private val artifact: TextView = root.findViewById(R.id.artifact)
    private val figures: TextView = root.findViewById(R.id.figures)
    private var turn: Turn? = null

    val answer: TextView = root.findViewById(R.id.answer)

    /** Whether the thoughts and the stages are unfolded. */
    var isThoughtOpen = false
        private set
    var areStagesOpen = false
        private set

    init {
        bar.thickness = root.resources.getDimensionPixelSize(R.dimen.thin_bar)
        thoughtToggle.setOnClickListener { unfold(!isThoughtOpen, areStagesOpen) }
        firstToken.setOnClickListener { unfold(isThoughtOpen, !areStagesOpen) }
    }

    fun unfold(thought: Boolean, stages: Boolean) {
        isThoughtOpen = thought
        areStagesOpen = stages
        turn?.let(::show)
        unfolded()
    }

    fun show(turn: Turn) {
        val isOther = this.turn?.let { it.question != turn.question || it.text.length > turn.text.length } == true
        this.turn = turn
        root.visibility = View.VISIBLE
        question.text = turn.question
        val parts = turn.parts
        if (isOther || answer.text.toString() != parts.answer) answer.text = parts.answer
        showThought(parts.thought, parts.isOver, turn)
        showFirstToken(turn)
    }

    private fun showThought(text: String?, isOver: Boolean, turn: Turn) {
        thoughtToggle.visibility = if (text == null) View.GONE else View.VISIBLE
        thought.visibility = if (text != null && isThoughtOpen) View.VISIBLE else View.GONE
        if (text == null) return
        val words = root.context.getString(if (isOver || turn.stop != null) R.string.thought else R.string.thinking)
        fold(thoughtToggle, isThoughtOpen, words)
        if (thought.text.toString() != text) thought.text = text
    }

    private fun showFirstToken(turn: Turn) {
        val stages = turn.stages
        val ran = artifactText(root.context, turn.artifact)
        artifact.visibility = if (ran == null) View.GONE else View.VISIBLE
        artifact.text = ran
        firstToken.visibility = if (stages == null) View.GONE else View.VISIBLE
        figures.visibility = if (stages != null && areStagesOpen) View.VISIBLE else View.GONE
        if (stages == null) {
            figures.text = ""
            return
        }
        bar.show(StageText.milliseconds(stages.byName))
        fold(line, areStagesOpen, StageText.line(root.context, stages, turn))
        firstToken.contentDescription = line.contentDescription
        figures.text = StageText.figures(root.context, stages, turn)
    }

    /** Says [words] with an arrow for eyes and a word for ears. */
    private fun fold(view: TextView, isOpen: Boolean, words: String) {
        view.text = root.context.getString(if (isOpen) R.string.unfolded else R.string.folded, words)
        view.contentDescription = root.context.getString(if (isOpen) R.string.unfolded_label else R.string.folded_label, words)
    }
}
