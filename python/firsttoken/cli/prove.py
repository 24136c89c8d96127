"""``firsttoken prove``"""

from firsttoken.cli.options import Audit, BundleFolder, Checkpoint, HeldOut, Threads, Verbose


def prove(
    bundle: BundleFolder,
    checkpoint: Checkpoint,
    held_out: HeldOut = None,
    threads: Threads = None,
    audit: Audit = False,
    verbose: Verbose = False,
):
    """Compare a bundle with its checkpoint.

    Runs the written file in its own runtime, prefill and decode, on held-out text, and looks at every layer.

    \b
    Example:
      firsttoken prove out/tflite-xnnpack --checkpoint path/to/checkpoint --audit
    """
    from firsttoken.errors import GateError
    from firsttoken.prove.prove import prove as run
    from firsttoken.report.progress_bar import progress_bar
    from firsttoken.report.tables import audit_summary, audit_table, console, proof_table

    with progress_bar() as report:
        proof, rows = run(bundle, checkpoint, held_out, threads, report)
    out = console()
    print(f"{bundle}: against the checkpoint in FP32, on {proof.text}")
    out.print(proof_table(proof))
    if audit:
        out.print(audit_table(rows))
    else:
        print("\n".join(f"  {line}" for line in audit_summary(rows)))
    if not proof.passed:
        raise GateError(f"{bundle}: the proof failed: {'; '.join(proof.misses)}")
    print("proven: every bound of the plan is kept and every layer is as asked")
