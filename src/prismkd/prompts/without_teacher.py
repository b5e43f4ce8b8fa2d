"""``prismkd.plan``: a plan from a class list alone; no teacher is asked, every sense is taken as it is given."""

from __future__ import annotations

from collections.abc import Sequence

from prismkd.classes import ClassName
from prismkd.classes.lists import as_classes
from prismkd.config import Config, PromptsConfig
from prismkd.config.embedded import EMBEDDED_CLASSES, PICTOGRAMS
from prismkd.config.load import check_config
from prismkd.config.seeds import check_seed
from prismkd.prompts.dpe import contents_of_classes, diversified_plan, plain_plan, with_defaults
from prismkd.prompts.plan import PromptPlan
from prismkd.prompts.senses import unjudged_senses


def plan(
    classes: str | Sequence[str | ClassName],
    *,
    domains: Sequence[str] = (),
    seed: int = 0,
    id_share: float = PromptsConfig.id_share,
    content: bool = PromptsConfig.content,
    template: str | None = None,
) -> PromptPlan:
    """Diversified prompts for a class list: ``plan[i]`` is prompt i, for any i, and nothing is held in memory.

    Prompt i has its class (``label``, ``class_name``), its text, its style and the seed of its image. Classes come in
    turn, so that every prefix is balanced; contents and styles are spread evenly by low-discrepancy sequences. The same
    arguments give the same prompts. That prompts are diversified in sense, content and style is the paper's (He et al.
    2025, PRISM: Diversified Prompt Engineering), how it is done is our design.

    No model is asked: a class means what its definition or synset says, or its bare name. In a run, ``prismkd prompts``
    lets the teacher choose among senses and drop contents that lose the class.

    Args:
        classes: a built-in list (``imagenet-1k``, ``imagenet-100``, ``imagenette``, ``imagewoof``, ``pacs``,
            ``office-home``, ``domainnet``, ``pictograms``), a class list file, or names and ``ClassName`` in the order
            of the teacher's outputs.
        domains: how things are drawn, the teacher's own domain first: ``photo``, ``art``, ``sketch``, ``cartoon``,
            ``clip-art``, ``quickdraw``, ``infographic``, or "name: a phrase with {}". None named: all of these, and for
            ``pictograms`` its kinds of icons.
        seed: of the images' seeds, from 0 to 2^63 - 1.
        id_share: share of the images in the first domain, in [0, 1]; the rest is spread over the others.
        content: vary what is drawn: sub-kinds, attributes, surroundings.
        template: one prompt with ``{name}`` for all, such as "a photo of a {name}", in place of DPE: the plain plan
            that is the baseline.

    Returns:
        The plan. ``plan.hash()`` identifies it, ``plan.to_dict()`` is plain data for JSON.

    Raises:
        UserError: no such list or domain, a broken class list, a share or a seed out of range, or a template without
            ``{name}``.

    Example:
        >>> plan = prismkd.plan("imagenet-1k", domains=["photo", "sketch"])
        >>> prompts = [plan[i] for i in range(1000)]
    """
    check_seed(seed)
    listed = as_classes(classes)
    generator = PICTOGRAMS if classes in EMBEDDED_CLASSES else ""
    given = PromptsConfig(domains=tuple(domains), id_share=id_share, content=content, template=template or "")
    check_config(Config(prompts=given))
    if template is not None:
        return plain_plan(listed, seed, template)
    config = with_defaults(given, generator)
    senses = unjudged_senses(listed, {}, config.max_senses)
    return diversified_plan(listed, senses, contents_of_classes(senses, config), config, seed)
