"""Diversified Prompt Engineering: class names to a plan of prompts."""

from prismkd.prompts.classes import ClassName, load_classes
from prismkd.prompts.plan import Prompt, PromptPlan, make_plan, plain_plan

__all__ = ["ClassName", "Prompt", "PromptPlan", "load_classes", "make_plan", "plain_plan"]
