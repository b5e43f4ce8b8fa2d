"""Which stage a setting belongs to, and what that means for a run that goes on with another value of it."""

from __future__ import annotations

from typing import Any

# By the beginning of a setting's name. All others belong to the first stage, on whose decisions everything is built:
# classes, teacher, prompts, generator.
STAGE_OF_SETTINGS = {
    "guidance": "synthesize",
    "adaptation": "adapt",
    "rounds": "synthesize",
    "synthesis": "synthesize",
    "distillation": "distill",
    "evaluation": "evaluate",
}
FIRST_STAGE = "prompts"
# With other settings of their own these stages are done again; what lies before them stays. Prompts and images aren't:
# they are what a run costs, and all that follows would have to go with them.
STAGES_DONE_AGAIN = ("distill", "evaluate")
# More of these is added work: what is there stays. Less would leave results that no setting of the run explains.
GROWING_SETTINGS = ("methods", "seeds", "synthesis.images_per_class")
# A run may go on with others of these: they say who draws and how often it is tried, not what is drawn.
SETTINGS_WITHOUT_EFFECT_ON_RESULTS = {
    "num_threads",
    "trust",
    *(f"prompts.language_model.{name}" for name in ("url", "key_variable", "timeout", "max_tries")),
    *(f"synthesis.{name}" for name in ("executor", "num_workers", "ray_address", "max_tries", "timeout")),
    *(
        f"distillation.{name}"
        for name in ("memory_gigabytes", "cache_gigabytes", "keep_cache", "num_workers", "tracker")
    ),
}
MAY_CHANGE = (
    f"{' and '.join(f'{prefix}.*' for prefix, stage in STAGE_OF_SETTINGS.items() if stage in STAGES_DONE_AGAIN)} may "
    f"change, and {', '.join(GROWING_SETTINGS)} may grow"
)


def stage_of(setting: str) -> str:
    """The first stage whose work depends on a setting, such as ``distillation.num_steps``."""
    return STAGE_OF_SETTINGS.get(setting.partition(".")[0], FIRST_STAGE)


def may_change(setting: str, old: Any, new: Any) -> bool:
    """Whether a run that was started with the value ``old`` can go on with ``new`` (plain data, as JSON has it)."""
    if setting in GROWING_SETTINGS:
        return set(old) <= set(new) if isinstance(old, list) else bool(old < new)
    return stage_of(setting) in STAGES_DONE_AGAIN
