"""Writes strings, ordinary and adversarial, with the ids that CLIP's own tokenizer gives them.

    pip install open_clip_torch==3.3.0 ftfy==6.3.1 regex
    python tests/reference/tokenizer.py tests/fixtures/tokenizer.jsonl.gz
    python tests/reference/tokenizer.py --seed 2 --count 200000 other.jsonl.gz   # more of them

A line holds a string and its ids by `open_clip.tokenizer.SimpleTokenizer.encode`, without markers and uncut. OpenAI's class
differs in how the two markers are spelled within a text; where that changes the ids, they follow as a third item.

Characters younger than Python's own tables (Unicode 14 in Python 3.11) are left out: whether they count as letters, and how
they are ordered among marks, depends on the versions of Python and of the libraries that the original runs on.
"""

import argparse
import gzip
import html
import io
import json
import random
import sys
import unicodedata

import regex
from open_clip.tokenizer import SimpleTokenizer

WORDS = """a photo of the an image picture drawing sketch cat dog zebra airplane submarine chair table person two three 1984
3.14 100% red blue big small small-scale it's don't we've I'll he'd they're I'm DON'T It'S o'clock café naïve Zürich Straße
coöperate São Paulo œuvre Ångström İstanbul ΣΊΣΥΦΟΣ ὈΔΥΣΣΕΎΣ Привет мир 你好 世界 こんにちは 한국어 नमस्ते שלום مرحبا ไทย ok lol
rock'n'roll U.S.A. e.g. #hashtag @user http://x.y/z?q=1&r=2 C++ f(x)=x² ½ ⅓ Ⅷ ① ﬁne ﬂow Ｆｕｌｌ ＷＩＤＴＨ ｶﾀｶﾅ""".split()
EMOJI = ["😀", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪", "❤️", "☃", "✈️", "🧑🏿‍🚀", "1️⃣", "🫠"]
ENTITIES = ["&amp;", "&amp", "&lt;", "&gt;", "&quot;", "&#39;", "&#x27;", "&nbsp;", "&eacute;", "&EACUTE;", "&Eacute;", "&amp;amp;",
            "&amp;lt;b&amp;gt;", "&notanentity;", "&#0;", "&#128;", "&#x80;", "&#1114112;", "&#xD800;", "&#99999999999999;", "&hellip;",
            "&NotEqualTilde;", "&copy", "&copyright", "&;", "&#;", "&#x;", "&AMP;", "&LT", "&ngE;", "&fjlig;", "&HELLIP;", "&ouml", "&para",
            "&thetasym;", "&#10;", "&#13;", "&#x1F600;", "& amp;", "&amp;#39;", "&notit;", "&notin;"]
QUIRKS = ["“quoted”", "‘single’", "it’s", "don´t", "…", "–", "—", "\u00ad", "\u200b", "\u200d", "\ufeff", "\u2028", "\u2029", "\x85", "\x1c", "\x1f",
          "\x00", "\x07", "\x7f", "\x1b[31mred\x1b[0m", "\x1b[2J", "\x1b]", "\u202e", "\u2066", "\ufff9", "\ufffd", "\ufffe", "\U000e0041",
          "\u0345", "\u0130", "\u017f", "\u212a", "\u1e9e", "\u03c2", "\u01c5", "\ufb01", "\ufb06", "e\u0301", "o\u0308", "a\u030a", "\u1100\u1161\u11a8",
          "\u0149", "\u0958", "\u2126", "\u3000", "\u00a0", "\u2003", "\u1680", "\u180e", "\u205f", "\u202f", "\r\n", "\r", "\n", "\t", "\v", "\f",
          "<", ">", "<b>", "</b>", "<start_of_text>", "<end_of_text>", "<|startoftext|>", "<|endoftext|>", "<START_OF_TEXT>", "<|EndOfText|>",
          "'s", "'S", "'RE", "'ll", "'Ve", "'\u017f", "\u2019s", "''", "---", "!!!", "$%^", "\\", "_", "__init__", "Ã©", "â€™", "â€œ", "Â ", "ï»¿", "Ð¿Ñ€Ð¸Ð²ÐµÑ‚",
          "ã\u0081\u0093", "\u00e2\u0080\u0099", "Ã\xa0 la", "schÃ¶n", "ÃƒÂ©", "l’humanitÃ©", "voilÃ le", "\u0080", "\u0092", "\u0099", "\U0001f3fb", "\U0010ffff",
          "\ud7a3", "𝒜𝓃", "𐐀", "Ⓐ", "ⅷ", "٣", "५", "〇", "㊀", "¹", "Ⅻ", "\u16ee"]
CODECS = ["cp1252", "latin-1", "cp1251", "cp1250", "cp1253", "cp1254", "cp1257", "mac_roman", "cp437", "iso8859-2"]


def character(rng):
    """Any character: planes are drawn first, so that rare ones come up."""
    low, high = rng.choice([(0, 0x7F), (0x20, 0x7E), (0x80, 0x24F), (0x250, 0x58F), (0x590, 0x10FF), (0x1100, 0x1FFF), (0x2000, 0x2BFF),
                            (0x2C00, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x1FFFF), (0x20000, 0x10FFFF)])
    return chr(rng.randint(low, high))


def garbled(rng, text):
    """Text read in another encoding than it was written in, once or twice."""
    for _ in range(rng.choice([1, 1, 1, 2])):
        codec = rng.choice(CODECS)
        raw = text.encode("utf-8")
        if rng.random() < 0.2 and len(raw) > 3:
            at = rng.randrange(len(raw))
            raw = raw[:at] + raw[at + 1 :]
        # Bytes that the encoding lacks stay as the control characters that sloppy decoders give.
        out = []
        for byte in raw:
            try:
                out.append(bytes([byte]).decode(codec))
            except UnicodeDecodeError:
                out.append(chr(byte))
        text = "".join(out)
    return text


def too_young(c):
    return unicodedata.category(c) == "Cn" and not regex.match(r"\p{Cn}", c)


def piece(rng):
    kind = rng.randrange(12)
    if kind < 4:
        return rng.choice(WORDS)
    if kind == 4:
        return rng.choice(EMOJI)
    if kind == 5:
        return rng.choice(ENTITIES)
    if kind == 6:
        return rng.choice(QUIRKS)
    if kind == 7:
        return "".join(character(rng) for _ in range(rng.randint(1, 6)))
    if kind == 8:
        return garbled(rng, rng.choice(WORDS + EMOJI + QUIRKS))
    if kind == 9:
        return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(1, 14)))
    if kind == 10:
        return rng.choice(WORDS).swapcase() if rng.random() < 0.5 else rng.choice(WORDS).upper()
    return html.escape(rng.choice(WORDS + QUIRKS))


