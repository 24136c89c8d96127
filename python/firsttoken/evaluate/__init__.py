"""How good a model is: perplexity, maths, multiple choice and code, on checkpoints and on exported bundles alike.

`evaluate.evaluate` asks several models the same questions; `subject` opens a checkpoint or a bundle behind one
interface, `text`, `maths`, `choice` and `code` are the tasks, and `sandbox` runs programs that a model wrote.
"""

from firsttoken.callable_package import make_callable

make_callable(__name__)
