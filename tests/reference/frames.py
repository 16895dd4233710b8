"""Trains small tokenizers of the forms that the families after CLIP publish, and writes what their authors' code makes of texts.

    pip install transformers==5.24.0 tokenizers==0.23.3 open_clip_torch==3.3.0 sentencepiece protobuf ftfy
    python tests/reference/frames.py tests/fixtures/tokenizer.jsonl.gz tests/fixtures/tokenizers

The first argument is what tokenizer.py wrote: its strings are those here. For each KIND the folder then holds its files, gzipped
(KIND.tokenizer.json.gz or KIND.spiece.model.gz, without SentencePiece's table of replacements, which is the same in all and so
lies beside them), and KIND.crc: for every string the lower half of the CRC-32 of its whole prompt, as 32-bit numbers, least
byte first, and so is each half. `--kinds KIND --show NUMBER` prints one prompt.
"""

import argparse
import base64
import collections
import gzip
import io
import json
import pathlib
import random
import struct
import sys
import tempfile
import zlib

import sentencepiece as spm
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, Siglip2Tokenizer, SiglipTokenizer, XLMRobertaTokenizer
from transformers.convert_slow_tokenizer import import_protobuf

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import tokenizer as strings_of_clip  # noqa: E402

# Longer than any context, empty but for spaces, and what only some families take for a token.
EXTRA = ["a photo of a cat " * 60, "word" * 200, "   ", "\u3000", "▁", "▁▁ a▁b", "</s>", "a </s> b", " <unk>x", "<pad>", "<eos>a<eos>", "<EOS>", "<bos>", "[SEP]",
         "a [SEP] b [CLS] [MASK] [PAD]", "<s>a</s>", "<mask> x", "a\u0000b", "ﷺ", "№ ™ ① ㎏ ﬁ", "Ǆ", "e\u0301\u0302", "\ufeffa", "\u00ada\u00ad", "A_B_C", "it's a {dog}!", "ΟΔΟΣ ΟΔΟΣ",
         "各地", "\u0600\u0601", "\u200b\u200c\u200d", "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"]


def corpus():
    rng = random.Random(7)
    lines = [strings_of_clip.string(rng) for _ in range(20000)]
    # English that does not change.
    lines += (HERE.parent.parent / "LICENSE-APACHE").read_text().split("\n")
    lines = [line.replace("\n", " ") for line in lines if not any("\ud800" <= c <= "\udfff" for c in line)]
    # Random characters come up once; the trainer wants a piece for nearly all that it sees.
    count = collections.Counter("".join(lines))
    lines = ["".join(c for c in line if count[c] > 12) for line in lines]
    return [line for line in lines if line.strip()]


def sentencepiece(**options):
    out = io.BytesIO()
    spm.SentencePieceTrainer.train(sentence_iterator=iter(corpus()), model_writer=out, character_coverage=0.99, num_threads=1,
                                   minloglevel=2, **options)
    return out.getvalue()


def proto(model):
    return import_protobuf().ModelProto.FromString(model)


def pieces(model):
    return [(piece.piece, piece.score) for piece in proto(model).pieces]


def charsmap(model):
    return normalizers.Precompiled(proto(model).normalizer_spec.precompiled_charsmap)


def special(*tokens):
    return [AddedToken(token, special=True, normalized=False) for token in tokens]


def write(folder, inner, **config):
    folder.mkdir(parents=True, exist_ok=True)
    inner.save(str(folder / "tokenizer.json"), pretty=False)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def t5(model, scheme, unknown, fallback=False):
    """As transformers' converter writes a T5's. It leaves out that unknown characters become bytes, where the model says so."""
    inner = Tokenizer(models.Unigram(pieces(model), unknown, fallback))
    inner.normalizer = normalizers.Sequence([charsmap(model), normalizers.Strip(left=False, right=True),
                                             normalizers.Replace(Regex(" {2,}"), "▁")])
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    inner.decoder = decoders.Metaspace(prepend_scheme=scheme)
    inner.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", inner.token_to_id("</s>"))])
    return inner


