"""``firsttoken plans`` and ``firsttoken targets``"""

from firsttoken.cli.options import Verbose
from firsttoken.cli.output import Json, Output


def plans(as_json: Json = False, verbose: Verbose = False) -> None:
    """List the built-in precision plans: which layer is stored and computed in which precision.

    A plan is a short .toml of rules, of which the first that matches a layer counts. README's "Plans" says which one is better when; `firsttoken plan
    search` finds one for a budget.

    \b
    Examples:
      firsttoken plans
      firsttoken export path/to/checkpoint --plan int8-apart -o out
      firsttoken plans --json
    """
    from firsttoken.declarations import declaration_folder
    from firsttoken.quant.module_plan import load_module_plan, module_plan_names
    from firsttoken.quant.plan import load_plan, plan_names
    from firsttoken.report.tables import table

    loaded = [load_plan(name) for name in plan_names()]
    folder = declaration_folder("quant")
    rows = [(plan.name, plan.summary, ", ".join(f"{rule.match} {rule.precision}" for rule in plan.rules)) for plan in loaded]
    out = Output(as_json)
    out.show(
        table(None, ("plan", "summary", "rules (the first match wins)"), rows, left=3),
    )
    of_modules = [load_module_plan(name) for name in module_plan_names()]
    rows = [
        (
            plan.name,
            plan.summary,
            ", ".join(f"{' and '.join(rule.kind) or rule.match} {' or '.join([rule.precision, *rule.otherwise])}" for rule in plan.rules),
        )
        for plan in of_modules
    ]
    out.show(
        table(None, ("plan for modules", "summary", "rules (the first match wins)"), rows, left=3),
        f"\nThe files are short; copy one, change it and give its path to --plan: {folder}",
    )
    out.document({"folder": folder, "plans": loaded, "module_plans": of_modules})


def targets(as_json: Json = False, verbose: Verbose = False) -> None:
    """List the built-in targets: what a bundle is exported for, a runtime with its lengths.

    "precisions" are those that linear layers can have there; "cache" is how many tokens prompt and answer have together, "prefill chunk" how many of a
    prompt go into one call. `export --cache-length` and `--prefill-chunk` change both.

    \b
    Examples:
      firsttoken targets
      firsttoken export path/to/checkpoint -t executorch-xnnpack --cache-length 512 -o out
      firsttoken targets --json
    """
    from firsttoken.backends.registry import backend_of
    from firsttoken.declarations import declaration_folder
    from firsttoken.report.tables import table
    from firsttoken.targets.target import load_target, target_names

    loaded = [load_target(name) for name in target_names()]
    folder = declaration_folder("export")
    rows = [
        (
            t.name,
            t.summary,
            f"{t.runtime} {t.min_runtime} or newer",
            ", ".join(backend_of(t).precisions["linear"]),
            str(t.cache_length),
            str(t.prefill_chunk),
        )
        for t in loaded
    ]
    out = Output(as_json)
    out.show(
        table(None, ("target", "summary", "runtime", "precisions", "cache", "prefill chunk"), rows, left=4),
        f"\nThe files are short; copy one, change it and give its path to --target: {folder}",
    )
    out.document({"folder": folder, "targets": loaded})
