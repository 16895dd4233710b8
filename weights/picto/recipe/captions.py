"""Captions: templates with and without words of style, other names, tags, and junk in front.

Style words are true of the picture: from its name's suffix, or measured on its pixels, or its set is one of emoji or of colours.
"""
import random
import re

PLAIN = [
    "{}", "{}", "{}.", "a {}", "a {}.", "the {}", "an icon of {}", "an icon of a {}.", "icon of {}", "{} icon", "a picture of {}", "a picture of a {}.",
    "a drawing of a {}.", "a drawing of {}", "a symbol of {}", "a symbol for {}.", "a pictogram of {}", "a pictogram of a {}.", "a photo of a {}.",
    "a photo of {}", "an image of a {}.", "an image of {}", "a small picture of a {}.", "a simple icon of a {}.", "a {} symbol", "a sign for {}.",
    "a type of icon, a picture of {}.", "an icon showing a {}", "itap of a {}.", "a good icon of a {}.", "one {}", "this is a {}.", "art of the {}.",
]
STYLED = [
    "{s} of {}", "{s} of {}.", "{s} of a {}", "{s} of a {}.", "{}, {s}", "{} as {s}", "{s} showing a {}.", "{s}: {}", "a {} drawn as {s}.", "{s} for {}",
]
TAGGED = ["{}, {t}", "an icon of {}, {t}", "{} ({t})", "{t}: {}", "a {}, a kind of {t}.", "an icon of {t}: {}."]
WORDS = {
    "outline": ["a line icon", "an outline icon", "a line drawing", "an outline", "an icon in outline"],
    "line": ["a line icon", "an outline icon", "a line drawing", "an icon in lines"],
    "thin": ["a thin line icon", "a thin outline icon", "a fine line drawing"],
    "bold": ["a bold icon", "a bold line icon", "a thick line icon"],
    "filled": ["a filled icon", "a filled glyph", "a solid icon", "a solid glyph", "a silhouette", "a black glyph"],
    "duotone": ["a duotone icon", "a two-tone icon", "a duotone glyph"],
    "broken": ["a broken line icon", "a line icon with gaps"],
    "flat": ["a flat icon", "a flat colour icon"],
    "negative": ["a negative icon", "an inverted icon"],
    "glyph": ["a glyph", "a monochrome icon", "a black and white icon"],
    "colour": ["a colour icon", "a coloured icon", "a colourful icon"],
    "emoji": ["an emoji", "a colour emoji", "an emoji picture"],
    "mono emoji": ["a monochrome emoji", "a black and white emoji", "an emoji glyph"],
}
SETS = {
    "fluent-emoji": ["a 3D emoji", "a 3D icon", "a shaded emoji", "a glossy emoji"],
    "fluent-emoji-flat": ["a flat colour emoji", "a flat emoji"], "twemoji": ["a flat colour emoji", "a flat emoji"],
    "noto": ["a shaded colour emoji", "a colour emoji"], "noto-v1": ["a flat colour emoji"], "emojione": ["a flat colour emoji"],
    "emojione-v1": ["a flat colour emoji", "a flat emoji"], "fxemoji": ["a flat colour emoji", "a flat emoji"],
    "streamline-emojis": ["an outlined colour emoji", "an emoji with a dark outline"],
    "flat-color-icons": ["a flat colour icon", "a flat icon"], "streamline-color": ["a colour line icon", "a line icon in blue"],
    "fluent-color": ["a shaded colour icon", "a gradient icon"], "streamline-plump-color": ["a plump colour icon"],
}
JUNK = "x x x x x x x x a the of and on in photo picture icon type style small large red blue old new one two very".split()


def style_words(entry: dict, emoji: bool) -> list[str]:
    """Phrases of style that are true of this icon."""
    out: list[str] = []
    coloured = entry["kind"] == 1
    if entry["set"] in SETS:
        out += SETS[entry["set"]]
    if emoji:
        return out + WORDS["emoji" if coloured else "mono emoji"]
    for s in entry["style"]:
        out += WORDS.get(s, [])
    if coloured:
        return out + WORDS["colour"]
    if not any(s in WORDS for s in entry["style"]):
        out += WORDS.get(entry.get("looks", ""), [])
    return out + WORDS["glyph"]


def caption(name: str, styles: list[str], tags: list[str], rng: random.Random) -> str:
    """One caption by a random template."""
    r = rng.random()
    if r < 0.12 and tags:
        return rng.choice(TAGGED).format(name, t=rng.choice(tags))
    if r < 0.5 and styles:
        return rng.choice(STYLED).format(name, s=rng.choice(styles))
    return rng.choice(PLAIN).format(name)


def junk(count: int, words: list[str], rng: random.Random) -> str:
    """`count` words that mean nothing for the picture: x's, small words, or any words."""
    kind = rng.random()
    if kind < 0.4:
        return "x " * count
    source = JUNK if kind < 0.7 else words
    return "".join(rng.choice(source) + " " for _ in range(count))


def template_words() -> str:
    """All words of the templates, for the tokenizer."""
    text = " ".join(PLAIN + STYLED + TAGGED + JUNK + [w for ws in (*WORDS.values(), *SETS.values()) for w in ws])
    return re.sub(r"\{\w?\}", " ", text)