def siglip(folder):
    """google/siglip-*: spiece.model, read by SiglipTokenizer."""
    model = sentencepiece(vocab_size=3000, normalization_rule_name="nmt_nfkc", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    folder.mkdir()
    (folder / "spiece.model").write_bytes(model)
    tokenizer = SiglipTokenizer(str(folder / "spiece.model"))
    return lambda text: tokenizer(text, padding="max_length", truncation=True, max_length=64)["input_ids"]


def siglip_open_clip(folder):
    """timm/ViT-B-16-SigLIP: T5's form, the end token as pad."""
    model = sentencepiece(vocab_size=3000, normalization_rule_name="nmt_nfkc", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    inner = t5(model, "first", 2)
    inner.add_special_tokens(special("</s>", "<unk>"))
    write(folder, inner, tokenizer_class="T5Tokenizer", extra_ids=0, eos_token="</s>", pad_token="</s>", unk_token="<unk>", legacy=False,
          additional_special_tokens=[], model_max_length=64)
    tokenizer = HFTokenizer(str(folder), context_length=64, clean="canonicalize")
    return lambda text: tokenizer(text)[0].tolist()


def mt5(folder):
    """google/mt5-base for ViT-L-14-worldwide."""
    model = sentencepiece(vocab_size=3000, normalization_rule_name="nmt_nfkc", pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
                          byte_fallback=True)
    inner = t5(model, "always", 2)
    inner.add_special_tokens(special("<pad>", "</s>", "<unk>"))
    write(folder, inner, tokenizer_class="T5Tokenizer", extra_ids=0, eos_token="</s>", pad_token="<pad>", unk_token="<unk>",
          additional_special_tokens=[])
    tokenizer = HFTokenizer(str(folder), context_length=77, clean="canonicalize")
    return lambda text: ended(tokenizer(text)[0].tolist(), 1)


def ended(ids, end):
    """The ids without padding: up to the last end token, since a text may hold one, too."""
    return ids[: len(ids) - ids[::-1].index(end)]


def unigram_bytes(folder):
    """A unigram model that writes unknown characters as bytes, which the crate itself runs."""
    model = sentencepiece(vocab_size=3000, normalization_rule_name="nmt_nfkc", pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
                          byte_fallback=True)
    inner = t5(model, "always", 2, True)
    inner.add_special_tokens(special("<pad>", "</s>", "<unk>"))
    write(folder, inner)
    inner.enable_truncation(77)
    return lambda text: inner.encode(text).ids


def xlm_pieces(size):
    """A model, and its pieces in the order of fairseq."""
    model = sentencepiece(vocab_size=size, normalization_rule_name="nmt_nfkc", bos_id=-1, eos_id=-1, unk_id=0, pad_id=-1)
    return model, [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *pieces(model)[1:], ("<mask>", 0.0)]


def xlm(folder, clean):
    """facebook/metaclip-2-worldwide-*: XLM-V's form."""
    model, rows = xlm_pieces(4000)
    inner = Tokenizer(models.Unigram(rows, 3, False))
    inner.normalizer = charsmap(model)
    inner.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    inner.decoder = decoders.Metaspace()
    inner.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    inner.add_special_tokens([*special("<s>", "<pad>", "</s>", "<unk>"), AddedToken("<mask>", lstrip=True, special=True, normalized=False)])
    write(folder, inner, tokenizer_class="XLMRobertaTokenizer", model_max_length=77)
    if clean:
        tokenizer = HFTokenizer(str(folder), context_length=77)
        return lambda text: ended(tokenizer(text)[0].tolist(), 2)
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    return lambda text: tokenizer(text, truncation=True, max_length=77)["input_ids"]


def xlm_roberta(folder):
    """xlm-roberta-* for open_clip, the file as transformers itself writes it."""
    model, rows = xlm_pieces(3000)
    table = proto(model).normalizer_spec.precompiled_charsmap
    XLMRobertaTokenizer(vocab=rows, _spm_precompiled_charsmap=table).save_pretrained(str(folder))
    tokenizer = HFTokenizer(str(folder), context_length=77)
    return lambda text: ended(tokenizer(text)[0].tolist(), 2)


def roberta(folder):
    """roberta-base for open_clip: a BPE of bytes."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=3000, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    inner.train_from_iterator(corpus(), trainer)
    inner.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True, normalized=False)])
    inner.decoder = decoders.ByteLevel()
    inner.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), True, False)
    write(folder, inner, tokenizer_class="RobertaTokenizer", model_max_length=512)
    tokenizer = HFTokenizer(str(folder), context_length=77)
    return lambda text: ended(tokenizer(text)[0].tolist(), 2)


def gemma(folder, clean):
    """google/siglip2-*: Gemma's form, a BPE with bytes for unknown characters."""
    inner = Tokenizer(models.BPE(fuse_unk=True, byte_fallback=True, unk_token="<unk>"))
    inner.normalizer = normalizers.Replace(" ", "▁")
    inner.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous", False)
    names = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    added = [*names, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=4000, special_tokens=added, limit_alphabet=300, show_progress=False)
    # Merges do not go over words here, but for runs of spaces, as those of Gemma do.
    inner.train_from_iterator(["▁".join(["", *line.split(" ")]) for line in corpus()], trainer)
    trained = json.loads(inner.to_str())
    # Bytes are pieces of the model and no tokens of their own.
    trained["added_tokens"] = [token for token in trained["added_tokens"] if token["content"] in names]
    inner = Tokenizer.from_str(json.dumps(trained))
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    inner.post_processor = processors.TemplateProcessing("$A <eos>", special_tokens=[("<eos>", 1)])
    kind = "GemmaTokenizer" if clean else "Siglip2Tokenizer"
    write(folder, inner, tokenizer_class=kind, padding_side="right", model_max_length=64, add_bos_token=False, add_eos_token=True)
    if clean:
        tokenizer = HFTokenizer(str(folder), context_length=64, clean="canonicalize")
        return lambda text: tokenizer(text)[0].tolist()
    tokenizer = Siglip2Tokenizer.from_pretrained(str(folder))
    return lambda text: tokenizer(text, padding="max_length", truncation=True, max_length=64)["input_ids"]


def clipa(folder):
    """CLIPA: bert-base-uncased, the separator taken out."""
    inner = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    inner.normalizer = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    inner.train_from_iterator(corpus(), trainers.WordPieceTrainer(vocab_size=4000, special_tokens=names, limit_alphabet=300, show_progress=False))
    inner.decoder = decoders.WordPiece()
    inner.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    write(folder, inner, tokenizer_class="BertTokenizer", do_lower_case=True, model_max_length=512)
    tokenizer = HFTokenizer(str(folder), context_length=32, strip_sep_token=True)
    return lambda text: tokenizer(text)[0].tolist()


def simple(clean):
    tokenizer = SimpleTokenizer(clean=clean)
    return lambda text: ended(tokenizer(text)[0].tolist(), tokenizer.eot_token_id)


def padded():
    tokenizer = SimpleTokenizer()
    return lambda text: tokenizer(text)[0].tolist()


KINDS = {
    "siglip": siglip,
    "siglip-open-clip": siglip_open_clip,
    "siglip2": lambda folder: gemma(folder, False),
    "siglip2-open-clip": lambda folder: gemma(folder, True),
    "metaclip2": lambda folder: xlm(folder, False),
    "metaclip2-open-clip": lambda folder: xlm(folder, True),
    "xlm-roberta": xlm_roberta,
    "roberta": roberta,
    "mt5": mt5,
    "unigram-bytes": unigram_bytes,
    "clipa": clipa,
    "clip-canonicalize": lambda folder: simple("canonicalize"),
    "clip-whitespace": lambda folder: simple("whitespace"),
    "clip-padded": lambda folder: padded(),
}
# Those whose files are another's.
SAME = {"siglip2-open-clip": "siglip2", "metaclip2-open-clip": "metaclip2"}


def without_table(path, out):
    """The file less the table of replacements, which is written beside the others."""
    table = b""
    if path.name == "spiece.model":
        model = proto(path.read_bytes())
        table = model.normalizer_spec.precompiled_charsmap
        model.normalizer_spec.ClearField("precompiled_charsmap")
        data = model.SerializeToString()
    else:
        data = json.loads(path.read_text())
        normalizer = data["normalizer"] or {}
        for rule in [normalizer, *normalizer.get("normalizers", [])]:
            if "precompiled_charsmap" in rule:
                table = base64.b64decode(rule["precompiled_charsmap"])
                rule["precompiled_charsmap"] = "TABLE"
        data = json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()
    beside = out / "nmt_nfkc.gz"
    if table:
        if beside.exists():
            assert gzip.open(beside).read() == table, path
        packed(beside, table)
    return data


def packed(path, data):
    with open(path, "wb") as file, gzip.GzipFile(fileobj=file, mode="wb", mtime=0, filename="") as out:
        out.write(data)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("strings")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--show", type=int)
    args = parser.parse_args()
    texts = [json.loads(line)[0] for line in gzip.open(args.strings, "rt")]
    texts = EXTRA + texts
    args.out.mkdir(exist_ok=True)
    packed(args.out / "extra.json.gz", json.dumps(EXTRA).encode())
    for kind in args.kinds:
        with tempfile.TemporaryDirectory() as scratch:
            folder = pathlib.Path(scratch) / "files"
            ids = KINDS[kind](folder)
            if args.show is not None:
                print(kind, repr(texts[args.show]), ids(texts[args.show]))
                continue
            rows = [ids(text) for text in texts]
            crcs = [zlib.crc32(struct.pack(f"<{len(row)}I", *row)) for row in rows]
            (args.out / f"{kind}.crc").write_bytes(struct.pack(f"<{len(crcs)}H", *(crc & 0xFFFF for crc in crcs)))
            for name in ["tokenizer.json", "spiece.model"]:
                if kind not in SAME and (folder / name).exists():
                    packed(args.out / f"{kind}.{name}.gz", without_table(folder / name, args.out))
            print(kind, len(rows), "strings,", sum(map(len, rows)) // len(rows), "ids each", file=sys.stderr)


if __name__ == "__main__":
    main()
