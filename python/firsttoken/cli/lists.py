"""``firsttoken plans`` and ``firsttoken targets``"""

from firsttoken.cli.options import Verbose


def plans(verbose: Verbose = False):
    """List the built-in precision plans."""
    from firsttoken.declarations import declaration_folder
    from firsttoken.quant.plan import load_plan, plan_names
    from firsttoken.report.tables import console, table

    loaded = [load_plan(name) for name in plan_names()]
    rows = [(plan.name, plan.summary, ", ".join(f"{rule.match} {rule.precision}" for rule in plan.rules)) for plan in loaded]
    console().print(table(None, ("plan", "summary", "rules (the first match wins)"), rows, left=3))
    print(f"\nThe files are short; copy one, change it and give its path to --plan: {declaration_folder('quant')}")


def targets(verbose: Verbose = False):
    """List the built-in targets."""
    from firsttoken.declarations import declaration_folder
    from firsttoken.report.tables import console, table
    from firsttoken.targets.target import load_target, target_names

    loaded = [load_target(name) for name in target_names()]
    rows = [
        (
            t.name,
            t.summary,
            f"{t.runtime} {t.min_runtime} or newer",
            ", ".join(t.precisions("linear")),
            str(t.cache_length),
            str(t.prefill_chunk),
        )
        for t in loaded
    ]
    console().print(table(None, ("target", "summary", "runtime", "precisions", "cache", "prefill chunk"), rows, left=4))
    print(f"\nThe files are short; copy one, change it and give its path to --target: {declaration_folder('export')}")
