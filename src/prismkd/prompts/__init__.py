"""Diversified Prompt Engineering: class names to a plan of prompts."""

from prismkd.prompts.dpe import diversified_plan, plain_plan
from prismkd.prompts.plan import Prompt, PromptPlan

__all__ = ["Prompt", "PromptPlan", "diversified_plan", "plain_plan"]