def string(rng):
    kind = rng.randrange(20)
    if kind < 5:
        return "a photo of a " + " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 4))) + rng.choice([".", "", "!"])
    if kind < 7:
        return "".join(character(rng) for _ in range(rng.randint(0, 12)))
    if kind == 7:
        return garbled(rng, " ".join(piece(rng) for _ in range(rng.randint(1, 4))))
    if kind == 8:
        return rng.choice(["", " ", "\n", "\t \u3000"]) + piece(rng) * rng.randint(1, 3)
    join = rng.choice([" ", " ", "", "  ", "\u00a0", "\n"])
    return join.join(piece(rng) for _ in range(rng.randint(1, 7)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=10000)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    open_clip = SimpleTokenizer()
    # OpenAI's class is the same but for these spellings.
    openai = SimpleTokenizer(additional_special_tokens=None)
    names = ["<|startoftext|>", "<|endoftext|>"]
    for marker, name in zip(["<start_of_text>", "<end_of_text>"], names):
        openai.encoder[name] = openai.encoder.pop(marker)
        openai.cache[name] = name
        openai.cache.pop(marker, None)
    openai.pat = regex.compile(
        r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+""", regex.IGNORECASE)
    strings = list(dict.fromkeys([*QUIRKS, *ENTITIES, *EMOJI, *WORDS, "", " "]))
    seen = set(strings)
    while len(strings) < args.count:
        text = string(rng)
        # What cannot be encoded is no text. Young characters may also come out of entities and garbled text.
        if text not in seen and not any("\ud800" <= c <= "\udfff" for c in text) and not any(
            too_young(c) for c in text + open_clip.clean_fn(text)
        ):
            seen.add(text)
            strings.append(text)
    out = io.StringIO()
    for text in strings[: args.count]:
        row = [text, open_clip.encode(text)]
        other = openai.encode(text)
        if other != row[1]:
            row.append(other)
        out.write(json.dumps(row, separators=(",", ":")) + "\n")
    with open(args.out, "wb") as file, gzip.GzipFile(fileobj=file, mode="wb", mtime=0, filename="") as packed:
        packed.write(out.getvalue().encode())
    print(f"{args.count} strings", file=sys.stderr)


if __name__ == "__main__":
    main()
