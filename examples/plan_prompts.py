"""Diversified prompts for a class list: any prompt of any number of them, in no memory at all.

Usage: python examples/plan_prompts.py [CLASSES] [DOMAIN ...]
       python examples/plan_prompts.py imagenet-1k photo sketch
       python examples/plan_prompts.py my-classes.txt "x-ray: an x-ray image of {}"
"""

import sys
from collections import Counter

import prismkd


def main(classes: str, domains: list[str]) -> None:
    """Show a few prompts, and how evenly the first thousand of a class are spread."""
    plan = prismkd.plan(classes, domains=domains, seed=0)
    plain = prismkd.plan(classes, template="a photo of a {name}")
    for index in (0, 1, 2, 1000, 10_000_000):
        prompt = plan[index]
        print(f"{index:>10}  {prompt.label:>3}  {prompt.text}   (plain: {plain[index].text})")
    num_classes = len(plan.subjects)
    first = [plan[i * num_classes] for i in range(1000)]  # classes come in turn: these are all of class 0
    print(f"\n{first[0].class_name}: {len({p.text for p in first})} different prompts among 1,000")
    for style, count in Counter(p.style for p in first).most_common(5):
        print(f"{count / 10:>5.1f} %  {style}")
    print(f"\nThis plan is {plan.hash()}, on every machine.")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "imagenet-1k", sys.argv[2:] or ["photo", "sketch"])
