"""What a run is told: settings with their defaults and ranges, and how they are read. Imports no torch."""

from prismkd.config.settings import (
    DIVERSIFIED_METHODS,
    ENERGIES,
    EXECUTORS,
    GUIDED_METHODS,
    IMAGE_FORMATS,
    METHODS,
    OPTIMIZERS,
    PRECISIONS,
    Config,
    DistillationConfig,
    EvaluationConfig,
    GeneratorConfig,
    GuidanceConfig,
    LanguageModelConfig,
    PromptsConfig,
    SynthesisConfig,
)

__all__ = [
    "DIVERSIFIED_METHODS",
    "ENERGIES",
    "EXECUTORS",
    "GUIDED_METHODS",
    "IMAGE_FORMATS",
    "METHODS",
    "OPTIMIZERS",
    "PRECISIONS",
    "Config",
    "DistillationConfig",
    "EvaluationConfig",
    "GeneratorConfig",
    "GuidanceConfig",
    "LanguageModelConfig",
    "PromptsConfig",
    "SynthesisConfig",
]
