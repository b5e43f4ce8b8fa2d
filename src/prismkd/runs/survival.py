"""The survival test of a run's guidance: is its gain more than an adversarial pattern?"""

from __future__ import annotations

from prismkd.config import METHODS
from prismkd.files import write_json
from prismkd.runs.run import Run
from prismkd.synthesis.survival import ADAPTED, VARIANTS, check_guided, gains, survival_test, to_dicts


def survival(run: Run) -> None:
    """Test whether the guidance's gain survives treatments and convinces the judge; writes ``survival.json``."""
    check_guided(run.config.guidance)  # before the calibration, which takes a while
    count = run.config.guidance.num_calibration_images
    plan = run.plan("plain", run.config.seeds[0])
    adapter = run.adapter if any(METHODS[method].adapted for method in run.config.methods) else None
    with run.track("survival test", count * (len(VARIANTS) + (adapter is not None))) as progress:
        # Without a judge that knows the classes the teacher alone looks: features can't be convinced.
        rows = survival_test(run.synthesizer("eda"), plan, count, run.judge_of_classes, progress, adapter)
    write_json(run.directory / "survival.json", {
        "num_images": count, "rows": to_dicts(rows), "guided": gains(rows), "ascending": gains(rows, "ascending"),
        **({ADAPTED: gains(rows, ADAPTED)} if adapter else {}),
    })  # fmt: skip
