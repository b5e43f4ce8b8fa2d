"""Diversified Prompt Engineering: class names to a plan of prompts."""

from prismkd.classes.lists import ClassName, load_classes
from prismkd.prompts.dpe import diversified_plan, plain_plan
from prismkd.prompts.plan import Prompt, PromptPlan

__all__ = ["ClassName", "Prompt", "PromptPlan", "diversified_plan", "load_classes", "plain_plan"]
