"""The tokenizer: CLIP's own byte-pair rules with fewer merges, learned from the training captions only.

    python tokens.py DIR

Ids are laid out as in CLIP: 256 bytes, the same ending a word, merged tokens in order, the start token, the end token.
"""
import json
import sys
from pathlib import Path

from tokenizers import Tokenizer, models, trainers
from transformers import CLIPTokenizer

from captions import template_words
from store import Store

VOCABULARY = 4096
CONTEXT = 40
START, END = "<|startoftext|>", "<|endoftext|>"


def byte_letters() -> list[str]:
    """The printable letter of each byte, in the order of CLIP's vocabulary."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in plain]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(len(rest))]


def make(texts: list[str]) -> CLIPTokenizer:
    """Learns merges from texts and puts them into CLIP's tokenizer."""
    rules = CLIPTokenizer().backend_tokenizer
    learner = Tokenizer(models.BPE(unk_token=None, end_of_word_suffix="</w>"))
    learner.normalizer, learner.pre_tokenizer = rules.normalizer, rules.pre_tokenizer
    learner.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=VOCABULARY + 1024, end_of_word_suffix="</w>", show_progress=False))
    letters = byte_letters()
    tokens = letters + [c + "</w>" for c in letters]
    merges = []
    for pair in json.loads(learner.to_str())["model"]["merges"]:
        left, right = pair if isinstance(pair, list) else pair.split(" ")
        if len(tokens) == VOCABULARY - 2:
            break
        if left + right not in tokens:
            tokens.append(left + right)
        merges.append((left, right))
    assert len(tokens) == VOCABULARY - 2, f"only {len(tokens)} tokens: too little text"
    vocab = {t: i for i, t in enumerate([*tokens, START, END])}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=CONTEXT)


def main() -> None:
    root = Path(sys.argv[1])
    split, entries = json.loads((root / "split.json").read_text()), Store(root).entries
    texts = []
    for i in split["train"]:
        e = entries[i]
        texts += [e["concept"], *e["aliases"], e["group"].replace("-", " ")]
    for c in sorted({entries[i]["concept"] for i in split["train"]}):
        texts += split["tags"].get(c, [])
    texts += [template_words()] * 50
    tokenizer = make(texts)
    tokenizer.save_pretrained(root / "tokenizer")
    print(len(tokenizer), tokenizer("an icon of a cat, a line icon")["input_ids"])


if __name__ == "__main__":
    main()
