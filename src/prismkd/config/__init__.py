"""What a run is told: settings with their defaults and ranges, and how they are read. Imports no torch."""

from prismkd.config.methods import METHODS, Method
from prismkd.config.settings import (
    AdaptationConfig,
    Config,
    DistillationConfig,
    EvaluationConfig,
    GeneratorConfig,
    GuidanceConfig,
    LanguageModelConfig,
    PreprocessingConfig,
    PromptsConfig,
    RoundsConfig,
    SynthesisConfig,
)

__all__ = [
    "METHODS",
    "AdaptationConfig",
    "Config",
    "DistillationConfig",
    "EvaluationConfig",
    "GeneratorConfig",
    "GuidanceConfig",
    "LanguageModelConfig",
    "Method",
    "PreprocessingConfig",
    "PromptsConfig",
    "RoundsConfig",
    "SynthesisConfig",
]
