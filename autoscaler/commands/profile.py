"""How fast is one of our own replicas?

`autoscaler profile fit` reads measured times (simulator/measurements.py has the forms), fits a replica profile to them
(simulator/profile_fit.py), writes it as YAML for a policy or the simulator, and tells how far the fit is from the rows.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from autoscaler.refusal import Refusal
from autoscaler.simulator.measurements import read_measurements
from autoscaler.simulator.profile_fit import FittedProfile, fit_profile
from autoscaler.simulator.trace_lines import Skipped

POOR = 0.15  # a mean error above which a fleet should not be sized with the profile


def fit(
    *,
    measurements: Path,
    out: Path,
    name: str | None,
    kv_tokens: int | None,
    kv_bytes_per_token: int | None,
    skip_bad_rows: bool,
    as_json: bool,
) -> None:
    """Fit, write, tell. Raises Refusal for measurements that cannot be used, and for a file that is there already."""
    skipped = Skipped() if skip_bad_rows else None
    found = read_measurements(measurements, skipped)
    fitted = fit_profile(found, name or _name(measurements), kv_tokens, kv_bytes_per_token)
    _write(out, fitted.yaml(found.source))
    if as_json:
        click.echo(json.dumps(_document(fitted, out, skipped), indent=2))
        return
    for role, one in fitted.fits.items():
        told = f"{role}: mean error {one.mean_error:.1%}, max {one.max_error:.1%} over {one.rows} rows"
        poor = one.mean_error > POOR
        click.secho(told + (", too much to size a fleet by" if poor else ""), fg="yellow" if poor else "green")
    if skipped is not None and skipped.told:
        click.secho(skipped.told, fg="yellow")
    click.echo(f"{fitted.spec.name} written to {out}")


def _name(measurements: Path) -> str:
    """A profile's name from its file's: h200.csv.gz -> h200."""
    return measurements.name.partition(".")[0][:63] or "fitted"


def _write(out: Path, text: str) -> None:
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise Refusal(f"--out {out}: is there already; name another file") from None
    except (OSError, ValueError) as error:
        raise Refusal(f"--out {out}: cannot be written: {getattr(error, 'strerror', None) or error}") from None


def _document(fitted: FittedProfile, out: Path, skipped: Skipped | None) -> dict[str, object]:
    errors = {
        role.value: {"rows": one.rows, "meanError": one.mean_error, "maxError": one.max_error}
        for role, one in fitted.fits.items()
    }
    profile = fitted.spec.model_dump(by_alias=True, exclude_defaults=True, mode="json")
    return {"out": str(out), "profile": profile, "errors": errors, "skippedRows": skipped.rows if skipped else 0}
